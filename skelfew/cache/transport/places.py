"""Places that a cache can be sent to and fetched from: folders, http, S3 and ssh, by fsspec.

Only the listed kinds of address are opened, and never a chain of them. What is written to a log
or a file has no user name, password or query string of an address in it.
"""

import errno
import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from skelfew.cache.format.checks import CacheError, brief
from skelfew.io.budget import STALL_BYTES, STALL_SECONDS, with_progress
from skelfew.io.files import Document
from skelfew.io.writing import writing

FileSystem = Any  # one of fsspec, which has no types
KINDS = ("https", "http", "hf", "s3", "gs", "az", "ssh", "sftp", "file")
_OBJECTS = ("s3", "gs", "az")  # stores of objects, each of which appears whole or not at all
_HUB = re.compile(
    r"hf://datasets/(?P<repository>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w.-]+))?(?P<below>(/[\w.-]+)*)/?"
)
_DIGEST = re.compile(r"(?:digest=|sha256:)?([0-9a-f]{64})")
_CONNECT_SECONDS, _READ_SECONDS = 30, 120
# Whose errors are the network's and not bugs here.
_OUTSIDE = ("aiohttp", "botocore", "aiobotocore", "paramiko", "s3fs", "gcsfs", "adlfs", "google",
            "azure", "fsspec", "socket", "ssl", "httpx", "huggingface_hub")  # fmt: skip


def is_url(text: str | Path) -> bool:
    """Return whether ``text`` is an address and not a path."""
    return isinstance(text, str) and "://" in text


@dataclass(frozen=True)
class Place:
    """An address, taken apart."""

    kind: str  # one of ``KINDS``
    base: str  # what the file system calls it, without trailing slash
    query: str  # query string of an http address, to be repeated for every file below it
    shown: str  # the address without secrets
    digest: str | None  # content digest that the address promises (``#digest=HEX``), or None

    @classmethod
    def of(cls, address: str) -> "Place":
        """Take an address or a path apart; raise CacheError if it is of no known kind."""
        if "://" not in address:
            path = str(Path(address).absolute())
            return cls("file", path, "", address, None)
        try:
            parts = urlsplit(address)
            parts.port  # noqa: B018  raises if it is no number
        except ValueError as error:
            raise CacheError(f"{brief(_bare(address))}: is no address ({brief(error)})") from None
        kind = parts.scheme.lower()
        if kind not in KINDS or "::" in address:
            raise CacheError(
                f"{brief(_shown(address))}: addresses of this kind are not opened; use a path or "
                f"one of {', '.join(f'{k}://' for k in KINDS)}"
            )
        digest = None
        if parts.fragment:
            found = _DIGEST.fullmatch(parts.fragment)
            if found is None:
                raise CacheError(
                    f"{brief(_shown(address))}: after # is {brief(parts.fragment)!r}, expected "
                    "digest= and 64 hexadecimal digits"
                )
            digest = found[1]
        tail = parts.path.rstrip("/")
        if kind == "hf":
            repository, revision, below = hub_parts(_shown(address))
            tail = f"datasets/{repository}/resolve/{revision}"
            base = "/".join(part for part in (hub_endpoint(), tail, below) if part)
        elif kind in ("http", "https"):
            base = urlunsplit((kind, parts.netloc, tail, "", ""))
        elif kind in _OBJECTS:
            base = parts.netloc + tail
        elif kind == "file":
            base = tail or "/"
        else:
            base = tail.removeprefix("/~/") if tail.startswith("/~/") else tail or "/"
        if not (parts.netloc or kind == "file"):
            raise CacheError(f"{brief(_shown(address))}: names no host")
        return cls(kind, base, parts.query, _shown(address), digest)

    @property
    def name(self) -> str:
        """The last part, e.g. ``pku.zarr``; of a whole repository ``NAME.zarr``."""
        if self.kind == "hf" and not hub_parts(self.shown)[2]:
            return hub_parts(self.shown)[0].split("/")[1].removesuffix(".zarr") + ".zarr"
        return posixpath.basename(urlsplit(self.base).path if "://" in self.base else self.base)

    @property
    def key(self) -> str:
        """A short name for the address, equal for equal addresses."""
        return hashlib.sha256(self.shown.encode()).hexdigest()[:12]

    def file(self, key: str = "") -> str:
        """Return the file ``key`` below this place, as its file system calls it."""
        whole = f"{self.base}/{key}" if key else self.base
        return f"{whole}?{self.query}" if self.query else whole


def hub_endpoint() -> str:
    """Return the address of the Hub, HF_ENDPOINT's if that is set."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def hub_parts(address: str) -> tuple[str, str, str]:
    """Return repository, revision and what is below it, of ``hf://datasets/USER/NAME...``."""
    found = _HUB.fullmatch(address)
    if found is None:
        raise CacheError(
            f"{brief(address)}: caches are in dataset repositories of the Hub: "
            "hf://datasets/USER/NAME, hf://datasets/USER/NAME@REVISION/FOLDER.zarr"
        )
    return found["repository"], found["revision"] or "main", found["below"].strip("/")


def _bare(address: str) -> str:
    """Return an address that cannot be taken apart without what might be a secret in it."""
    return re.sub(r"[?#].*", "", re.sub(r"//[^/]*@", "//", address), flags=re.DOTALL)


def _shown(address: str) -> str:
    parts = urlsplit(address)
    host = parts.netloc.rsplit("@", 1)[-1]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def connect(address: str) -> tuple[FileSystem, Place]:
    """Return the fsspec file system of an address, and the place in it; CacheError if refused."""
    place = Place.of(address)
    with reached(place):
        if place.kind in ("http", "https"):
            return _http(), place
        if place.kind == "hf":
            from huggingface_hub import get_token

            token = get_token()
            return _http({"Authorization": f"Bearer {token}"} if token else {}), place
        if place.kind in ("gs", "az"):
            import fsspec

            return fsspec.filesystem(
                place.kind, use_listings_cache=False, skip_instance_cache=True
            ), place
        if place.kind == "s3":
            import s3fs

            return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True), place
        if place.kind in ("ssh", "sftp"):
            from skelfew.cache.transport.ssh import open_ssh

            return open_ssh(address), place
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem(), place


def _http(headers: dict[str, str] | None = None) -> FileSystem:
    import aiohttp
    from fsspec.implementations.http import HTTPFileSystem

    limits = aiohttp.ClientTimeout(
        total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS
    )
    return HTTPFileSystem(
        encoded=True,  # signed addresses must not be rewritten
        client_kwargs={"timeout": limits, "trust_env": True, "headers": headers or {}},
        use_listings_cache=False,
        skip_instance_cache=True,
    )


@contextmanager
def reached(place: Place) -> Iterator[None]:
    """Turn what goes wrong on the way to a place into one CacheError that names it."""
    try:
        yield
    except CacheError:
        raise
    except ImportError as error:
        extra = place.kind if place.kind in ("gs", "az") else "remote"
        raise CacheError(
            f"{place.shown}: needs the package {error.name}; pip install 'skelfew[{extra}]'"
        ) from None
    except FileNotFoundError:
        raise CacheError(f"{place.shown}: no cache there") from None
    except PermissionError as error:
        raise CacheError(f"{place.shown}: access refused ({brief(error)}){_keys(place)}") from None
    except (OSError, TimeoutError, EOFError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise CacheError(f"{place.shown}: the disk is full ({brief(error)})") from None
        raise Unreachable(f"{place.shown}: {_reason(error)}") from None
    except Exception as error:
        if type(error).__module__.split(".")[0] not in _OUTSIDE:
            raise
        if type(error).__name__ == "ClientResponseError":
            answer: Any = error
            if "Data after" in str(answer.message):  # what aiohttp calls bytes beyond the length
                raise Unreachable(f"{place.shown}: sends more than it announces") from None
            raise CacheError(f"{place.shown}: the server answers {answer.status}") from None
        if type(error).__name__ == "ClientPayloadError":
            raise Unreachable(
                f"{place.shown}: the connection ended before the whole file had come; run it again"
            ) from None
        raise Unreachable(f"{place.shown}: {_reason(error)}{_keys(place)}") from None


class Unreachable(CacheError):
    """A place that does not answer now; a copy fetched earlier may replace it."""


def _reason(error: BaseException) -> str:
    """Return what an error says, without the addresses in it."""
    text = re.sub(r"\w+://\S+", "(address)", str(error)) or type(error).__name__
    return f"cannot be reached ({brief(text)})"


def _keys(place: Place) -> str:
    if place.kind != "s3":
        return ""
    return (
        "; keys come from the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL), "
        "FSSPEC_S3_ANON=true reads public buckets without"
    )


def read_small(fs: FileSystem, place: Place, key: str, limit: int) -> bytes | None:
    """Return the content of a small file below a place; None if there is none."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="skelfew-") as scratch:
        target = Path(scratch) / "file"
        if not get_file(fs, place, key, target, limit):
            return None
        return target.read_bytes()


def get_file(fs: FileSystem, place: Place, key: str, target: Path, limit: int | None) -> bool:
    """Fetch a file below a place ("" is the place), ``limit`` bytes at most; is there one?"""
    with reached(place):
        try:
            with writing(target) as sink:
                _get(fs, place, key, sink, limit)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return False
    return True


def _get(fs: FileSystem, place: Place, key: str, sink: BinaryIO, limit: int | None) -> None:
    file, got = place.file(key), 0

    def check(more: int) -> None:
        nonlocal got
        got += more
        if limit is not None and got > limit:
            raise CacheError(
                f"{place.shown}: {key or place.name} is larger than the {limit} bytes it can have; "
                "damaged, or made to harm"
            )

    def get(count: Callable[[int], None]) -> None:
        def both(more: int) -> None:
            check(more)
            count(more)

        if fs.async_impl:
            fs.get_file(file, sink.name, callback=counting(both))
            return
        with fs.open(file, "rb") as source:
            while block := source.read(1 << 20):
                both(len(block))
                sink.write(block)

    with_progress(get, stalled(place))


def counting(count: Callable[[int], None]) -> Any:
    """Return an fsspec callback that passes on how many bytes have come or gone since last time."""
    from fsspec.callbacks import Callback

    class Counting(Callback):
        seen = 0

        def relative_update(self, inc: int = 1) -> None:
            count(inc)

        def absolute_update(self, value: int) -> None:
            count(value - self.seen)
            self.seen = value

    return Counting()


def stalled(place: Place) -> CacheError:
    """Return what is raised when a place makes no progress."""
    return Unreachable(
        f"{place.shown}: makes no progress, {STALL_BYTES} bytes in {STALL_SECONDS:.0f} s are the "
        "least; given up, try again later"
    )


def _info(fs: FileSystem, place: Place) -> Document:
    return with_progress(lambda _: fs.info(place.file()), stalled(place))


def size_of(fs: FileSystem, place: Place) -> str | None:
    """Return what tells one version of a single file from another; None if there is none."""
    with reached(place), suppress(FileNotFoundError, IsADirectoryError):
        info = _info(fs, place)
        if info.get("type") == "directory":
            return None
        marks = ("size", "ETag", "LastModified", "Last-Modified", "last-modified", "mtime")
        return " ".join(str(info[mark]) for mark in marks if info.get(mark) is not None)
    return None


def length_of(fs: FileSystem, place: Place) -> int | None:
    """Return how many bytes a single file has, None if that is unknown."""
    with reached(place), suppress(FileNotFoundError, IsADirectoryError):
        size = _info(fs, place).get("size")
        return size if isinstance(size, int) and size > 0 else None
    return None

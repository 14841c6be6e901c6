"""Sending a cache elsewhere: its root metadata last, so that half a cache is no cache."""

import posixpath
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skelfew.cache.format.checks import FORMAT, CacheError
from skelfew.cache.format.storage import ARRAYS, DONE
from skelfew.cache.format.zips import write_zip
from skelfew.cache.tools.card import card
from skelfew.cache.tools.pack import as_folder, checked
from skelfew.cache.transport.places import (
    FileSystem,
    Place,
    connect,
    counting,
    get_file,
    reached,
    read_small,
    size_of,
    stalled,
)
from skelfew.io.budget import STALL_BYTES, open_zip, with_progress
from skelfew.io.files import BROKEN, Document, parse_json, read_limited
from skelfew.io.paths import below

_ROOT_BYTES = 1 << 25
_SLOWEST = 1 << 16  # bytes a second of what is sent in one request
_NOT_OURS = "{}: is not a cache of skelfew and will not be replaced; name another place"


def push(path: Path, address: str, overwrite: bool = False) -> Document:
    """Copy a cache to another folder, an ssh host or an S3 bucket, after checking its digest.

    A trailing slash of ``address`` means "into this folder"; a name that ends in ``.zip`` gets one
    file, any other a folder. Raises CacheError if the cache is damaged or has no finished row, or
    the place cannot be written to or, unless ``overwrite``, holds another cache.
    """
    cache = checked(path)
    if not (cache.status == DONE).any():
        raise CacheError(f"{path}: holds no finished sample yet; there is nothing to send")
    if address.endswith("/"):
        address += path.name
    fs, place = connect(address)
    if place.kind in ("http", "https"):
        raise CacheError(
            f"{place.shown}: http can only be read; push to a folder that the server serves"
        )
    above = Path(place.file()).parent
    if place.kind == "file" and not above.is_dir():
        raise CacheError(f"{above}: no such folder to push to; make it first, or check the address")
    digest = cache.attrs.get("digest")
    about = card(path)
    with tempfile.TemporaryDirectory(prefix="skelfew-") as scratch:
        folder = as_folder(path, Path(scratch))

        def send(count: Callable[[int], None]) -> int:
            watched = _Watched(fs, count)
            if place.kind == "hf":
                return _hub(watched, place, folder, Path(scratch), about, overwrite)
            if place.name.endswith(".zip"):
                return _file(watched, place, folder, Path(scratch), overwrite)
            return _folder(watched, place, folder, digest, overwrite)

        with reached(place):
            # Only ssh counts bytes on their way, elsewhere a file of any size is one request.
            uncounted = 0 if place.kind in ("ssh", "sftp") else cache.bytes
            sent = with_progress(send, stalled(place), uncounted / _SLOWEST)
    return {
        "cache": str(path),
        "to": place.shown,
        "files": sent,
        "bytes": cache.bytes,
        "digest": digest,
        "pending": cache.counts["pending"],
    }


class _Watched:
    """A file system each of whose requests counts as progress when it is through."""

    def __init__(self, fs: FileSystem, count: Callable[[int], None]):
        self._fs, self._count = fs, count

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        if not callable(found):
            return found

        def request(*arguments: Any, **more: Any) -> Any:
            if name == "put_file":
                more["callback"] = counting(self._count)
            result = found(*arguments, **more)
            self._count(STALL_BYTES)
            return result

        return request


def _file(fs: FileSystem, place: Place, folder: Path, scratch: Path, overwrite: bool) -> int:
    if size_of(fs, place) is not None and not overwrite:
        raise CacheError(f"{place.shown}: exists already; choose another name, or --overwrite")
    if size_of(fs, place) is not None and not _is_cache(_root_in_zip(fs, place, scratch)):
        raise CacheError(_NOT_OURS.format(place.shown))
    packed = scratch / "packed.zip"
    write_zip(folder, packed)
    if place.kind in ("s3", "gs", "az"):  # an object appears whole or not at all
        fs.put_file(str(packed), place.file())
        return 1
    partial = place.file() + ".partial"
    fs.makedirs(posixpath.dirname(place.file()) or "/", exist_ok=True)
    fs.put_file(str(packed), partial)
    if fs.exists(place.file()):
        fs.rm_file(place.file())
    fs.mv(partial, place.file())
    return 1


def _folder(fs: FileSystem, place: Place, folder: Path, digest: str | None, overwrite: bool) -> int:
    root = read_small(fs, place, "zarr.json", _ROOT_BYTES)
    if root is not None:
        if _same_or_refuse(place, root, digest, overwrite):
            return 0
        fs.rm_file(place.file("zarr.json"))
    else:
        _refuse_other_things(fs, place)
    files = _files(folder)
    parents: set[str] = set()
    for key, file in files.items():
        parent = posixpath.dirname(place.file(key))
        if place.kind not in ("s3", "gs", "az") and parent not in parents:
            fs.makedirs(parent, exist_ok=True)
            parents.add(parent)
        fs.put_file(str(file), place.file(key))
    _sweep(fs, place, folder, list(files))
    return len(files)


def _files(folder: Path) -> dict[str, Path]:
    """Return the files of a store by key, its root metadata last."""
    keys = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    keys = [k for k in keys if not k.endswith(".partial") and k != "zarr.json"] + ["zarr.json"]
    files = {key: below(folder, key, folder, CacheError) for key in keys}
    for key, file in files.items():
        if file.is_symlink():
            raise CacheError(f"{folder}: {key} is a symbolic link; a cache holds none")
    return files


def _hub(
    fs: FileSystem, place: Place, folder: Path, scratch: Path, about: Document, overwrite: bool
) -> int:
    from skelfew.cache.transport.hub import upload

    if place.name.endswith(".zip"):
        if size_of(fs, place) is not None and not overwrite:
            raise CacheError(f"{place.shown}: exists already; choose another name, or --overwrite")
        write_zip(folder, scratch / "packed.zip")
        return upload(place, {"": scratch / "packed.zip"}, about)
    root = read_small(fs, place, "zarr.json", _ROOT_BYTES)
    if root is not None and _same_or_refuse(place, root, about["digest"], overwrite):
        return 0
    return upload(place, _files(folder), about)


def _same_or_refuse(place: Place, root: bytes, own: str | None, overwrite: bool) -> bool:
    """Return whether the cache is there already; raise CacheError if another one is."""
    there = _attribute(root, "digest")
    if there == own and own is not None:
        return True
    if not overwrite:
        raise CacheError(
            f"{place.shown}: holds another cache, of digest {there}, this one has {own}; "
            "choose another name, or --overwrite"
        )
    if not _is_cache(root):
        raise CacheError(_NOT_OURS.format(place.shown))
    return False


def _refuse_other_things(fs: FileSystem, place: Place) -> None:
    """Refuse a folder that is neither new nor what a push that broke off has left."""
    try:
        names = {posixpath.basename(str(n).rstrip("/")) for n in fs.ls(place.base, detail=False)}
    except FileNotFoundError:
        return
    if foreign := sorted(names - set(ARRAYS) - {""}):
        raise CacheError(
            f"{place.shown}: is a folder of other things, such as {foreign[0]}; end the address "
            "with a slash to put the cache into it"
        )


def _sweep(fs: FileSystem, place: Place, folder: Path, keys: list[str]) -> None:
    """Compare what lies there with what was sent, and remove chunks of an earlier cache."""
    there = {
        posixpath.relpath(str(name), place.base): info["size"]
        for name, info in fs.find(place.base, detail=True).items()
    }
    for key in keys:
        if there.get(key) != below(folder, key).stat().st_size:
            raise CacheError(
                f"{place.shown}: {key} did not arrive whole ({there.get(key)} bytes); push again"
            )
    for key in sorted(set(there) - set(keys)):
        if key.split("/")[0] in ARRAYS:
            fs.rm_file(place.file(key))


def _attribute(root: bytes | None, name: str) -> str | None:
    try:
        found = parse_json(root or b"")["attributes"].get(name)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _is_cache(root: bytes | None) -> bool:
    """Whether root metadata are those of a teacher cache, which may be replaced."""
    return _attribute(root, "format") == FORMAT


def _root_in_zip(fs: FileSystem, place: Place, scratch: Path) -> bytes | None:
    """Return the root metadata in a zip that is there already, None if it is none of a cache."""
    there = scratch / "there.zip"
    try:
        if not get_file(fs, place, "", there, None):
            return None
        with open_zip(there) as archive:
            return read_limited(archive.open("zarr.json"), _ROOT_BYTES)
    except BROKEN:
        return None
    finally:
        there.unlink(missing_ok=True)

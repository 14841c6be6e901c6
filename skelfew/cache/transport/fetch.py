"""Fetching a cache from elsewhere: key by key as its metadata say, checked by its digest."""

import math
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from skelfew.cache.building import building, remove
from skelfew.cache.format.checks import (
    METADATA_BYTES,
    CacheError,
    brief,
    check_arrays,
    check_format,
    stored_bytes,
)
from skelfew.cache.format.chunks import ChunkLimit
from skelfew.cache.format.storage import ARRAYS, Array, chunk_keys, members, open_group
from skelfew.cache.tools.pack import checked
from skelfew.cache.transport.places import (
    FileSystem,
    Place,
    Unreachable,
    connect,
    get_file,
    is_url,
    length_of,
    read_small,
    size_of,
)
from skelfew.cache.writer import lock_beside
from skelfew.io.files import Document, parse_json, read_json
from skelfew.io.paths import below
from skelfew.io.writing import write_json, write_text

_MOST_BYTES = 32 << 30  # of a file whose length the server does not tell
_MOST_STORE_BYTES = 1 << 38
_ID_AND_STATUS = 40  # bytes of a row, besides its features
_THREADS = 8
_WAIT_SECONDS = 6 * 3600
REMOTE = "SKELFEW_REMOTE"  # environment variable: where fetched caches are kept

Log = Callable[[str], None]


def local_path(address: str | Path, log: Log = lambda message: None) -> Path:
    """Return where the cache of a path or an address lies on this machine, fetching it if need be.

    What an address gives is kept in ``cache/.remote/`` (or the folder that the environment variable
    SKELFEW_REMOTE names) and fetched again only when it has changed; ``#digest=HEX`` at its end
    says what the content must be. Raises CacheError if it cannot be fetched or is something else.
    """
    if not is_url(address):
        return Path(address)
    address = str(address)
    place = Place.of(address)
    folder = Path(os.environ.get(REMOTE) or Path("cache") / ".remote") / place.key
    target, note = _named(folder, place), folder / "source.json"
    before = _read_note(note) if target.exists() else {}
    try:
        fs, place = connect(address)
        version = _version(fs, place)
    except Unreachable as error:
        if before and place.digest in (None, before.get("digest")):
            log(f"{error}; using the copy fetched {before.get('fetched')}")
            return target
        raise
    if _fresh(before, version, place):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_beside(folder / "fetch", _WAIT_SECONDS)
    try:
        if target.exists() and _fresh(_read_note(note), version, place):
            return target  # another process has fetched it meanwhile
        log(f"fetching {place.shown}")
        done = _pull(fs, place, version, target, place.digest, overwrite=True)
        document = {
            "url": place.shown,
            "version": version,
            "digest": done["digest"],
            "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(note, document)
    finally:
        lock.release()
    return target


def _named(folder: Path, place: Place) -> Path:
    """Return what a place is called in a folder of ours."""
    return below(folder, place.name or "cache.zarr", place.shown, CacheError, links=True)


def _fresh(note: Document, version: str, place: Place) -> bool:
    """Return whether the copy that a note describes is what the place has now."""
    return note.get("version") == version and place.digest in (None, note.get("digest"))


def pull(
    address: str,
    out: Path | None = None,
    digest: str | None = None,
    overwrite: bool = False,
    log: Log = lambda message: None,
) -> Document:
    """Fetch a cache, folder or zip, to a place of one's own; ``cache/NAME`` if None.

    Its content must have ``digest``, else what it records. Raises CacheError if it cannot be
    fetched or is something else; nothing is left at ``out`` then, and the next call goes on.
    """
    fs, place = connect(address)
    version = _version(fs, place)
    log(f"fetching {place.shown}")
    target = out or _named(Path("cache"), place)
    return _pull(fs, place, version, target, digest or place.digest, overwrite)


def _read_note(note: Path) -> Document:
    try:
        document = read_json(note)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _version(fs: FileSystem, place: Place) -> str:
    """Return the root metadata of a folder, or what tells versions of a single file apart."""
    if not place.name.endswith(".zip"):
        root = read_small(fs, place, "zarr.json", METADATA_BYTES)
        if root is not None:
            return root.decode("utf-8", errors="replace")
    version = size_of(fs, place)
    if version is None:
        raise CacheError(
            f"{place.shown}: no cache there: it is neither a file nor a folder with a zarr.json"
        )
    return version


def _pull(
    fs: FileSystem,
    place: Place,
    version: str,
    target: Path,
    digest: str | None,
    overwrite: bool,
) -> Document:
    with building(target, overwrite, keep=True) as new:
        if version.lstrip().startswith("{"):
            _folder(fs, place, version, new)
        else:
            remove(new)
            if not get_file(fs, place, "", new, length_of(fs, place) or _MOST_BYTES):
                raise CacheError(f"{place.shown}: no cache there")
        try:
            cache = checked(new, digest)
        except CacheError as error:
            remove(new)
            text = str(error).replace(str(new), place.shown)
            raise CacheError(text) from None
    return {
        "cache": str(target),
        "from": place.shown,
        "bytes": stored_bytes(target),
        "digest": cache.attrs.get("digest"),
        "checked": digest is not None or cache.attrs.get("digest") is not None,
    }


def _folder(fs: FileSystem, place: Place, root: str, new: Path) -> None:
    """Fetch the files of a store: those that its checked metadata imply, and no others."""
    if new.exists() and not _same(new / "zarr.json", root):
        remove(new)
    new.mkdir(parents=True, exist_ok=True)
    try:
        attrs = parse_json(root).get("attributes")
    except (ValueError, AttributeError) as error:
        raise CacheError(f"{place.shown}: zarr.json is damaged ({brief(error)})") from None
    check_format(place.shown, attrs if isinstance(attrs, dict) else {})
    write_text(new / "zarr.json", root)
    for name in ARRAYS:
        file = new / name / "zarr.json"
        file.parent.mkdir(exist_ok=True)
        if not file.exists() and not get_file(fs, place, f"{name}/zarr.json", file, METADATA_BYTES):
            file.parent.rmdir()
    arrays = members(new, open_group(new))
    check_arrays(place.shown, arrays, whole=False)
    try:
        left = _Room(place, new, arrays)
    except CacheError:
        remove(new)  # the place may be put right
        raise
    # The IDs come first: a store that claims rows it does not have ends here.
    for name in ("sample_id", "status", "video", "text", "class_text"):
        if name in arrays:
            _chunks(fs, place, name, arrays[name], new, left)


def _same(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8", errors="replace") == text


class _Room:
    """Return how many bytes a store may have: twice what it claims, if the disk has so many."""

    def __init__(self, place: Place, new: Path, arrays: Mapping[str, Array]):
        rows = arrays["text"].shape[0]
        claimed = rows * _ID_AND_STATUS
        for name in ("video", "text", "class_text"):
            if name in arrays:
                claimed += math.prod(arrays[name].shape) * arrays[name].dtype.itemsize
        free = shutil.disk_usage(new).free
        if claimed > min(free, _MOST_STORE_BYTES):
            raise CacheError(
                f"{place.shown}: claims {rows} samples of {claimed} bytes; {_MOST_STORE_BYTES} are "
                f"fetched at most, and {free} are free on the disk"
            )
        self._left, self._place, self._lock = 2 * claimed + (64 << 20), place, threading.Lock()

    def take(self, size: int) -> None:
        """Count bytes that came; raise CacheError if they are more than the store claims."""
        with self._lock:
            self._left -= size
            if self._left < 0:
                raise CacheError(
                    f"{self._place.shown}: sends far more than the samples that it claims; made "
                    "to harm"
                )


def _chunks(fs: FileSystem, place: Place, name: str, array: Array, new: Path, room: _Room) -> None:
    limit = ChunkLimit.of(name, array).stored

    def fetch(key: str) -> None:
        target = below(new, f"{name}/{key}", place.shown, CacheError)
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        there = get_file(fs, place, f"{name}/{key}", target, limit)
        if there:
            room.take(target.stat().st_size)
        elif name == "sample_id":
            raise CacheError(f"{place.shown}: {name}/{key} is missing; the cache is not whole")

    with ThreadPoolExecutor(_THREADS if fs.async_impl else 1) as pool:
        keys = chunk_keys(array)
        while batch := list(islice(keys, 64)):
            list(pool.map(fetch, batch))

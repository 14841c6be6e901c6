"""A cache as one file and back."""

from pathlib import Path

from skelfew.cache.building import building
from skelfew.cache.format.checks import CacheError
from skelfew.cache.format.stored import StoredCache
from skelfew.cache.format.zips import read_zip, write_zip
from skelfew.io.files import Document


def pack(path: Path, out: Path | None = None, overwrite: bool = False) -> Document:
    """Make a zip of a cache folder; equal for equal content. CacheError if damaged, or a link."""
    if path.is_file():
        raise CacheError(f"{path}: is one file already")
    cache = checked(path)
    target = out or path.with_name(path.name + ".zip")
    with building(target, overwrite) as place:
        write_zip(path, place)
    size, digest = target.stat().st_size, cache.attrs.get("digest")
    return {"cache": str(target), "bytes": size, "digest": digest}


def unpack(path: Path, out: Path | None = None, overwrite: bool = False) -> Document:
    """Make a folder (the zip's name without ``.zip``) of a zip, after checking entries and digest.

    Raises CacheError if an entry leads out of it, is a link, or does not hold what it says.
    """
    if path.is_dir():
        raise CacheError(f"{path}: is a folder already")
    StoredCache.open(path)
    target = out or _folder_beside(path)
    with building(target, overwrite) as place:
        read_zip(path, place)
        cache = checked(place)
    size, digest = StoredCache.open(target).bytes, cache.attrs.get("digest")
    return {"cache": str(target), "bytes": size, "digest": digest}


def checked(path: Path, digest: str | None = None) -> StoredCache:
    """Open a cache; CacheError if its content has not ``digest``, else the recorded one.

    A cache whose extraction goes on records none and passes.
    """
    cache = StoredCache.open(path)
    expected = digest or cache.attrs.get("digest")
    if expected is not None and (found := cache.digest()) != expected:
        what = "asked for" if digest else "recorded"
        raise CacheError(
            f"{path}: the content has digest {found}, {what} is {expected}; it is damaged or "
            "another one, ask for it again"
        )
    return cache


def _folder_beside(path: Path) -> Path:
    if path.suffix == ".zip" and path.stem:
        return path.with_suffix("")
    return path.with_name(path.name + ".zarr")


def as_folder(path: Path, scratch: Path) -> Path:
    """Return a folder with the content of a cache, unpacked below ``scratch`` if it is a zip."""
    if path.is_dir():
        return path
    target = scratch / "cache.zarr"
    read_zip(path, target)
    return target

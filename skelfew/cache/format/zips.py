"""Caches as one file: zip archives that are checked before an entry is believed."""

import stat
import zipfile
from pathlib import Path

from skelfew.cache.format.checks import METADATA_BYTES, CacheError, brief
from skelfew.io.budget import ReadBudget, open_zip
from skelfew.io.files import BROKEN, shown
from skelfew.io.paths import below, fault

_ENCRYPTED = 0x1
_IGNORED = ("__MACOSX", ".DS_Store")


def entries(path: Path) -> tuple[str, list[zipfile.ZipInfo]]:
    """Check a zip and return the folder in it that holds the store ("" or "NAME/"), and its files.

    Raises CacheError if it is not a zip, has no store in it, or an entry climbs out of the folder,
    is a link, is encrypted, appears twice or claims to be absurdly large.
    """
    try:
        with open_zip(path, CacheError) as archive:
            infos = archive.infolist()
    except CacheError:
        raise
    except BROKEN as error:
        raise CacheError(
            f"{path}: not a Zarr format 3 store ({brief(error)}); a teacher cache is the folder "
            "that skelfew-extract writes, or the zip that skelfew-cache pack makes of it"
        ) from None
    files: list[zipfile.ZipInfo] = []
    seen: set[str] = set()
    total = 0
    for info in infos:
        name = info.filename
        if (why := fault(name.removesuffix("/"))) is not None:
            raise CacheError(f"{path}: entry {shown(name)} {why}; refused")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise CacheError(f"{path}: entry {shown(info.filename)} is a link or a device; refused")
        if name.endswith("zarr.json") and info.file_size > METADATA_BYTES:
            raise CacheError(f"{path}: {shown(name)} has {info.file_size} bytes; made to harm")
        if info.flag_bits & _ENCRYPTED:
            raise CacheError(
                f"{path}: entry {shown(info.filename)} is encrypted; unpack it elsewhere"
            )
        if info.filename in seen:
            raise CacheError(f"{path}: entry {shown(info.filename)} is in the archive twice")
        seen.add(info.filename)
        total += info.file_size
        if not info.is_dir() and not set(name.split("/")) & set(_IGNORED):
            files.append(info)
    ReadBudget(path, path.stat().st_size, CacheError).check(total, "what it unpacks to")
    return _folder(path, files), files


def _folder(path: Path, files: list[zipfile.ZipInfo]) -> str:
    names = {info.filename for info in files}
    if "zarr.json" in names:
        return ""
    tops = {name.split("/", 1)[0] for name in names}
    if len(tops) == 1 and f"{(top := tops.pop())}/zarr.json" in names:
        return f"{top}/"  # a folder that was zipped by hand
    raise CacheError(
        f"{path}: not a Zarr format 3 store (no zarr.json at its top); a teacher cache is the "
        "folder that skelfew-extract writes, or the zip that skelfew-cache pack makes of it"
    )


def write_zip(folder: Path, target: Path) -> None:
    """Write the files of ``folder`` to a zip, stored, sorted, undated; CacheError for a link."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() or p.is_symlink())
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            name = file.relative_to(folder).as_posix()
            if file.is_symlink():
                raise CacheError(f"{folder}: {name} is a symbolic link; a cache holds none")
            if name.endswith(".partial"):
                continue
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as sink:
                while block := source.read(1 << 20):
                    sink.write(block)


def read_zip(source: Path, folder: Path) -> None:
    """Write the files of a checked zip below ``folder``, which must be new."""
    prefix, files = entries(source)
    folder.mkdir(parents=True)
    with open_zip(source) as archive:
        for info in files:
            target = below(folder, info.filename.removeprefix(prefix), source, CacheError)
            left = info.file_size
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as entry, target.open("xb") as sink:
                    while block := entry.read(min(1 << 20, left + 1)):
                        left -= len(block)
                        if left < 0:
                            raise zipfile.BadZipFile("longer than it claims")
                        sink.write(block)
            except BROKEN as error:
                raise CacheError(
                    f"{source}: entry {shown(info.filename)} cannot be unpacked ({brief(error)})"
                ) from None

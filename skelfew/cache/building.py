"""Making a new cache beside its place and moving it there whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skelfew.cache.format.checks import FORMAT, CacheError, brief
from skelfew.cache.format.storage import open_group
from skelfew.cache.writer import lock_beside


@contextmanager
def building(target: Path, overwrite: bool = False, keep: bool = False) -> Iterator[Path]:
    """Yield a path beside ``target``; what the body makes there becomes ``target`` at its end.

    ``keep`` leaves what was made when the body fails, for a later call to go on with. Raises
    CacheError: ``target`` exists (unless ``overwrite``), is being written, or is not a cache.
    """
    place = target.with_name(f".{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"{target}: cannot be written there ({brief(error)})") from None
    lock = lock_beside(target)
    try:
        if target.exists():
            if not overwrite:
                raise CacheError(
                    f"{target}: exists already; name another place, or give --overwrite"
                )
            if not is_cache(target):
                raise CacheError(
                    f"{target}: is not a cache of skelfew and will not be replaced; move it away, "
                    "or name another place"
                )
        if not keep:
            remove(place)
        yield place
        if target.exists():
            old = target.with_name(f".{target.name}.old")
            remove(old)
            target.rename(old)
            place.rename(target)
            remove(old)
        else:
            place.rename(target)
    except OSError as error:
        raise CacheError(f"{target}: cannot be written ({brief(error)})") from None
    finally:
        if not keep:
            remove(place)
        remove(place.with_name(place.name + ".lock"))
        lock.release()


def is_cache(path: Path) -> bool:
    """Whether a folder or a zip is a teacher cache, as far as its root metadata tell."""
    try:
        return open_group(path).attrs.get("format") == FORMAT
    except CacheError:
        return False


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

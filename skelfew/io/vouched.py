"""Files whose digest this user's commands checked, and places that they were given.

A digest is checked in full once, then by size and time. Kept in the user's cache folder
(``XDG_CACHE_HOME``, else ``~/.cache``), a small file each. Where that cannot be written, files are
checked whenever they are opened, as small ones always are, and places are known to this process.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from skelfew.io.files import parse_json
from skelfew.io.paths import below
from skelfew.io.writing import write_json

_SMALL = 1 << 22  # bytes, read and hashed in some milliseconds
_named: set[Path] = set()


def vouched(path: Path, digest: str) -> bool:
    """Whether a file was found to have this digest, and has not been changed since."""
    try:
        return bool(parse_json(_note(path.resolve()).read_bytes()) == _state(path, digest))
    except (OSError, ValueError):
        return False


def vouch(path: Path, digest: str) -> None:
    """Remember that a file has this digest."""
    with contextlib.suppress(OSError):
        if path.stat().st_size < _SMALL:
            return
        note = _note(path.resolve())
        write_json(note, _state(path, digest))


def name_place(path: Path) -> None:
    """Remember that the user has named a place, given as an absolute path."""
    if not named(path):
        _named.add(path)
        with contextlib.suppress(OSError):
            write_json(_note(path, "named"), str(path))


def named(path: Path) -> bool:
    """Whether the user has named a place, in this process or before."""
    return path in _named or _note(path, "named").is_file()


def named_places() -> Path:
    """Return the folder of the notes of named places: it changes with each new one."""
    return _note(Path(), "named").parent


def _note(path: Path, kind: str = "checked") -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    folder = Path(home) if home else Path("~").expanduser() / ".cache"
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return below(folder, f"skelfew/{kind}/{name}.json", links=True)


def _state(path: Path, digest: str) -> dict[str, object]:
    found = path.stat()
    return {
        "path": str(path.resolve()), "bytes": found.st_size, "mtime_ns": found.st_mtime_ns,
        "inode": found.st_ino, "digest": digest,
    }  # fmt: skip

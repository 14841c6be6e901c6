"""Files whose digest was checked: a full check once, then size and time.

Kept in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``), a small file each. Where
that cannot be written, files are checked whenever they are opened, as small ones always are.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from skelfew.io.files import parse_json
from skelfew.io.paths import below
from skelfew.io.writing import write_json

_SMALL = 1 << 22  # bytes, read and hashed in some milliseconds


def vouched(path: Path, digest: str) -> bool:
    """Whether a file was found to have this digest, and has not been changed since."""
    try:
        return bool(parse_json(_note(path).read_bytes()) == _state(path, digest))
    except (OSError, ValueError):
        return False


def vouch(path: Path, digest: str) -> None:
    """Remember that a file has this digest."""
    with contextlib.suppress(OSError):
        if path.stat().st_size < _SMALL:
            return
        note = _note(path)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_json(note, _state(path, digest))


def _note(path: Path) -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    folder = Path(home) if home else Path("~").expanduser() / ".cache"
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return below(folder, f"skelfew/checked/{name}.json", links=True)


def _state(path: Path, digest: str) -> dict[str, object]:
    found = path.stat()
    return {
        "path": str(path.resolve()), "bytes": found.st_size, "mtime_ns": found.st_mtime_ns,
        "inode": found.st_ino, "digest": digest,
    }  # fmt: skip

"""Answers of earlier commands, valid while nothing that they rest on has changed.

Like make: what an answer rests on is known by size and time of its files and of skelfew's own. The
answers lie below the working folder, not in what is sent to others. Loads nothing heavy.
"""

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from skelfew import registry
from skelfew.io.files import read_json_object
from skelfew.io.vouched import named_places
from skelfew.io.writing import write_json

_KEPT = 200  # answers; the oldest go first
_PACKAGE = Path(__file__).resolve().parents[1]


class Known:
    """The place of one answer."""

    def __init__(self, folder: Path, question: Mapping[str, Any]):
        """Find the place of the answer in ``folder`` to all options that it depends on."""
        self._usable = all(package == "skelfew" for *_, package in registry.declared())
        asked = json.dumps([question, str(Path.cwd()), _program()], sort_keys=True, default=str)
        self.path = folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:20]}.json"

    def answer(self) -> Any:
        """Return the answer; None if there is none, or a file has changed since.

        None also where other packages add to skelfew: their files are not known here.
        """
        if not self._usable:
            return None
        try:
            found = read_json_object(self.path)
            valid = all(_stamp(Path(path)) == stamp for path, stamp in found["files"].items())
            return found["answer"] if valid else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def keep(self, answer: Any, files: Iterable[Path | str | None]) -> None:
        """Keep an answer, as JSON can hold it, and which files (also absent ones) it rests on.

        Of a Zarr store its folder. With an address among them nothing is kept.
        """
        named = [str(file) for file in files if file is not None]
        if any("://" in name for name in named):
            return
        places = [named_places(), *(Path(name).absolute() for name in named)]
        write_json(self.path, {"files": {str(p): _stamp(p) for p in places}, "answer": answer})
        kept = sorted(self.path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime_ns)
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)


def _stamp(path: Path) -> list[int] | None:
    """Return size and time of a file, or of the metadata of a Zarr store; None if there is none."""
    inner = path / "zarr.json"
    try:
        found = (inner if inner.is_file() else path).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _program() -> list[Any]:
    """Return what tells this program from another: versions, and the stamps of all its files."""
    own = {
        str(path): _stamp(path)
        for path in sorted(_PACKAGE.rglob("*"))
        if path.suffix in (".py", ".toml", ".json")
    }
    return [own, platform.node(), *map(_version, ("torch", "numpy"))]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"

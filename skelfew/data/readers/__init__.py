"""Readers of raw recordings: one module a format, each with a ``READER``.

To add a data set, write ``skelfew/data/readers/NAME.py`` with a ``READER`` and add its line to
``READERS``. A reader lists its source files and turns one of them into samples; walking over
them in parallel, writing, resuming and reporting are done once, in ``skelfew.data.prepare``.
"""

import importlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from skelfew.data.manifest import Sample
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError

# Import strings, so that listing the data sets loads none of them.
READERS: dict[str, str] = {
    "ntu": "skelfew.data.readers.ntu:READER",
    "nw-ucla": "skelfew.data.readers.ucla:READER",
    "utd-mhad": "skelfew.data.readers.utd:READER",
    # The demo renders videos, so it lives with the video code; without PyAV it makes skeletons only.
    "demo": "skelfew_extract.demoworld:READER",
}


@dataclass(frozen=True)
class Recording:
    """One sample as read: its manifest row (frames and bodies are filled in later) and joints."""

    sample: Sample
    skeleton: Skeleton


@dataclass(frozen=True)
class Dropped:
    """A sample, or a whole source file, that cannot be used, and why."""

    sample_id: str
    source: str
    reason: str


@dataclass(frozen=True)
class RawFolder:
    """A folder or a zip of raw recordings; cheap to pickle, opened anew in every process.

    Attributes:
        path: The folder or the zip file.
    """

    path: Path
    _open: dict[str, zipfile.ZipFile] = field(
        default_factory=dict, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise SkelfewError(f"{self.path}: no such file or folder; name the raw recordings")
        if self.path.is_file() and not zipfile.is_zipfile(self.path):
            raise SkelfewError(f"{self.path}: neither a folder nor a readable zip file")

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_open": {}}

    @property
    def is_zip(self) -> bool:
        return self.path.is_file()

    def _zip(self) -> zipfile.ZipFile:
        if "zip" not in self._open:
            try:
                self._open["zip"] = zipfile.ZipFile(self.path)
            except zipfile.BadZipFile as error:
                raise SkelfewError(f"{self.path}: unreadable zip file ({error})") from None
        return self._open["zip"]

    def names(self, pattern: str) -> list[str]:
        """Return the files whose last path part matches ``pattern``, as sorted posix paths."""
        if self.is_zip:
            found = [n for n in self._zip().namelist() if not n.endswith("/")]
        else:
            found = [
                p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file()
            ]
        return sorted(n for n in found if fnmatch(PurePosixPath(n).name, pattern))

    def read(self, name: str) -> bytes:
        """Return the content of one file; raise SkelfewError if it cannot be read."""
        try:
            if self.is_zip:
                return self._zip().read(name)
            return (self.path / name).read_bytes()
        except (KeyError, OSError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
            raise SkelfewError(f"{self.path}: cannot read {name} ({error})") from None


Options = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Reader:
    """How one raw format is read.

    Attributes:
        name: Data set name as typed on the command line.
        layout: Joint layout, a key of ``skelfew.data.layouts.LAYOUTS``.
        channels: Coordinates per joint: 3 for metres.
        pixels: Whether joint positions in the video come with the skeletons.
        sources: Lists the source names below the raw folder, cheaply and sorted.
        read: Turns one source into samples. A malformed source is a Dropped, not an exception.
        defaults: Options and their default values; ``--option key=value`` overrides them.
        needs_raw: Whether ``--raw`` must be given (the demo makes its own).
    """

    name: str
    layout: str
    sources: Callable[[RawFolder, Options], list[str]]
    read: Callable[[RawFolder, str, Options], list[Recording | Dropped]]
    channels: int = 3
    pixels: bool = False
    defaults: Options = field(default_factory=dict)
    needs_raw: bool = True


def load_reader(name: str) -> Reader:
    """Import and return the reader called ``name``; raise SkelfewError listing what there is."""
    if name not in READERS:
        raise SkelfewError(f"no data set {name!r}; there are {', '.join(sorted(READERS))}")
    module, attribute = READERS[name].split(":")
    reader: Reader = getattr(importlib.import_module(module), attribute)
    return reader

"""Raw recordings as data sets are handed out: a folder, a zip file, or a folder of zip files."""

import os
import zipfile
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO

from skelfew.errors import SkelfewError
from skelfew.io.budget import open_zip
from skelfew.io.files import BROKEN, MOST_UNPACKED, brief, check_file, check_member, read_limited
from skelfew.io.paths import below, fault

_INSIDE = "!/"  # between the name of an archive and the name of its member


@dataclass(frozen=True)
class RawFolder:
    """Raw recordings; cheap to pickle, archives are opened anew in every process."""

    # A folder or a zip file. Zip files that lie directly in the folder count as folders.
    path: Path
    # Where the videos lie, if not in the folder (or beside the zip file)
    videos: Path | None = None
    _open: dict[str, zipfile.ZipFile] = field(
        default_factory=dict, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise SkelfewError(f"{self.path}: no such file or folder; name the raw recordings")
        if self.videos is not None and not self.videos.is_dir():
            raise SkelfewError(f"{self.videos}: no such folder of videos")
        if self.path.is_file() and not zipfile.is_zipfile(self.path):
            raise SkelfewError(
                f"{self.path}: neither a folder nor a readable zip file; name the folder"
            )

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "videos": self.videos, "_open": {}}

    @property
    def video_folder(self) -> Path:
        """The folder that the manifest's ``video`` column is relative to."""
        return self.videos or (self.path.parent if self.path.is_file() else self.path)

    def names(self, *patterns: str) -> list[str]:
        """Return the files whose last part matches a pattern, sorted by that part, then by path.

        If no file of the folder matches, members of its zip files are listed, as
        ``ARCHIVE!/MEMBER``.
        """
        if self.path.is_file():
            return _matching(self._members(""), patterns)
        found = _matching(_files(self.path), patterns)
        if not found:
            archives = sorted(p.name for p in self.path.glob("*.zip") if p.is_file())
            found = _matching([n for archive in archives for n in self._members(archive)], patterns)
        return found

    def read(self, name: str) -> bytes:
        """Return the content of one file; raise SkelfewError if it cannot be read."""
        try:
            if (size := self.size(name)) > MOST_UNPACKED:
                raise ValueError(f"it would unpack to {size} bytes, {MOST_UNPACKED} are read")
            with self.open(name) as file:
                return read_limited(file, MOST_UNPACKED)
        except BROKEN as error:
            raise SkelfewError(f"cannot read {brief(name)} ({brief(error)})") from None

    def open(self, name: str) -> IO[bytes]:
        """Open one file for reading; raise one of ``skelfew.io.files.BROKEN`` if it is damaged."""
        archive, member = self._split(name)
        if archive is None:
            path = below(self.path, member, links=True)
            check_file(path, most=None)
            return path.open("rb")
        opened = self._zip(archive)
        check_member(opened.getinfo(member))
        return opened.open(member)

    def size(self, name: str) -> int:
        """Return the size of a source in bytes, -1 if it is not a file."""
        try:
            archive, member = self._split(name)
            if archive is None:
                return below(self.path, member, links=True).stat().st_size
            return self._zip(archive).getinfo(member).file_size
        except (KeyError, OSError):
            return -1

    def find_video(self, *candidates: str) -> str:
        """Return the first candidate that exists below the video folder, "" if there is none."""
        named = (c for c in candidates if fault(c) is None)
        return next((c for c in named if below(self.video_folder, c, links=True).is_file()), "")

    def _split(self, name: str) -> tuple[str | None, str]:
        if self.path.is_file():
            return "", name
        archive, inside, member = name.partition(_INSIDE)
        return (archive, member) if inside else (None, name)

    def _zip(self, archive: str) -> zipfile.ZipFile:
        path = self.path / archive if archive else self.path
        if archive not in self._open:
            try:
                self._open[archive] = open_zip(path)
            except BROKEN as error:
                raise SkelfewError(f"{path}: unreadable zip file ({brief(error)})") from None
        return self._open[archive]

    def _members(self, archive: str) -> list[str]:
        before = archive + _INSIDE if archive else ""
        return [before + n for n in self._zip(archive).namelist() if not n.endswith("/")]


def stem(name: str) -> str:
    """Return the last part of a source name without its suffixes: ``a/b.txt.gz`` gives ``b``."""
    return PurePosixPath(name).name.split(".", 1)[0]


def folder(name: str) -> str:
    """Return the folder of a source below the raw folder, with a slash, or ""."""
    parent = PurePosixPath(name.rpartition(_INSIDE)[2]).parent.as_posix()
    return "" if parent == "." else parent + "/"


def _files(root: Path) -> list[str]:
    found = []
    for where, _, names in os.walk(root):
        below = Path(where).relative_to(root).as_posix()
        found += [n if below == "." else f"{below}/{n}" for n in names]
    return found


def _matching(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    """Select and sort; the resource forks that macOS puts beside files are none of them."""
    found = []
    for name in names:
        last = PurePosixPath(name).name
        if not last.startswith("._") and any(fnmatch(last, p) for p in patterns):
            found.append((last, name))
    return [name for _, name in sorted(found)]

"""Manifests: one CSV row per sample, written by skelfew-prepare. Columns: manifests/README.md."""

import csv
import gc
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from json.encoder import encode_basestring
from operator import attrgetter
from pathlib import Path
from typing import Any

from skelfew.errors import SkelfewError
from skelfew.io.budget import check_table
from skelfew.io.clean import uncell
from skelfew.io.files import brief, check_file, shown
from skelfew.io.writing import write_csv


class ManifestError(SkelfewError):
    """A manifest that cannot be used; the message names file, row and value."""


@dataclass(frozen=True)
class Sample:
    """One recording of one action."""

    sample_id: str  # unique name within the dataset, e.g. ``S001C001P001R001A001``.
    class_id: int  # the dataset's own class number, 1-based
    label: str  # class name, the text that the teacher reads, e.g. ``drink water``.
    frames: int
    bodies: int = 1  # number of skeletons (1 or 2 in the datasets of the paper)
    video: str = ""  # path of the video below the dataset's video folder, "" if there is none
    start_frame: int = 0  # first video frame of the action, 0-based
    end_frame: int = 0  # one past the last video frame; 0 if there is no video
    subject: str = ""  # performer, "" if unknown
    view: str = ""  # camera or view, "" if unknown
    replication: str = ""  # which repetition by this performer, "" if unknown
    setup: str = ""  # arrangement of the cameras (NTU RGB+D's S001, ...), "" if unknown


COLUMNS = tuple(f.name for f in fields(Sample))
_DEFAULTS = {f.name: f.default for f in fields(Sample) if f.default is not MISSING}
_REQUIRED = ("sample_id", "class_id", "label", "frames")
_ID_BYTES = 512
_NAME_BYTES = 200  # of a file name, so that a suffix fits
_LOOKED_AT = 1 << 16
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")
_INTEGERS = ("class_id", "frames", "bodies", "start_frame", "end_frame")


@dataclass(frozen=True)
class Manifest:
    """The samples of a dataset, in the order of the file.

    Attributes:
        name: Dataset name, the stem of the file (``nw-ucla`` for ``manifests/nw-ucla.csv``).
        path: Where it was read from, if it was.
    """

    name: str
    samples: tuple[Sample, ...]
    path: Path | None = None
    _row: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = self.path or self.name
        ids = self.ids
        if (fault := bad_id(ids)) is not None:
            raise ManifestError(f"{where}: sample_id {fault}; give it another name")
        names: dict[int, str] = {}
        self._row.update(zip(ids, range(len(ids)), strict=True))
        called = set(map(attrgetter("class_id", "label"), self.samples))
        if len(self._row) == len(ids) and len(dict(called)) == len(called):
            return  # below is found out which row it is
        self._row.clear()
        for i, sample in enumerate(self.samples):
            if sample.sample_id in self._row:
                raise ManifestError(
                    f"{where}: sample_id {sample.sample_id!r} is in rows "
                    f"{self._row[sample.sample_id] + 2} and {i + 2}; IDs must be unique"
                )
            self._row[sample.sample_id] = i
            if names.setdefault(sample.class_id, sample.label) != sample.label:
                raise ManifestError(
                    f"{where}: row {i + 2}: class {sample.class_id} is called {sample.label!r}, "
                    f"but earlier {names[sample.class_id]!r}; a class has one name"
                )

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, sample_id: str) -> Sample:
        try:
            return self.samples[self._row[sample_id]]
        except KeyError:
            raise ManifestError(
                f"{self.path or self.name}: no sample {sample_id!r} among {len(self)}"
            ) from None

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self._row

    @property
    def ids(self) -> list[str]:
        """Sample IDs in manifest order."""
        return [s.sample_id for s in self.samples]

    @property
    def classes(self) -> dict[int, str]:
        """Class names by class number, ascending."""
        return dict(sorted({s.class_id: s.label for s in self.samples}.items()))

    @property
    def sha256(self) -> str:
        """Hash of the content: every column of every row, independent of CSV formatting."""
        values = zip(*map(attrgetter(*COLUMNS), self.samples), strict=True)
        texts = [
            map(str if name in _INTEGERS else encode_basestring, column)
            for name, column in zip(COLUMNS, values, strict=False)
        ]
        rows = (f"[{', '.join(row)}]\n" for row in zip(*texts, strict=True))  # JSON
        return hashlib.sha256("".join(rows).encode()).hexdigest()

    def subset(self, class_ids: Sequence[int]) -> "Manifest":
        """Return the samples of the given classes, in manifest order."""
        wanted = set(class_ids)
        kept = tuple(s for s in self.samples if s.class_id in wanted)
        return Manifest(self.name, kept, self.path)

    @classmethod
    def read(cls, path: str | Path) -> "Manifest":
        """Read a manifest; raise ManifestError that names file, row and value if it is not one."""
        collects = gc.isenabled()
        gc.disable()  # half of the time of 200,000 rows, and it finds nothing
        try:
            return cls._read(Path(path))
        finally:
            if collects:
                gc.enable()

    @classmethod
    def _read(cls, path: Path) -> "Manifest":
        try:
            check_file(path, most=None)
            check_table(path)
            with path.open(encoding="utf-8-sig", newline="") as file:
                text = file.read()
            header, *rows = filter(None, csv.reader(io.StringIO(text, newline=""), strict=True))
        except FileNotFoundError:
            raise ManifestError(
                f"{path}: no such manifest; create it with skelfew-prepare {path.stem}"
            ) from None
        except (ValueError, OSError, MemoryError, csv.Error) as error:
            raise ManifestError(f"{path}: not a readable CSV file ({brief(error)})") from None
        missing = [c for c in _REQUIRED if c not in header]
        if missing:
            raise ManifestError(
                f"{path}: column {missing[0]!r} is missing; found "
                f"{brief(', '.join(header))}. The columns are described in manifests/README.md"
            )
        if not rows:
            raise ManifestError(f"{path}: no samples; run skelfew-prepare {path.stem} again")
        if set(map(len, rows)) != {len(header)}:
            for line, row in enumerate(rows, 2):
                if len(row) > len(header):
                    raise ManifestError(
                        f"{path}: row {line} has {len(row)} fields, the header has {len(header)}"
                    )
                row += [""] * (len(header) - len(row))
        known = [c for c in COLUMNS if c in header]
        table: dict[str, Sequence[Any]] = dict(
            zip(header[::-1], list(zip(*rows, strict=True))[::-1], strict=True)
        )  # of two columns of one name the first counts
        if "'" in text:
            table = {name: list(map(uncell, column)) for name, column in table.items()}
        columns = _columns(path, {name: table[name] for name in known})
        full = [columns.get(c, [_DEFAULTS.get(c)] * len(rows)) for c in COLUMNS]
        samples = []
        for values in zip(*full, strict=True):
            sample = object.__new__(Sample)  # Sample(*values) of a frozen class takes twice as long
            vars(sample).update(zip(COLUMNS, values, strict=True))
            samples.append(sample)
        return cls(path.stem, tuple(samples), path)

    def write(self, path: str | Path) -> None:
        """Write the CSV file, replacing an older one only when complete."""
        write_csv(path, COLUMNS, ([getattr(s, c) for c in COLUMNS] for s in self.samples))


def _columns(path: Path, table: dict[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Return a table's columns, whole numbers made of texts; ManifestError if that fails."""
    for name in ("sample_id", "label"):
        if "" in (column := table[name]):
            line = column.index("")
            whose = f" of {shown(table['sample_id'][line])}" if name == "label" else ""
            raise ManifestError(f"{path}: row {line + 2}: {name}{whose} is empty")
    for name in _INTEGERS:
        numbers: list[int] = []
        try:
            numbers.extend(map(int, table.get(name, ())))
        except ValueError:  # of the value after those that are there
            line, value = len(numbers), table[name][len(numbers)]
            raise ManifestError(
                f"{path}: row {line + 2}: {name} is {value!r}, expected a whole number"
            ) from None
        if name in table:
            table[name] = numbers
    count = len(table["sample_id"])
    segments = ("video", "start_frame", "end_frame")
    found = [table.get(name, [_DEFAULTS[name]] * count) for name in segments]
    for line, (video, start, end) in enumerate(zip(*found, strict=True)):
        if video and not 0 <= start < end:
            raise ManifestError(
                f"{path}: row {line + 2}: segment {start}..{end} of "
                f"{table['sample_id'][line]!r} is empty; start_frame must be below end_frame"
            )
    return table


def bad_id(sample_ids: Sequence[str]) -> str | None:
    """Return what is wrong with the first sample ID that cannot be one, with the ID; else None.

    Read as a path it must not lead out of a folder; 512 bytes at most, no control characters.
    """
    for start in range(0, len(sample_ids), _LOOKED_AT):
        part = sample_ids[start : start + _LOOKED_AT]
        joined = "|".join(part)
        suspicious = not joined.isprintable() or any(s in joined for s in ("/", "\\", ".."))
        if not suspicious and max(map(len, part)) <= _ID_BYTES // 4:
            continue
        for sample_id in part:
            if (fault := _fault(sample_id)) is not None:
                return f"{shown(sample_id)} {fault}"
    return None


def _fault(sample_id: str) -> str | None:
    if _CONTROL.search(sample_id):
        return "has a control character or half a character in it"
    if len(sample_id.encode()) > _ID_BYTES:
        return f"is longer than {_ID_BYTES} bytes"
    parts = sample_id.replace("\\", "/").split("/")
    if ".." in parts or (len(parts) > 1 and (not parts[0] or parts[0][1:] == ":")):
        return "leads out of its folder if it is read as a path"
    return None


def file_name(sample_id: str) -> str:
    """Return a file name for a sample, without suffix; it cannot lead out of a folder."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in sample_id).lstrip(".")
    if len(name.encode()) > _NAME_BYTES:
        name = f"{name[:40]}-{hashlib.sha256(sample_id.encode()).hexdigest()[:16]}"
    return name or "sample"

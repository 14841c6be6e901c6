"""Manifests: one CSV row per sample, written by skelfew-prepare. Columns: manifests/README.md."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from skelfew.io.writing import write_csv
from skelfew.io.clean import uncell
from skelfew.errors import SkelfewError
from skelfew.io.budget import check_table
from skelfew.io.files import brief, check_file, shown


class ManifestError(SkelfewError):
    """A manifest that cannot be used; the message names file, row and value."""


@dataclass(frozen=True)
class Sample:
    """One recording of one action.

    Attributes:
        sample_id: Unique name within the dataset, e.g. ``S001C001P001R001A001``.
        class_id: The dataset's own class number, 1-based.
        label: Class name, the text that the teacher reads, e.g. ``drink water``.
        frames: Number of skeleton frames.
        bodies: Number of skeletons (1 or 2 in the datasets of the paper).
        video: Path of the video below the dataset's video folder, "" if there is none.
        start_frame: First video frame of the action, 0-based.
        end_frame: One past the last video frame; 0 if there is no video.
        subject: Performer, "" if unknown.
        view: Camera or view, "" if unknown.
        replication: Which repetition by this performer, "" if unknown.
        setup: Arrangement of the cameras (NTU RGB+D's S001, ...), "" if unknown.
    """

    sample_id: str
    class_id: int
    label: str
    frames: int
    bodies: int = 1
    video: str = ""
    start_frame: int = 0
    end_frame: int = 0
    subject: str = ""
    view: str = ""
    replication: str = ""
    setup: str = ""


COLUMNS = tuple(f.name for f in fields(Sample))
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
        samples: All rows.
        path: Where it was read from, if it was.
    """

    name: str
    samples: tuple[Sample, ...]
    path: Path | None = None
    _row: dict[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = self.path or self.name
        if (fault := bad_id([s.sample_id for s in self.samples])) is not None:
            raise ManifestError(f"{where}: sample_id {fault}; give it another name")
        names: dict[int, str] = {}
        for i, sample in enumerate(self.samples):
            if sample.sample_id in self._row:
                raise ManifestError(
                    f"{where}: sample_id {sample.sample_id!r} stands in rows "
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
        digest = hashlib.sha256()
        for sample in self.samples:
            values = [getattr(sample, column) for column in COLUMNS]
            digest.update(json.dumps(values, ensure_ascii=False).encode() + b"\n")
        return digest.hexdigest()

    def subset(self, class_ids: Sequence[int]) -> "Manifest":
        """Return the samples of the given classes, in manifest order."""
        wanted = set(class_ids)
        kept = tuple(s for s in self.samples if s.class_id in wanted)
        return Manifest(self.name, kept, self.path)

    @classmethod
    def read(cls, path: str | Path) -> "Manifest":
        """Read a manifest; raise ManifestError that names file, row and value if it is not one."""
        import pandas as pd

        path = Path(path)
        try:
            check_file(path, most=None)
            check_table(path)
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
        except FileNotFoundError:
            raise ManifestError(
                f"{path}: no such manifest; create it with skelfew-prepare {path.stem}"
            ) from None
        # pandas' parser and decoder errors are ValueErrors; a field without end is no memory.
        except (ValueError, OSError, OverflowError, MemoryError) as error:
            raise ManifestError(f"{path}: not a readable CSV file ({brief(error)})") from None
        missing = [c for c in _REQUIRED if c not in table.columns]
        if missing:
            raise ManifestError(
                f"{path}: column {missing[0]!r} is missing; found "
                f"{brief(', '.join(table.columns))}. The columns are described in manifests/README.md"
            )
        known = [c for c in COLUMNS if c in table.columns]
        samples = []
        # Plain arrays: pandas' own of strings are walked through three times as slowly.
        cells = zip(*(table[c].to_numpy(dtype=object) for c in known), strict=True)
        for i, values in enumerate(cells):
            row = dict(zip(known, map(uncell, values), strict=True))
            samples.append(_sample(path, i + 2, row))
        if not samples:
            raise ManifestError(f"{path}: no samples; run skelfew-prepare {path.stem} again")
        return cls(path.stem, tuple(samples), path)

    def write(self, path: str | Path) -> None:
        """Write the CSV file, replacing an older one only when complete."""
        write_csv(path, COLUMNS, ([getattr(s, c) for c in COLUMNS] for s in self.samples))


def _sample(path: Path, line: int, row: dict[str, str]) -> Sample:
    converted: dict[str, str | int] = dict(row)
    if not row["sample_id"]:
        raise ManifestError(f"{path}: row {line}: sample_id is empty")
    if not row["label"]:
        raise ManifestError(f"{path}: row {line}: label of {row['sample_id']!r} is empty")
    for column in _INTEGERS:
        if column in row:
            try:
                converted[column] = int(row[column])
            except ValueError:
                raise ManifestError(
                    f"{path}: row {line}: {column} is {row[column]!r}, expected a whole number"
                ) from None
    sample = Sample(**converted)  # type: ignore[arg-type]
    if sample.video and not 0 <= sample.start_frame < sample.end_frame:
        raise ManifestError(
            f"{path}: row {line}: segment {sample.start_frame}..{sample.end_frame} of "
            f"{sample.sample_id!r} is empty; start_frame must be below end_frame"
        )
    return sample


def bad_id(sample_ids: Sequence[str]) -> str | None:
    """Return what is wrong with the first sample ID that cannot be one, with the ID; else None.

    An ID may have slashes in it, but read as a path it must not lead out of a folder; it is at most
    512 bytes long and has no control characters or line ends.
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

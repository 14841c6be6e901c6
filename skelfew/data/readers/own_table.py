"""The table of one's own recordings: a row a sample. Columns: docs/datasets.md, section own."""

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skelfew.errors import SkelfewError
from skelfew.io.budget import check_table
from skelfew.io.clean import plain
from skelfew.io.files import brief, check_file, duplicates, shown
from skelfew.io.paths import fault

REQUIRED = ("recording", "label")
OPTIONAL = (
    "id", "class_id", "video", "start", "end", "video_start", "subject", "view", "replication",
    "setup",
)  # fmt: skip


@dataclass(frozen=True)
class ListedClip:
    """One sample of a table."""

    line: int
    sample_id: str
    recording: str
    label: str
    class_id: int  # as given, or by the order in which labels appear, from 1
    start: int
    end: int | None  # one past its last frame, None for the recording's end
    video: str
    # Frame of the video that the recording's first frame is; None if unknown
    video_start: int | None
    about: dict[str, str]  # ``subject``, ``view``, ``replication``, ``setup``


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    line: int
    name: str
    reason: str


def read_table(path: Path) -> tuple[list[ListedClip], list[BadRow]]:
    """Read a table; SkelfewError if columns, rows or class numbers are not those of one."""
    try:
        check_file(path)
        check_table(path, SkelfewError)
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            header = [name.strip() for name in next(lines, [])]
            _check_header(path, header)
            cells = [(lines.line_num, values) for values in lines if any(v.strip() for v in values)]
    except OSError as error:
        raise SkelfewError(f"{path}: cannot read the table ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SkelfewError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    if not cells:
        raise SkelfewError(f"{path}: no rows below the header")
    numbers = _Classes(path)
    rows: list[ListedClip] = []
    bad: list[BadRow] = []
    for line, values in cells:
        texts = dict(zip(header, (v.strip() for v in values), strict=False))
        try:
            if len(values) != len(header):
                raise _RowError(f"{len(values)} fields, but the header has {len(header)}")
            rows.append(_row(line, texts, numbers))
        except _RowError as error:
            name = texts.get("id") or texts.get("recording") or f"line {line}"
            bad.append(BadRow(line, name, f"{path.name}, line {line}: {error}"))
    return rows, bad


class _RowError(Exception):
    """A fault of a single row."""


class _Classes:
    """Class numbers: as given, or by the order in which labels appear."""

    def __init__(self, path: Path):
        self.path = path
        self.number: dict[str, int] = {}
        self.label: dict[int, str] = {}
        self.spelled: dict[str, tuple[str, int]] = {}

    def of(self, line: int, label: str, given: str | None) -> int:
        """Return the class number of a label."""
        # "Wave" and "wave " as two classes: a split could put one in base and one in novel.
        earlier, first = self.spelled.setdefault(plain(label), (label, line))
        if earlier != label:
            raise SkelfewError(
                f"{self.path}: line {line}: label {shown(label)}, but line {first} has "
                f"{shown(earlier)}; they differ in case or spaces only: write both alike"
            )
        if given is None:
            return self.number.setdefault(label, len(self.number) + 1)
        class_id = _whole("class_id", given, least=1)
        if self.label.setdefault(class_id, label) != label:
            raise SkelfewError(
                f"{self.path}: line {line}: class {class_id} is called {label!r}, but earlier "
                f"{self.label[class_id]!r}; a class has one name"
            )
        if self.number.setdefault(label, class_id) != class_id:
            raise SkelfewError(
                f"{self.path}: line {line}: {label!r} is class {class_id}, but earlier class "
                f"{self.number[label]}"
            )
        return class_id


def _check_header(path: Path, header: list[str]) -> None:
    known = ", ".join([*REQUIRED, *OPTIONAL])
    for name in REQUIRED:
        if name not in header:
            raise SkelfewError(
                f"{path}: column {name!r} is missing; found "
                f"{brief(', '.join(header)) if header else 'nothing'}. "
                f"The columns are {known}, separated by commas"
            )
    for name in header:
        if name not in REQUIRED + OPTIONAL:
            raise SkelfewError(f"{path}: unknown column {shown(name)}; there are {known}")
    if twice := duplicates(header):
        raise SkelfewError(f"{path}: column {twice[0]!r} is given twice")


def _row(line: int, texts: dict[str, str], numbers: _Classes) -> ListedClip:
    label, recording = texts["label"], texts["recording"]
    if not label:
        raise _RowError("the label is empty")
    if not label.isprintable():
        raise _RowError(f"the label {shown(label)} has a line end or a control character in it")
    class_id = numbers.of(line, label, texts.get("class_id"))
    if not recording:
        raise _RowError("the recording is empty")
    start = _whole("start", texts.get("start") or "0")
    end = _whole("end", texts["end"]) if texts.get("end") else None
    if end is not None and end <= start:
        raise _RowError(f"the segment {start} to {end} is empty; end is one past the last frame")
    segment = "" if not start and end is None else f"_{start}_{'end' if end is None else end}"
    path = PurePosixPath(recording.replace("\\", "/"))
    for name in (recording, texts.get("video", "")):
        if name.startswith("~"):
            raise _RowError(f"{shown(name)}: ~ is not the home folder here; paths are relative")
    if (why := fault(path.as_posix())) is not None:
        raise _RowError(f"the recording {shown(recording)} {why}; it must lie below the folder")
    return ListedClip(
        line=line,
        sample_id=texts.get("id") or "-".join(path.with_suffix("").parts) + segment,
        recording=path.as_posix(),
        label=label,
        class_id=class_id,
        start=start,
        end=end,
        video=texts.get("video", "").replace("\\", "/"),
        video_start=_whole("video_start", texts["video_start"])
        if texts.get("video_start")
        else None,
        about={k: texts.get(k, "") for k in ("subject", "view", "replication", "setup")},
    )


def _whole(name: str, text: str, least: int = 0) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < least:
        raise _RowError(f"{name} is {shown(text)}, expected a whole number from {least}")
    return int(text)

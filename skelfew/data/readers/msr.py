"""MSR Action Pairs: text files of 20 Kinect v1 joints; how they are laid out is found out.

Source: Oreifej & Liu, "HON4D: Histogram of Oriented 4D Normals for Activity Recognition from Depth
Sequences" (2013): 12 actions in 6 pairs, 10 performers, 3 repetitions; 353 of the 360 are valid.

Releases of such recordings differ. Understood are, with or without a line ``frames joints`` at
the top and a line with the number of rows before every frame: a row of 3 or 4 numbers a joint
(x y z and confidence), rows in metres alternating with rows on the screen, and a row of 60 or 80
numbers a frame; metres or millimetres.
"""

import re
from collections.abc import Iterator

import numpy as np

from skelfew.data.facts import class_names
from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.pku import finite_row
from skelfew.data.readers.raw import stem
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.budget import check_lines
from skelfew.io.files import shown

_NAME = re.compile(r"(a(\d+)_s(\d+)_e(\d+))(_.*)?", re.IGNORECASE)
_JOINTS = 20
_FAR = 20.0  # nothing that Kinect v1 sees is further away, in metres


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the skeleton files ``aAA_sSS_eEE*.txt``."""
    found = raw.names("[aA]*_[sS]*_[eE]*.txt")
    numbers = [int(m[2]) for name in found if (m := _NAME.fullmatch(stem(name)))]
    if others := sorted({n for n in numbers if n not in class_names("msr-action-pairs")}):
        raise SkelfewError(
            f"{raw.path}: holds action a{others[0]:02}, and MSR Action Pairs has a01 to a12; these "
            "look like MSR Action3D, whose joints have another order: read them with "
            "skelfew-prepare own and a layout of that order (docs/own-data.md)"
        )
    return found


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read one recording; there is no video."""
    match = _NAME.fullmatch(stem(source))
    if match is None:
        yield Dropped(stem(source), source, "its name is not like a01_s02_e03.txt")
        return
    name = match[1].lower()
    action, subject, replication = (int(part) for part in match.groups()[1:4])
    names = class_names("msr-action-pairs")
    try:
        positions = parse(raw.read(source))
    except SkelfewError as error:
        yield Dropped(name, source, str(error))
        return
    sample = Sample(
        sample_id=name,
        class_id=action,
        label=names[action],
        frames=len(positions),
        subject=str(subject),
        replication=str(replication),
    )
    yield Recording(sample, Skeleton(positions[None]))


def parse(text: bytes) -> np.ndarray:
    """Return joints (T, 20, 3) float32 in metres; raise SkelfewError if the layout is unknown."""
    check_lines(text, 250, 50)
    lines = [(i, line.split()) for i, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise SkelfewError("the file is empty")
    declared = None
    if len(lines[0][1]) == 2:
        declared = [_whole(*lines[0], column) for column in (0, 1)]
        lines = lines[1:]
    if lines and len(lines[0][1]) == 1:
        rows = _counted(lines, declared)
    else:
        rows = _uncounted(lines, declared)
        if declared is not None and len(rows) not in (declared[0], 0):
            raise SkelfewError(f"truncated: {declared[0]} frames are declared, {len(rows)} follow")
    if not rows.any():
        raise SkelfewError("no body in any frame")
    return _metres(rows).astype(np.float32)


def _whole(number: int, tokens: list[bytes], column: int = 0) -> int:
    try:
        return int(tokens[column])
    except ValueError:
        raise SkelfewError(
            f"line {number}: {shown(tokens[column])} is not a whole number"
        ) from None


def _counted(lines: list[tuple[int, list[bytes]]], declared: list[int] | None) -> np.ndarray:
    """Read frames that each begin with their number of rows: 0 (no body), 20 or 40."""
    frames = []
    at = 0
    while at < len(lines):
        number, tokens = lines[at]
        if len(tokens) != 1:
            raise SkelfewError(f"line {number}: {len(tokens)} numbers, expected a number of rows")
        count = _whole(number, tokens)
        if count not in (0, _JOINTS, 2 * _JOINTS):
            raise SkelfewError(f"line {number}: {count} rows in a frame, expected 20 or 40")
        rows = _numbers(lines[at + 1 : at + 1 + count])
        if len(rows) < count:
            raise SkelfewError(f"truncated: {len(rows)} of {count} rows after line {number}")
        frames.append(rows[:, :3] if count else np.zeros((_JOINTS, 3)))
        at += 1 + count
    if declared is not None and len(frames) != declared[0]:
        raise SkelfewError(f"truncated: {declared[0]} frames are declared, {len(frames)} follow")
    if any(len(f) == 2 * _JOINTS for f in frames):
        empty = np.zeros((2 * _JOINTS, 3))
        return _real_rows(np.stack([f if len(f) == 2 * _JOINTS else empty for f in frames]))
    return np.stack(frames)


def _uncounted(lines: list[tuple[int, list[bytes]]], declared: list[int] | None) -> np.ndarray:
    """Read rows that just follow one another."""
    table = _numbers(lines)
    count, width = table.shape
    if width in (3 * _JOINTS, 4 * _JOINTS):
        return table.reshape(count, _JOINTS, -1)[..., :3]
    if width not in (3, 4):
        raise SkelfewError(f"rows of {width} numbers; expected 3 or 4 a joint, or 60 or 80 a frame")
    if count % _JOINTS:
        raise SkelfewError(f"truncated: {count} rows, not a multiple of {_JOINTS}")
    rows = table[:, :3]
    if declared is not None:
        two_each = count == declared[0] * 2 * _JOINTS
    else:
        two_each = count % (2 * _JOINTS) == 0 and _alternates(rows)
    return (
        _real_rows(rows.reshape(-1, 2 * _JOINTS, 3)) if two_each else rows.reshape(-1, _JOINTS, 3)
    )


def _numbers(lines: list[tuple[int, list[bytes]]]) -> np.ndarray:
    """Return rows of equal width as an array."""
    width = len(lines[0][1]) if lines else 4
    return np.array([finite_row(*line, width) for line in lines]).reshape(-1, width)


def _alternates(rows: np.ndarray) -> bool:
    """Tell whether rows (N, 3) are in the world and on the screen in turn.

    Depths on the screen have another unit; or only every other row is ever negative.
    """
    first, second = rows[0::2], rows[1::2]
    depths = [np.abs(half[:, 2]).max() for half in (first, second)]
    if max(depths) > 5 * min(depths):
        return True
    negative = [(half[:, :2] < 0).mean() for half in (first, second)]
    return min(negative) == 0 and max(negative) > 0.1


def _real_rows(pairs: np.ndarray) -> np.ndarray:
    """Return the rows of (T, 40, 3) that are in the world, not on the screen, (T, 20, 3)."""
    first, second = pairs[:, 0::2], pairs[:, 1::2]
    # Positions on a screen are never negative; in the world, half of the room is.
    return second if (second < 0).sum() > (first < 0).sum() else first


def _metres(positions: np.ndarray) -> np.ndarray:
    depth = np.median(positions[..., 2][positions.any(axis=-1)])
    scale = 1.0 if depth <= _FAR else 1e-3
    if not 0.1 < depth * scale <= _FAR:
        raise SkelfewError(
            f"the median depth is {depth:g}, neither metres nor millimetres; is this the file "
            "with positions in the world?"
        )
    return positions * scale


READER = Reader(name="msr", layout="kinect-v1", sources=sources, read=read)

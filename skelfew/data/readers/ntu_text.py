"""The text of NTU RGB+D's ``.skeleton`` files.

Line 1 is the number of frames. A frame is a line with its number of bodies; a body is a line that
begins with its ID, a line with the number of joints (25) and a line of 12 numbers a joint:
x y z in metres, 2 depth pixels, 2 colour pixels (of 1920x1080), 4 of a quaternion, tracking state.

Parsing is bound by the conversion of decimals, which is therefore left to pandas' C tokeniser,
for all joints of a file at once; see benchmarks/prepare.py.
"""

import io
from dataclasses import dataclass

import numpy as np

from skelfew.errors import SkelfewError

JOINTS, _NUMBERS = 25, 12
_USED = [0, 1, 2, 5, 6]  # position in metres and colour pixel


class TextError(SkelfewError):
    """A ``.skeleton`` file that is damaged; the message names the line."""


@dataclass(frozen=True)
class SkeletonText:
    """The content of one file; frames without a body are left out.

    Attributes:
        declared: Number of frames that the file declares; that of its videos.
        frames: Number of frames that show a body.
        frame: Frame, 0-based among those with a body, of each of B observed bodies, (B,) int.
        body: ID of each observed body, (B,) bytes: it exceeds what a float64 can tell apart.
        positions: Joints (B, 25, 3) float32 in metres.
        pixels: Joints (B, 25, 2) float32 in the colour video, NaN where unknown.
    """

    declared: int
    frames: int
    frame: list[int]
    body: list[bytes]
    positions: np.ndarray
    pixels: np.ndarray


def parse(text: bytes) -> SkeletonText:
    """Parse a ``.skeleton`` file; raise TextError if it is damaged."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    lines = text.split(b"\n")
    declared = _whole(lines, 0, "the number of frames")
    rows: list[int] = []  # line of the first joint of each observed body
    frame: list[int] = []
    body: list[bytes] = []
    frames, at = 0, 1
    for _ in range(declared):
        bodies = _whole(lines, at, "a number of bodies")
        at += 1
        for _ in range(bodies):
            joints = _whole(lines, at + 1, "a number of joints")
            if joints != JOINTS:
                raise TextError(f"line {at + 2}: {joints} joints, expected {JOINTS}")
            body.append(lines[at].split(b" ", 1)[0])
            frame.append(frames)
            rows.append(at + 2)
            at += 2 + JOINTS
        frames += bodies > 0
    if at > len(lines) or (rows and not lines[at - 1]):
        raise TextError(f"truncated: the file ends at line {_last(lines)}, inside frame {frames}")
    values = _numbers(lines, rows).reshape(-1, JOINTS, len(_USED)).astype(np.float32)
    pixels = values[..., 3:]
    pixels[~np.isfinite(pixels)] = np.nan
    return SkeletonText(declared, frames, frame, body, values[..., :3], pixels)


def _whole(lines: list[bytes], at: int, what: str) -> int:
    try:
        number = int(lines[at])
    except (IndexError, ValueError):
        if at >= _last(lines):
            last = _last(lines)
            raise TextError(f"truncated: {what} should follow line {last}, the last") from None
        raise TextError(f"line {at + 1}: {lines[at][:40]!r} is not {what}") from None
    if number < 0:
        raise TextError(f"line {at + 1}: {number} is not {what}")
    return number


def _last(lines: list[bytes]) -> int:
    """Return the number of the last line that is not empty, from 1."""
    return max((i + 1 for i, line in enumerate(lines) if line.strip()), default=0)


def _numbers(lines: list[bytes], rows: list[int]) -> np.ndarray:
    """Return the used columns of all joint lines, (B * 25, 5) float64."""
    import pandas as pd

    text = b"\n".join([b"\n".join(lines[row : row + JOINTS]) for row in rows])
    count = len(rows) * JOINTS
    spaces = np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == ord(" "))
    if count and spaces == (_NUMBERS - 1) * count:
        try:
            table = pd.read_csv(
                io.BytesIO(text),
                sep=" ",
                header=None,
                names=range(_NUMBERS),
                usecols=_USED,
                dtype=np.float64,
                na_filter=False,
                quoting=3,
                engine="c",
                low_memory=False,
            ).to_numpy()
        except ValueError:  # some token is no number: find out which
            table = np.empty((0, len(_USED)))
        if len(table) == count and np.isfinite(table[:, :3]).all():
            return table
    return _numbers_one_by_one(lines, rows)


def _numbers_one_by_one(lines: list[bytes], rows: list[int]) -> np.ndarray:
    """As ``_numbers``, but slow, forgiving with spaces and unknown pixels, exact about errors."""
    values = []
    last = _last(lines)
    for at in (row + joint for row in rows for joint in range(JOINTS)):
        tokens = lines[at].split()
        if len(tokens) != _NUMBERS:
            cut = "truncated: " if at + 1 == last else ""
            raise TextError(f"{cut}line {at + 1}: {len(tokens)} numbers, expected {_NUMBERS}")
        row = [_number(tokens[column]) for column in _USED]
        if not np.isfinite(row[:3]).all():
            shown = b" ".join(tokens[:3]).decode(errors="replace")
            raise TextError(f"line {at + 1}: the position {shown!r} is not three finite numbers")
        values.append(row)
    return np.array(values, dtype=np.float64).reshape(-1, len(_USED))


def _number(token: bytes) -> float:
    try:
        return float(token)
    except ValueError:  # Windows writes -1.#IND
        return float("nan")

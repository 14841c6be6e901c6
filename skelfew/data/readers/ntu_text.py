"""The text of NTU RGB+D's ``.skeleton`` files.

Line 1 is the number of frames. A frame is a line with its number of bodies; a body is a line that
begins with its ID, a line with the number of joints (25) and a line of 12 numbers a joint:
x y z in metres, 2 depth pixels, 2 colour pixels (of 1920x1080), 4 of a quaternion, tracking state.

Parsing is bound by finding the numbers and converting them, which is therefore done for all joints
of a file at once; see benchmarks/prepare.py.
"""

from dataclasses import dataclass

import numpy as np

from skelfew.data.readers.decimals import decimals
from skelfew.errors import SkelfewError
from skelfew.io.budget import check_lines

JOINTS, _NUMBERS = 25, 12
_PIECE = 1 << 16  # characters looked at together; more would need fresh memory each time
_USED = np.array([0, 1, 2, 5, 6])  # position in metres and colour pixel


class TextError(SkelfewError):
    """A ``.skeleton`` file that is damaged; the message names the line."""


@dataclass(frozen=True)
class SkeletonText:
    """The content of one file; frames without a body are left out."""

    declared: int  # number of frames that the file declares; that of its videos
    shown: list[int]  # frame of the file, 0-based, of each that shows a body
    frame: list[int]  # frame of each of B observed bodies, (B,) int, among those shown
    body: list[bytes]  # its ID, (B,) bytes: it exceeds what a float64 can tell apart
    positions: np.ndarray  # joints (B, 25, 3) float32 in metres
    pixels: np.ndarray  # joints (B, 25, 2) float32 in the colour video, NaN where unknown

    @property
    def frames(self) -> int:
        """Number of frames that show a body."""
        return len(self.shown)


def parse(text: bytes) -> SkeletonText:
    """Parse a ``.skeleton`` file; raise TextError if it is damaged."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    if not text.endswith(b"\n") or text.endswith(b"\n\n"):
        text = text.rstrip(b"\n") + b"\n"
    check_lines(text, 100, error=TextError)
    lines = _Lines(text)
    declared = lines.whole(0, "the number of frames")
    rows: list[int] = []  # line of the first joint of each observed body
    frame: list[int] = []
    body: list[bytes] = []
    shown: list[int] = []
    at = 1
    for number in range(declared):
        bodies = lines.whole(at, "a number of bodies")
        at += 1
        for _ in range(bodies):
            joints = lines.whole(at + 1, "a number of joints")
            if joints != JOINTS:
                raise TextError(f"line {at + 2}: {joints} joints, expected {JOINTS}")
            body.append(lines[at].split(b" ", 1)[0])
            frame.append(len(shown))
            rows.append(at + 2)
            at += 2 + JOINTS
        shown += [number] * (bodies > 0)
    if at > len(lines) or (rows and not lines[at - 1]):
        raise TextError(f"truncated: the file ends at line {lines.last}, inside frame {len(shown)}")
    values = _numbers(lines, rows).reshape(-1, JOINTS, len(_USED)).astype(np.float32)
    pixels = values[..., 3:]
    pixels[~np.isfinite(pixels)] = np.nan
    return SkeletonText(declared, shown, frame, body, values[..., :3], pixels)


class _Lines:
    """The lines of a text, found at once: places of gaps (also line ends) and line ends."""

    def __init__(self, text: bytes):
        self.text = text
        characters = np.frombuffer(text, np.uint8)
        self.single, gaps, ends = True, [], []
        for first in range(0, len(text), _PIECE):
            piece = characters[first : first + _PIECE + 1]  # and the next one's first
            line_end = piece == ord("\n")
            gap = line_end | (piece == ord(" "))
            self.single &= not (gap[1:] & gap[:-1]).any()
            gaps.append(np.flatnonzero(gap[:_PIECE]) + first)
            ends.append(np.flatnonzero(line_end[:_PIECE]) + first)
        self.gaps = np.concatenate(gaps)
        line_ends = np.concatenate(ends)
        self.ends = np.append(line_ends, len(text))
        self._ends = [*line_ends.tolist(), len(text), -1]  # of the line before the first, at -1

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, line: int) -> bytes:
        return self.text[self._ends[line - 1] + 1 : self._ends[line]]

    @property
    def last(self) -> int:
        """Number of the last line that is not empty, from 1."""
        return max((i + 1 for i in range(len(self)) if self[i].strip()), default=0)

    def whole(self, at: int, what: str) -> int:
        """Return the only number of a line."""
        line = self[at] if at < len(self) else b""
        try:
            number = int(line)
        except ValueError:
            if at >= self.last:
                message = f"truncated: {what} should follow line {self.last}, the last"
                raise TextError(message) from None
            raise TextError(f"line {at + 1}: {line[:40]!r} is not {what}") from None
        if number < 0:
            raise TextError(f"line {at + 1}: {number} is not {what}")
        return number


def _numbers(lines: _Lines, rows: list[int]) -> np.ndarray:
    """Return the used columns of all joint lines, (B * 25, 5) float64."""
    if rows and (number := _regular(lines, np.array(rows))) is not None:
        start, end = lines.gaps.take(number) + 1, lines.gaps.take(number + 1)
        try:
            values = decimals(lines.text, start.ravel(), end.ravel()).reshape(-1, len(_USED))
        except ValueError:  # some token is no number: find out which
            values = np.full((1, len(_USED)), np.nan)
        if np.isfinite(values[:, :3]).all():
            return values
    return _numbers_one_by_one(lines, rows)


def _regular(lines: _Lines, rows: np.ndarray) -> np.ndarray | None:
    """Return the gap before each used number, an index into ``lines.gaps`` (B, 25, 5).

    None unless every joint line has its 12 numbers with single spaces between them.
    """
    before = np.searchsorted(lines.gaps, lines.ends[rows - 1])[:, None]  # the line ends
    before = before + _NUMBERS * np.arange(JOINTS)
    last = int(before[-1, -1]) + _NUMBERS
    if last >= len(lines.gaps) or not lines.single:
        return None
    ends = lines.ends[rows[:, None] + np.arange(JOINTS)]
    if (lines.gaps.take(before + _NUMBERS) != ends).any():
        return None
    return before[..., None] + _USED


def _numbers_one_by_one(lines: _Lines, rows: list[int]) -> np.ndarray:
    """As ``_numbers``, but slow, forgiving with spaces and unknown pixels, exact about errors."""
    values = []
    last = lines.last
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

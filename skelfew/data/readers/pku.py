"""PKU-MMD: untrimmed Kinect v2 recordings of two bodies, cut by their label files.

Source: Liu et al., "PKU-MMD: A Large Scale Benchmark for Continuous Multi-Modal Human Action
Understanding" (2017), and its release notes. ``0002-L.txt`` holds a row of 150 numbers a frame
(2 bodies x 25 joints x xyz); the label file of the same name, in a folder with "label" in its
name, a line ``class,start,end,confidence`` an action, frames from 1. Part I: 21,545 actions.
"""

import contextlib
import functools
import io
import re
from collections.abc import Iterator, Sequence

import numpy as np

from skelfew.data.facts import class_names
from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.raw import stem
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.budget import check_lines
from skelfew.io.files import BROKEN, brief, gunzipped, shown

_NAME = re.compile(r"(\w+)-([LMR])")
_VIEW = {"L": 1, "M": 2, "R": 3}
_MOST_OVERLAP = 100  # frames of all segments for one of the recording
_COLUMNS = 2 * 25 * 3


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the skeleton files ``*-L.txt``, ``*-M.txt``, ``*-R.txt``, also packed with gzip."""
    if options["past_end"] not in ("drop", "clip"):
        raise SkelfewError(f"--option past_end={options['past_end']}: expected drop or clip")
    _labels.cache_clear()
    skeletons = [n for n in _files(raw) if not _is_label(n)]
    if skeletons and not _labels(raw):
        raise SkelfewError(
            f"{raw.path}: {len(skeletons)} skeleton files, but no label files; put them into a "
            'folder with "label" in its name, e.g. Label_PKUMMD/'
        )
    return skeletons


def _files(raw: RawFolder) -> list[str]:
    return raw.names("*-[LMR].txt", "*-[LMR].txt.gz")


def _is_label(name: str) -> bool:
    return "label" in name.rpartition("/")[0].lower()


@functools.lru_cache(maxsize=1)
def _labels(raw: RawFolder) -> dict[str, str]:
    """Return the label file of each recording; looked up once per process."""
    return {stem(name): name for name in _files(raw) if _is_label(name)}


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Cut one recording into its actions; its video is ``RGB_VIDEO/NAME.avi``."""
    name = stem(source)
    match = _NAME.fullmatch(name)
    if match is None:
        yield Dropped(name, source, "its name is not like 0002-L.txt")
        return
    if name not in _labels(raw):
        yield Dropped(name, source, f"no label file {name}.txt")
        return
    try:
        frames = parse(unpacked(raw.read(source)))
        labels = unpacked(raw.read(_labels(raw)[name]))
        check_lines(labels, 300)
        lines = labels.decode("utf-8").splitlines()
    except (SkelfewError, UnicodeDecodeError) as error:
        yield Dropped(name, source, str(error))
        return
    video = raw.find_video(f"RGB_VIDEO/{name}.avi", f"{name}.avi", f"{name}.mp4")
    file, view = match.groups()
    left = _MOST_OVERLAP * len(frames)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            action, start, end = _action(line, len(frames), str(options["past_end"]))
            if (left := left - (end - start)) < 0:
                reason = f"its segments are more than {_MOST_OVERLAP} times the recording"
                yield Dropped(f"{name}:{number}", source, f"{reason}; the rest is left out")
                return
            positions = seen_bodies(frames[start:end])
        except SkelfewError as error:
            yield Dropped(f"{name}:{number}", source, str(error))
            continue
        clipped = int(line.split(",")[2]) - end
        prefix = f"F{int(file):03}" if file.isdigit() else file
        yield Recording(
            Sample(
                sample_id=f"{prefix}V{_VIEW[view]:03}C{action:03}L{number:03}",
                class_id=action,
                label=class_names("pku-mmd")[action],
                frames=end - start,
                video=video,
                start_frame=start if video else 0,
                end_frame=end if video else 0,
                view=view,
            ),
            Skeleton(positions),
            (f"{clipped} frames past the end of the recording were cut off",) * (clipped > 0),
        )


def unpacked(content: bytes) -> bytes:
    """Return the content of a file that may be packed with gzip; raise SkelfewError if damaged."""
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gunzipped(content)
    except BROKEN as error:
        raise SkelfewError(f"truncated or damaged gzip file ({brief(error)})") from None


def parse(text: bytes) -> np.ndarray:
    """Return the joints (T, 2, 25, 3) float32 of a recording; raise SkelfewError with the line."""
    import pandas as pd

    check_lines(text, 50, 40)
    rows = text.count(b"\n") + (not text.endswith(b"\n"))
    table = np.empty((0, _COLUMNS))
    if rows and len(text.split()) == rows * _COLUMNS:
        with contextlib.suppress(ValueError):  # some token is no number: see which, below
            table = pd.read_csv(
                io.BytesIO(text),
                sep=r"\s+",
                header=None,
                names=range(_COLUMNS),
                dtype=np.float64,
                index_col=False,
                engine="c",
            ).to_numpy()
    if len(table) != rows or not np.isfinite(table).all():
        lines = [line.split() for line in text.splitlines()]
        table = np.array([finite_row(i, row, _COLUMNS) for i, row in enumerate(lines, 1) if row])
    if not len(table):
        raise SkelfewError("no frames")
    return table.reshape(-1, 2, 25, 3).astype(np.float32)


def finite_row(number: int, tokens: Sequence[bytes], width: int) -> list[float]:
    """Return the numbers of a line; SkelfewError, which names the line, if they are not so many."""
    if len(tokens) != width:
        raise SkelfewError(f"line {number}: {len(tokens)} numbers, expected {width}")
    try:
        values = [float(token) for token in tokens]
    except ValueError as error:
        raise SkelfewError(f"line {number}: {brief(error)}") from None
    if not np.isfinite(values).all():
        raise SkelfewError(f"line {number}: NaN or infinity")
    return values


def _action(line: str, frames: int, past_end: str) -> tuple[int, int, int]:
    """Return class, first frame (from 0) and end of a label line."""
    try:
        action, start, end = (int(text) for text in line.split(",")[:3])
    except ValueError:
        raise SkelfewError(f"label line {shown(line)} is not class,start,end,confidence") from None
    if action not in class_names("pku-mmd"):
        raise SkelfewError(f"class {action} is out of range; there are 1 to 51")
    if not 1 <= start <= end:
        raise SkelfewError(f"segment {start}..{end} is empty")
    if start > frames or (end > frames and past_end == "drop"):
        raise SkelfewError(f"segment {start}..{end} is past the end; there are {frames} frames")
    return action, start - 1, min(end, frames)


def seen_bodies(frames: np.ndarray) -> np.ndarray:
    """Return (M, T, 25, 3): the bodies that are seen at all."""
    positions = frames.transpose(1, 0, 2, 3)
    seen = positions.any(axis=(1, 2, 3))
    if not seen.any():
        raise SkelfewError(f"no body in any of {len(frames)} frames")
    return positions[seen]


READER = Reader(
    name="pku",
    layout="kinect-v2",
    sources=sources,
    read=read,
    defaults={"past_end": "drop"},
)

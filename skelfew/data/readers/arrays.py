"""Skeletons in plain arrays: npy, npz, csv and txt. Nothing in a file is executed.

The order of the axes follows from the shape: V is known from the layout, C is 2 to 4, and there
are few bodies. A shape that can be read in two ways is an error.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from skelfew.data.joints.layouts import Layout
from skelfew.errors import SkelfewError
from skelfew.io.budget import ReadBudget, check_table, open_zip
from skelfew.io.files import BROKEN, brief, check_file, check_member, duplicates, shown
from skelfew.io.headers import read_header

if TYPE_CHECKING:
    import pandas as pd

# What an array's axes may be: bodies (m), frames (t), joints (v), coordinates (c).
_FEW = 0.02  # share of coordinates that leave the picture
ORDERS = ("tvc", "mtvc", "tmvc", "ctv", "ctvm", "vct", "cvt", "tcv", "vtc")
_SMOOTHER = 0.5  # change from frame to frame as a share of that from joint to joint, at most
_LONG = {"cvt", "tcv"}  # only for more frames than a joint has values: the same
MOST_BODIES = {"mtvc": 8, "tmvc": 8, "ctvm": 2}
VALUES = ("keypoints", "positions", "joints", "skeleton")
_SCORES = ("keypoint_scores", "scores", "confidence")
_MOST_BYTES = 2**32
_MOST_COMMENTS, _MOST_LINE = 1000, 1 << 20  # lines before the first frame, characters of a header
MEDIAPIPE = 33  # joints; each has x, y, z, visibility and, in some files, presence
# What the columns of a joint are called.
_ENDS = {
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "c": ("c", "v", "conf", "confidence", "score", "visibility", "likelihood"),
}
_NUMBERED = "joint|keypoint|landmark|point|kp|j|p"


def read_npy(path: Path, layout: Layout, order: str = "auto") -> np.ndarray:
    """Return the skeletons of an ``.npy`` file, (M, T, V, C) float32."""
    return to_bodies(open_npy(path), len(layout), order)


def open_npy(path: Path) -> np.ndarray:
    """Return the array of numbers of an ``.npy`` file, mapped; raise SkelfewError for any other."""
    try:
        check_file(path, most=None)
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN as error:
        raise SkelfewError(f"not a readable npy file ({_line(error)})") from None


def read_npz(path: Path, layout: Layout, order: str = "auto") -> tuple[np.ndarray, int | None]:
    """Return the skeletons of an ``.npz`` file (M, T, V, C), and the coordinates, if known.

    Its only array, or the one called ``keypoints``, ``positions``, ``joints`` or ``skeleton``; an
    array ``keypoint_scores``, ``scores`` or ``confidence`` of the same shape without the
    coordinates becomes the third value of 2D joints.
    """
    try:
        axes: dict[str, int] = {}
        wrong: dict[str, ValueError] = {}
        with open_zip(path) as archive:
            budget = ReadBudget("its arrays", path.stat().st_size)
            for member in archive.infolist():
                check_member(member)
                budget.hold(2 * member.file_size, shown(member.filename))
                name = member.filename.removesuffix(".npy")
                try:
                    with archive.open(member) as file:
                        axes[name] = _check_header(file, member.file_size)
                except ValueError as error:
                    wrong[name] = error
        scored = [n for n in axes if n in _SCORES]
        rest = [n for n in axes if n not in _SCORES and axes[n] > 1]  # no numbers, as of a rate
        chosen = rest if len(rest) == 1 else [n for n in rest if n in VALUES]
        bad = [n for n in wrong if not chosen or n in (*chosen, *scored, *VALUES, *_SCORES)]
        if bad:
            raise wrong[bad[0]]
        if len(chosen) != 1:
            raise SkelfewError(
                f"arrays {brief(', '.join(axes)) if axes else 'none'}; expected a single one of "
                f"two axes or more, or one that is called {', '.join(VALUES)}"
            )
        with np.load(path, allow_pickle=False) as content:
            values = content[chosen[0]]
            if scored:
                values = _with_scores(values, content[scored[0]], scored[0])
    except SkelfewError:
        raise
    except BROKEN as error:
        raise SkelfewError(f"not a readable npz file ({_line(error)})") from None
    return to_bodies(values, len(layout), order), 2 if scored else None


def _check_header(file: IO[bytes], size: int) -> int:
    """Return the number of axes; raise ValueError if not of numbers, cut off or absurdly large."""
    shape, _, dtype = read_header(file)
    if shape and min(shape) < 0:
        raise ValueError(f"shape {shape}")
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects, which are not opened; save numbers")
    if dtype.kind not in "fiu":
        raise ValueError(f"it holds {dtype}, expected numbers")
    expected = math.prod(shape) * dtype.itemsize
    if expected > _MOST_BYTES:
        raise ValueError(f"shape {shape} is {expected / 2**30:.0f} GiB; at most 4 are read")
    if size - file.tell() < expected:
        raise ValueError(f"cut off: shape {shape} needs {expected} bytes")
    return len(shape)


def _with_scores(values: np.ndarray, scores: np.ndarray, name: str) -> np.ndarray:
    if values.ndim < 3 or values.shape[-1] != 2 or values.shape[:-1] != scores.shape:
        raise SkelfewError(
            f"{name} has shape {scores.shape}, expected that of the joints without the two "
            f"coordinates at the end ({values.shape})"
        )
    return np.concatenate([values, scores[..., None]], axis=-1)


def to_bodies(values: np.ndarray, joints: int, order: str = "auto") -> np.ndarray:
    """Return an array as (M, T, V, C) float32; two axes are frames and V times C values.

    Raises SkelfewError, with the shape, if no order of ``ORDERS`` fits, or several do.
    """
    shape = values.shape
    if values.ndim == 2 and shape[1] in (2 * joints, 3 * joints, 4 * joints):
        values, order = values.reshape(len(values), joints, -1), "tvc"
    if values.ndim == 5:
        raise SkelfewError(
            f"an array of shape {shape}: many recordings in one file; "
            "skelfew-prepare agcn-npy reads such files with their labels"
        )
    wanted = ORDERS if order == "auto" else (order,)
    most = 5 if joints == MEDIAPIPE else 4
    fitting = [o for o in wanted if _fits(o, values.shape, joints, most, order != "auto")]
    if {"tvc", "vtc"} <= set(fitting):  # V frames: the usual order, unless time runs the other way
        along = [float(np.abs(np.diff(np.nan_to_num(values), axis=a)).mean()) for a in (0, 1)]
        if not along[1] < _SMOOTHER * along[0]:
            fitting.remove("vtc")
    if not fitting:
        raise SkelfewError(
            f"an array of shape {shape}, expected (frames, {joints}, 2 or 3) or "
            f"(bodies, frames, {joints}, 2 or 3)"
            + ("" if order == "auto" else f" in the order {order}")
            + f"; the layout has {joints} joints"
        )
    readings = [_sorted(values, o) for o in fitting]
    if not all(np.array_equal(readings[0], other, equal_nan=True) for other in readings[1:]):
        raise SkelfewError(
            f"an array of shape {shape} can be read as {' or '.join(fitting)} (t frames, v joints, "
            f"c coordinates, m bodies); say which with --option order={fitting[0]}"
        )
    return np.ascontiguousarray(readings[0], dtype=np.float32)


def _fits(order: str, shape: Sequence[int], joints: int, most: int, asked: bool) -> bool:
    if len(order) != len(shape):
        return False
    size = dict(zip(order, shape, strict=True))
    few = asked or size.get("m", 1) <= MOST_BODIES.get(order, 1)
    if not asked and order in _LONG and size["t"] <= most:
        return False
    return size["v"] == joints and 2 <= size["c"] <= most and few and 0 not in shape


def _sorted(values: np.ndarray, order: str) -> np.ndarray:
    named = values if "m" in order else values[None]
    axes = order if "m" in order else "m" + order
    return named.transpose([axes.index(a) for a in "mtvc"])


def read_csv(path: Path, layout: Layout) -> tuple[np.ndarray, int | None]:
    """Return the skeleton of a text, a row a frame, (1, T, V, C), and coordinates, if known.

    Fields are separated by commas, semicolons, tabs or spaces. With a header, columns are found by
    the names of joints, ``JOINT_x`` or ``Joint.X``, or by their numbers, ``x0`` or ``joint_1_x``,
    in any order, and others are ignored. Without one there are V times C columns in the order of
    the layout; up to two ascending ones before them (frame, time) are left out.
    """
    import pandas as pd

    try:
        check_file(path, most=None)
        check_table(path)
        skipped, first = _first_line(path)
        separator = next((s for s in ";,\t" if s in first), r"\s+")
        names = re.split(separator, first.strip())
        decimal = "," if separator == ";" and "." not in first else "."
        words = sum(not is_number(text.strip(' \t"').replace(decimal, ".")) for text in names)
        named = 2 * words > len(names)  # a row of a frame may begin with a date
        # Without pandas' own header: a row longer than that would become an index and shift all.
        table = pd.read_csv(
            path,
            header=None,
            skiprows=skipped + int(named),
            skipinitialspace=True,
            sep=separator,
            decimal=decimal,
            comment="#",
            encoding="utf-8-sig",
        )
    except pd.errors.EmptyDataError:
        raise SkelfewError("no frames") from None
    except (ValueError, OSError, OverflowError, IndexError) as error:
        # pandas' parser and decoder errors are ValueErrors
        raise SkelfewError(f"not a readable CSV file ({_line(error)})") from None
    coordinates = None
    if named:
        if table.shape[1] != len(names):
            raise SkelfewError(f"rows of {table.shape[1]} fields, but the header has {len(names)}")
        wanted, ends = _columns(names, layout)
        coordinates = 3 if "z" in ends else 2
        table = table[wanted].set_axis([names[i].strip() for i in wanted], axis=1)
    else:
        table = _without_times(table, layout)
    for name, column in table.items():
        wrong = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
        if wrong.any():
            where = int(wrong.argmax())
            raise SkelfewError(
                f"{shown(column.iloc[where])} in frame {where}, column {name} is not a number"
            )
    values = table.to_numpy(dtype=np.float32)
    return values.reshape(1, len(values), len(layout), -1), coordinates


def _first_line(path: Path) -> tuple[int, str]:
    """Return how many lines come before the first with content, and that line."""
    with path.open(encoding="utf-8-sig") as file:
        for number in range(_MOST_COMMENTS):
            line = file.readline(_MOST_LINE)
            if line.strip() and not line.lstrip().startswith("#"):
                return number, line
            if not line:
                break
    return 0, ""


def _without_times(table: "pd.DataFrame", layout: Layout) -> "pd.DataFrame":
    """Return the columns of joints, without a frame number or a time before them."""
    if table.shape[1] and table.iloc[:, -1].isna().all():  # lines that end with a separator
        table = table.iloc[:, :-1]
    joints, columns = len(layout), table.shape[1]
    for extra in (0, 1, 2):
        before = [table[i] for i in range(extra) if table[i].dtype.kind in "fiu"]
        steps = [np.diff(x.to_numpy(dtype=float, na_value=np.nan)) for x in before]
        fits = columns - extra in (2 * joints, 3 * joints, 4 * joints)
        if fits and all((step >= 0).all() and step.any() for step in steps):
            return table.iloc[:, extra:]
    raise SkelfewError(
        f"{columns} columns, expected {2 * joints} or {3 * joints}: 2 or 3 "
        f"for each of the {joints} joints of layout {layout.name}"
    )


def _columns(names: Sequence[str], layout: Layout) -> tuple[list[int], tuple[str, ...]]:
    """Return which columns belong to the joints, in their order, and what values a joint has."""
    keys = [_key(name) for name in names]
    if twice := duplicates(filter(None, keys)):
        raise SkelfewError(f"column {shown(names[keys.index(twice[0])].strip())} is given twice")
    place = {key: i for i, key in enumerate(keys)}
    joints = [_key(joint) for joint in layout.joints]
    found = {
        (j, end): place[name]
        for j, joint in enumerate(joints)
        for end, words in _ENDS.items()
        for word in words
        for name in (joint + word, word + joint)
        if name in place
    }
    if not found:
        found = _numbered(keys, len(layout))
    ends = tuple(end for end in _ENDS if any(e == end for _, e in found))
    ends = ("x", "y", *(end for end in ends if end in "zc"))
    wanted = [(j, end) for j in range(len(layout)) for end in ends]
    if lacking := [(j, end) for j, end in wanted if (j, end) not in found]:
        j, end = lacking[0]
        raise SkelfewError(
            f"{len(lacking)} of {len(wanted)} columns are missing, first "
            f"'{layout.joints[j].lower()}_{end}'; a header names JOINT_x, JOINT_y and JOINT_z or "
            f"JOINT_c for the joints of layout {layout.name}; this one begins "
            f"{brief(', '.join(n.strip() for n in names[:4]))}"
        )
    return [found[key] for key in wanted], ends


def _numbered(keys: Sequence[str], joints: int) -> dict[tuple[int, str], int]:
    """Return the columns of joints that are called by their number, from 0 or from 1."""
    word = {word: end for end, words in _ENDS.items() for word in words}
    words = "|".join(sorted(word, key=len, reverse=True))
    form = re.compile(rf"(?:{_NUMBERED})?(?:({words})(\d+)|(\d+)({words}))")
    matches = {i: m for i, key in enumerate(keys) if (m := form.fullmatch(key))}
    numbers = {i: int(m[2] or m[3]) for i, m in matches.items()}
    least = min(numbers.values(), default=0)
    if sorted(set(numbers.values())) != list(range(least, least + joints)) or least > 1:
        return {}
    return {(numbers[i] - least, word[m[1] or m[4]]): i for i, m in matches.items()}


def _key(name: str) -> str:
    without_units = re.sub(r"\(.*?\)|\[.*?\]", "", name.casefold())
    return re.sub(r"[\W_]+", "", without_units)


def is_number(text: str) -> bool:
    """Whether a text, if there is one, is a number."""
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _line(error: Exception) -> str:
    return brief(str(error).strip() or type(error).__name__)


def coordinates_of(
    positions: np.ndarray, given: int | None, asked: str, unsure: int | None = None
) -> int:
    """Return how many values of joints (M, T, V, C) are position: as asked, given, seen, or unsure.

    Where all leave it open, an ``unsure`` of None raises.
    """
    channels = positions.shape[-1]
    given = 2 if channels == 2 else given
    if asked != "auto":
        if given is not None and given != int(asked):
            raise SkelfewError(f"{given} coordinates, but --option coordinates={asked}")
        return int(asked)
    if given is not None:
        return given
    known = positions[np.isfinite(positions).all(axis=-1) & positions.any(axis=-1)]
    third = known[:, 2]
    # Metres do not reach so far, and no pose estimator's confidence is larger (AlphaPose: 6).
    pixels = len(known) and np.abs(known[:, :2]).max() > 10 and third.max() <= 6
    # Shares of the picture; metres have joints on both sides of the camera or of the hips.
    shares = len(known) and 0 < third.max() <= 1 and (known[:, :2] < 0).mean() < _FEW
    if (pixels or shares) and third.min() >= 0:
        if unsure is not None:
            return unsure
        raise SkelfewError(
            "the third value of the joints looks like a confidence; say --option coordinates=2 "
            "(x, y, confidence) or coordinates=3 (x, y, z)"
        )
    return 3

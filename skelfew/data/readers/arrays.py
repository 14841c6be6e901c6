"""Skeletons in plain arrays: npy, npz and csv. Nothing in a file is executed.

The order of the axes is told from the shape: V is known from the layout, C is 2 or 3, and there
are few bodies. A shape that can be read in two ways is an error.
"""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from skelfew.data.joints.layouts import Layout
from skelfew.errors import SkelfewError
from skelfew.io.files import BROKEN, brief, check_file, check_member, shown

# What an array's axes may be: bodies (m), frames (t), joints (v), coordinates (c).
ORDERS = ("tvc", "mtvc", "tmvc", "ctv", "ctvm", "vct")
MOST_BODIES = {"mtvc": 8, "tmvc": 8, "ctvm": 2}
_VALUES = ("keypoints", "positions", "joints", "skeleton")
_SCORES = ("keypoint_scores", "scores", "confidence")
_MOST_BYTES = 2**32


def read_npy(path: Path, layout: Layout, order: str = "auto") -> np.ndarray:
    """Return the skeletons of an ``.npy`` file, (M, T, V, C) float32."""
    try:
        check_file(path, most=None)
        with path.open("rb") as file:
            _check_header(file, path.stat().st_size)
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN as error:
        raise SkelfewError(f"not a readable npy file ({_line(error)})") from None
    return to_bodies(values, len(layout), order)


def read_npz(
    path: Path, layout: Layout, order: str = "auto"
) -> tuple[np.ndarray, int | None]:
    """Return the skeletons of an ``.npz`` file, (M, T, V, C) float32.

    Its only array, or the one called ``keypoints``, ``positions``, ``joints`` or ``skeleton``; an
    array ``keypoint_scores``, ``scores`` or ``confidence`` of the same shape without the
    coordinates becomes the third value of 2D joints.

    Returns:
        The skeletons, and the number of coordinates if the arrays tell.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                check_member(member)
                with archive.open(member) as file:
                    _check_header(file, member.file_size)
        with np.load(path, allow_pickle=False) as content:
            names = list(content.files)
            scored = [n for n in names if n in _SCORES]
            rest = [n for n in names if n not in _SCORES]
            chosen = rest if len(rest) == 1 else [n for n in rest if n in _VALUES]
            if len(chosen) != 1:
                raise SkelfewError(
                    f"arrays {brief(', '.join(names)) or 'none'}; expected a single one, or one that is "
                    f"called {', '.join(_VALUES)}"
                )
            values = content[chosen[0]]
            if scored:
                values = _with_scores(values, content[scored[0]], scored[0])
    except SkelfewError:
        raise
    except BROKEN as error:
        raise SkelfewError(f"not a readable npz file ({_line(error)})") from None
    return to_bodies(values, len(layout), order), 2 if scored else None


def _check_header(file: IO[bytes], size: int) -> None:
    """Raise ValueError if an array is not of numbers, is cut off or is absurdly large.

    Before anything is allocated: a few bytes of header can announce any shape.
    """
    version = np.lib.format.read_magic(file)
    older = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if older else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(file)
    except Exception as error:  # the header is a Python literal, and anything can be in it
        raise ValueError(f"damaged header ({brief(error)})") from None
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


def _with_scores(values: np.ndarray, scores: np.ndarray, name: str) -> np.ndarray:
    if values.ndim < 3 or values.shape[-1] != 2 or values.shape[:-1] != scores.shape:
        raise SkelfewError(
            f"{name} has shape {scores.shape}, expected that of the joints without the two "
            f"coordinates at the end ({values.shape})"
        )
    return np.concatenate([values, scores[..., None]], axis=-1)


def to_bodies(values: np.ndarray, joints: int, order: str = "auto") -> np.ndarray:
    """Return an array as (M, T, V, C) float32.

    Args:
        values: Two axes are frames and V times C values; more are told from the shape.
        joints: V.
        order: One of ``ORDERS`` where the shape can be read in more than one way.

    Raises:
        SkelfewError: No order fits, or several do; names the shape.
    """
    shape = values.shape
    if values.ndim == 2 and shape[1] in (2 * joints, 3 * joints):
        values, order = values.reshape(len(values), joints, -1), "tvc"
    wanted = ORDERS if order == "auto" else (order,)
    fitting = [o for o in wanted if _fits(o, values.shape, joints, order != "auto")]
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


def _fits(order: str, shape: Sequence[int], joints: int, asked: bool) -> bool:
    if len(order) != len(shape):
        return False
    size = dict(zip(order, shape, strict=True))
    few = asked or size.get("m", 1) <= MOST_BODIES.get(order, 1)
    return size["v"] == joints and size["c"] in (2, 3) and few and 0 not in shape


def _sorted(values: np.ndarray, order: str) -> np.ndarray:
    named = values if "m" in order else values[None]
    axes = order if "m" in order else "m" + order
    return named.transpose([axes.index(a) for a in "mtvc"])


def read_csv(path: Path, layout: Layout) -> tuple[np.ndarray, int | None]:
    """Return the skeleton of a ``.csv`` file, a row a frame, (1, T, V, C) float32.

    With a header of ``JOINT_x, JOINT_y`` and ``JOINT_z`` or ``JOINT_c`` columns in any order
    (others are ignored), or without a header V times C columns in the order of the layout.

    Returns:
        The skeleton, and the number of coordinates if the header tells.
    """
    import pandas as pd

    try:
        check_file(path, most=None)
        first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
        named = not all(_is_number(text) for text in first.iloc[0])
        # Without pandas' own header: a row longer than that would become an index and shift all.
        table = pd.read_csv(path, header=None, skiprows=int(named), skipinitialspace=True)
    except pd.errors.EmptyDataError:
        raise SkelfewError("no frames") from None
    except (ValueError, OSError, OverflowError, IndexError) as error:  # pandas' parser and decoder errors are ValueErrors
        raise SkelfewError(f"not a readable CSV file ({_line(error)})") from None
    coordinates = None
    if named:
        columns = [text.strip().lower() for text in first.iloc[0]]
        ends, coordinates = _ends(columns, layout)
        if table.shape[1] != len(columns):
            raise SkelfewError(f"rows of {table.shape[1]} fields, but the header has {len(columns)}")
        table.columns = columns
        table = table[[f"{joint.lower()}_{end}" for joint in layout.joints for end in ends]]
    elif table.shape[1] not in (2 * len(layout), 3 * len(layout)):
        raise SkelfewError(
            f"{table.shape[1]} columns, expected {2 * len(layout)} or {3 * len(layout)}: 2 or 3 "
            f"for each of the {len(layout)} joints of layout {layout.name}"
        )
    for name, column in table.items():
        wrong = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
        if wrong.any():
            where = int(wrong.argmax())
            raise SkelfewError(
                f"{shown(column.iloc[where])} in frame {where}, column {name} is not a number"
            )
    values = table.to_numpy(dtype=np.float32)
    return values.reshape(1, len(values), len(layout), -1), coordinates


def _ends(columns: list[str], layout: Layout) -> tuple[tuple[str, ...], int]:
    """Return which columns a joint has, and how many of them are a position."""
    there = set(columns)
    if twice := sorted({c for c in columns if columns.count(c) > 1}):
        raise SkelfewError(f"column {shown(twice[0])} stands twice")
    first = layout.joints[0].lower()
    third = {end for end in "zc" if f"{first}_{end}" in there}
    ends: tuple[str, ...] = ("x", "y", "z") if "z" in third else ("x", "y", "c")
    if not third:
        ends = ("x", "y")
    wanted = [f"{joint.lower()}_{end}" for joint in layout.joints for end in ends]
    if lacking := [c for c in wanted if c not in there]:
        raise SkelfewError(
            f"{len(lacking)} of {len(wanted)} columns are missing, first {lacking[0]!r}; a header "
            f"names JOINT_x, JOINT_y and JOINT_z or JOINT_c for the joints of layout {layout.name}"
        )
    return ends, 3 if "z" in third else 2


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _line(error: Exception) -> str:
    return brief(str(error).strip() or type(error).__name__)

"""Files that hold one recording, with joints of their own: formats of known data sets."""

import contextlib
import re
from pathlib import Path

import numpy as np

from skelfew.data.joints.layouts import Layout, load_layout
from skelfew.data.readers.arrays import VALUES, is_number, to_bodies
from skelfew.errors import SkelfewError
from skelfew.io.files import BROKEN, brief, check_file, parse_json, read_bytes

_PKU_COLUMNS, _MSR_COLUMNS, _UCLA = 150, (60, 80), b'"skeletons"'


def read_known(path: Path, layout: Layout) -> tuple[np.ndarray, str] | None:
    """Return joints (M, T, V, 3) in metres and the name of their layout; None for other formats.

    ``.skeleton`` (NTU RGB+D), ``.mat`` with ``d_skel`` (UTD-MHAD), ``.txt`` and ``.txt.gz``
    (PKU-MMD, MSR Action Pairs; not if it has a column for each value of ``layout``), ``.json`` with
    ``skeletons`` (NW-UCLA). Raises SkelfewError for a damaged file, or one of many recordings, with
    its reader.
    """
    lower = path.name.lower()
    if lower.endswith((".pkl", ".pickle")):
        raise SkelfewError("a pickle holds many recordings; skelfew-prepare pyskl reads PYSKL's")
    if not lower.endswith((".skeleton", ".mat", ".txt", ".txt.gz", ".json")):
        return None
    check_file(path, most=None)
    try:
        content = read_bytes(path)
    except BROKEN as error:
        raise SkelfewError(f"cannot be read ({brief(error)})") from None
    if lower.endswith(".skeleton"):
        return _ntu(content), "kinect-v2"
    if lower.endswith(".mat"):
        from skelfew.data.readers import utd

        return (utd.parse(content), "kinect-v1") if "d_skel" in utd.variables(content) else None
    if lower.endswith(".json"):
        return (_ucla(content), "kinect-v1") if _UCLA in content else None
    return _text(content, layout)


def _ntu(content: bytes) -> np.ndarray:
    from skelfew.data.readers import ntu

    text = ntu.parse(content)
    found = ntu.actors(ntu.tracks(text), text.frames).positions
    # Segments and times count all frames of the file, also those without a body.
    positions = np.zeros((len(found), text.declared, *found.shape[2:]), dtype=np.float32)
    positions[:, text.shown] = found
    return positions


def _text(content: bytes, layout: Layout) -> tuple[np.ndarray, str] | None:
    from skelfew.data.readers import msr, pku

    content = pku.unpacked(content)
    start = re.search(rb"\S[^\r\n]{,100000}", content)
    first = start[0] if start else b""
    columns, joints = len(first.split()), len(layout)
    if columns == _PKU_COLUMNS and columns not in (2 * joints, 3 * joints):
        return np.ascontiguousarray(pku.seen_bodies(pku.parse(content))), "kinect-v2"
    own = any(columns - extra == n * joints for extra in (0, 1, 2) for n in (2, 3, 4))
    if own and columns in _MSR_COLUMNS and layout.same_graph(load_layout("kinect-v1")):
        with contextlib.suppress(SkelfewError):  # of another unit, or around the body
            return msr.parse(content)[None], "kinect-v1"
    if (
        own
        or b"," in first
        or b";" in first
        or not all(map(is_number, first.decode("latin-1").split()))
    ):
        return None
    return msr.parse(content)[None], "kinect-v1"


def _ucla(content: bytes) -> np.ndarray:
    from skelfew.data.readers import ucla

    try:
        positions = ucla.positions_of(parse_json(content)["skeletons"])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise SkelfewError(f"not a skeleton of NW-UCLA in JSON ({brief(error)})") from None
    return ucla.interpolate(positions, (positions == 0).all(axis=-1))[None]


def read_mat(path: Path, layout: Layout, order: str) -> np.ndarray:
    """Return the skeletons (M, T, V, C) of a MATLAB file: its only array, or a named one."""
    from skelfew.data.readers import utd

    found = {
        name: values
        for name, values in utd.variables(read_bytes(path), load=True).items()
        if isinstance(values, np.ndarray) and values.dtype.kind in "fiu" and values.ndim >= 2
    }
    large = {name: v for name, v in found.items() if v.ndim > 2 or v.size >= 2 * len(layout)}
    chosen = list(large) if len(large) == 1 else [n for n in large if n in VALUES]
    if len(chosen) != 1:
        listed = ", ".join(f"{name} {v.shape}" for name, v in found.items()) or "none"
        raise SkelfewError(
            f"arrays {brief(listed)}; expected a single one, or one that is called "
            f"{', '.join(VALUES)}. Structures and cells: save the array alone"
        )
    return to_bodies(large[chosen[0]], len(layout), order)

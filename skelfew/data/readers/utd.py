"""UTD-MHAD: MATLAB skeletons (20 Kinect v1 joints, one body) and synchronised depth videos.

Source: Chen, Jafari & Kehtarnavaz, "UTD-MHAD: A Multimodal Dataset for Human Action Recognition
Utilizing a Depth Camera and a Wearable Inertial Sensor" (2015). The order of the joints is that
of the distribution's ``Skeleton_joint_order.txt``.
"""

import importlib.util
import io
import math
import re
from collections.abc import Iterator
from typing import Literal

import numpy as np

from skelfew.data.facts import class_names
from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.raw import stem
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.budget import ReadBudget
from skelfew.io.files import Document, brief, check_deflated

NO_SCIPY = "MATLAB files need SciPy: pip install 'skelfew[prepare]'"
_NAME = re.compile(r"a(\d+)_s(\d+)_t(\d+)_skeleton")
# The files begin head, shoulder centre, spine, hip centre; kinect-v1 has these four reversed.
_ORDER = [3, 2, 1, 0, *range(4, 20)]
# Depth camera of 320x240 pixels: focal length and image centre.
_MOST_BYTES = 1 << 23  # of a file; those of the data set have some 60 kB
_NUMBERS = {"double", "single", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64))}
_COMPRESSED = 15  # miCOMPRESSED
_FOCAL, _CENTRE = 270.0, (160.0, 120.0)


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the skeleton files ``aA_sS_tT_skeleton.mat``."""
    if importlib.util.find_spec("scipy") is None:
        raise SkelfewError(NO_SCIPY)
    return raw.names("a*_s*_t*_skeleton.mat")


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read one recording; its video is ``depth_video/aA_sS_tT_depth.mp4``, if it is there."""
    name = stem(source).removesuffix("_skeleton")
    match = _NAME.fullmatch(stem(source))
    if match is None:
        yield Dropped(name, source, "its name is not like a1_s2_t3_skeleton.mat")
        return
    action, subject, trial = (int(part) for part in match.groups())
    names = class_names("utd-mhad")
    if action not in names:
        yield Dropped(name, source, f"action a{action} is out of range; there are a1 to a27")
        return
    try:
        positions = parse(raw.read(source))
    except SkelfewError as error:
        yield Dropped(name, source, str(error))
        return
    video = raw.find_video(f"depth_video/{name}_depth.mp4", f"{name}_depth.mp4")
    sample = Sample(
        sample_id=name,
        class_id=action,
        label=names[action],
        frames=positions.shape[1],
        video=video,
        end_frame=positions.shape[1] if video else 0,
        subject=str(subject),
        replication=str(trial),
    )
    yield Recording(sample, Skeleton(positions, project(positions)))


def parse(content: bytes) -> np.ndarray:
    """Return the joints (1, T, 20, 3) float32 of a file; raise SkelfewError if it is another."""
    found = variables(content, load=True, only="d_skel")
    if "d_skel" not in found:
        raise SkelfewError("the variable d_skel is missing")
    joints = found["d_skel"]
    if not isinstance(joints, np.ndarray):
        raise SkelfewError(f"not a readable MATLAB file (d_skel is a {type(joints).__name__})")
    if joints.ndim != 3 or joints.shape[:2] != (20, 3) or joints.dtype.kind != "f":
        shape = f"{joints.shape} {joints.dtype}"
        raise SkelfewError(f"d_skel is {shape}, expected (20, 3, frames) floats")
    return np.ascontiguousarray(joints[_ORDER].transpose(2, 0, 1), dtype=np.float32)[None]


def variables(content: bytes, load: bool = False, only: str | None = None) -> Document:
    """Return the variables of a MATLAB file by name, all or one; without ``load`` names alone."""
    if importlib.util.find_spec("scipy") is None:
        raise SkelfewError(NO_SCIPY)
    from scipy.io import loadmat, whosmat

    try:
        _check_size(content)
        kinds = {name: (shape, kind) for name, shape, kind in whosmat(io.BytesIO(content))}
        if not load:
            return dict.fromkeys(kinds)
        # Numbers alone: a cell array of a few bytes can claim any number of cells.
        names = [name for name in kinds if only in (None, name) and kinds[name][1] in _NUMBERS]
        if only in kinds and not names:
            raise SkelfewError(f"{only} is {kinds[only]}, expected (20, 3, frames) floats")
        budget = ReadBudget("its variables", len(content))
        for name in names:
            budget.hold(8 * math.prod(kinds[name][0]), name)
        found = loadmat(io.BytesIO(content), variable_names=names)
    except SkelfewError:
        raise
    except NotImplementedError:
        raise SkelfewError(
            "a MATLAB file of version 7.3, which is not read; save it with save(..., '-v7')"
        ) from None
    except Exception as error:  # SciPy raises whatever the bytes lead to
        raise SkelfewError(f"not a readable MATLAB file ({brief(error)})") from None
    return {name: values for name, values in found.items() if not name.startswith("__")}


def _check_size(content: bytes) -> None:
    """Raise ValueError if it, or a compressed part (MAT-File Level 5, type 15), is too large."""
    order: Literal["little", "big"] = "big" if content[126:128] == b"MI" else "little"
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{len(content)} bytes, {_MOST_BYTES} at most are read")
    at = 128
    while at + 8 <= len(content):
        kind = int.from_bytes(content[at : at + 4], order)
        size = int.from_bytes(content[at + 4 : at + 8], order)
        part = content[at + 8 : at + 8 + size]
        if kind == _COMPRESSED:
            check_deflated(part)
        at += 8 + size


def project(positions: np.ndarray) -> np.ndarray:
    """Return where joints (..., 3) in metres are in the depth video (..., 2), or NaN."""
    depth = np.where(positions[..., 2] > 0, positions[..., 2], np.nan)
    u = _CENTRE[0] + _FOCAL * positions[..., 0] / depth
    v = _CENTRE[1] - _FOCAL * positions[..., 1] / depth
    return np.stack([u, v], axis=-1).astype(np.float32)


READER = Reader(name="utd-mhad", layout="kinect-v1", sources=sources, read=read, pixels=True)

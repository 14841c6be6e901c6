"""NW-UCLA as the field uses it: one JSON file a clip, 20 Kinect v1 joints, one body, no video.

Source: Wang et al., "Cross-view Action Modeling, Learning and Recognition" (2014), in the
distribution that came with CTR-GCN: 1,484 clips, among them two of one frame and two with joints
at (0, 0, 0) in one frame.
"""

import re
from collections.abc import Iterator

import numpy as np

from skelfew.data.facts import class_names
from skelfew.data.manifest import Sample
from skelfew.data.readers import Dropped, Options, RawFolder, Reader, Recording
from skelfew.data.readers.raw import stem
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.files import brief, parse_json

_NAME = re.compile(r"a(\d+)_s(\d+)_e(\d+)_v(\d+)")
_CLASS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 8: 7, 9: 8, 11: 9, 12: 10}  # action to class number


def sources(raw: RawFolder, options: Options) -> list[str]:
    """List the clips ``aAA_sSS_eEE_vVV.json``."""
    if options["zero_joints"] not in ("interpolate", "keep"):
        raise SkelfewError(
            f"--option zero_joints={options['zero_joints']}: expected interpolate or keep"
        )
    return raw.names("a*_s*_e*_v*.json")


def read(raw: RawFolder, source: str, options: Options) -> Iterator[Recording | Dropped]:
    """Read one clip."""
    name = stem(source)
    match = _NAME.fullmatch(name)
    if match is None:
        yield Dropped(name, source, "its name is not like a01_s02_e03_v01")
        return
    action, subject, replication, view = (int(part) for part in match.groups())
    text = raw.read(source)
    try:
        content = parse_json(text)
        label, positions = int(content["label"]), positions_of(content["skeletons"])
    except KeyError as error:
        yield Dropped(name, source, f"the key {brief(error)} is missing")
        return
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        yield Dropped(name, source, f"not a skeleton in JSON ({brief(error)})")
        return
    if action not in _CLASS or label != _CLASS[action]:
        expected = _CLASS.get(action, "one of a01-a06, a08, a09, a11, a12")
        yield Dropped(name, source, f"label {label} does not fit action a{action:02} ({expected})")
        return
    notes = []
    missing = (positions == 0).all(axis=-1)
    if (lost := missing & ~missing.all(axis=1, keepdims=True)).any():
        where = np.flatnonzero(lost.any(axis=1)).tolist()
        notes.append(f"{lost.sum()} joints at (0, 0, 0) in frames {where}")
        if options["zero_joints"] == "interpolate":
            positions = interpolate(positions, missing)
            notes[-1] += ", interpolated"
    sample = Sample(
        sample_id=name,
        class_id=label,
        label=class_names("nw-ucla")[label],
        frames=len(positions),
        subject=str(subject),
        view=str(view),
        replication=str(replication),
    )
    yield Recording(sample, Skeleton(positions[None]), tuple(notes))


def positions_of(values: object) -> np.ndarray:
    """Return joints (T, 20, 3) float32; ValueError or TypeError if they are something else."""
    positions = np.array(values, dtype=np.float32)
    if positions.ndim != 3 or positions.shape[1:] != (20, 3) or not len(positions):
        raise ValueError(f"skeletons have shape {positions.shape}, expected (frames, 20, 3)")
    return positions


def interpolate(positions: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Fill joints (T, V, 3) that are ``missing`` (T, V), linearly in time from the nearest frames.

    A joint that never is known stays as it is, and so does a frame that shows no person.
    """
    filled, shown = positions.copy(), ~missing.all(axis=1)
    points, missing = positions[shown], missing[shown]
    for joint in np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0)):
        gaps, seen = np.flatnonzero(missing[:, joint]), np.flatnonzero(~missing[:, joint])
        for axis in range(positions.shape[2]):
            points[gaps, joint, axis] = np.interp(gaps, seen, points[seen, joint, axis])
    filled[shown] = points
    return filled


def preprocessing(most: int) -> dict[str, str | int]:
    """Return CTR-GCN's own for NW-UCLA: views, a box, 52 drawn frames."""
    return {"kind": "ucla", "length": 52}


READER = Reader(
    name="nw-ucla",
    layout="kinect-v1",
    sources=sources,
    read=read,
    defaults={"zero_joints": "interpolate"},
    preprocessing=preprocessing,
)

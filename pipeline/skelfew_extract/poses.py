"""The poses of whole videos: estimated once, kept under the hash of the video."""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from skelfew.data.readers.bodies import Person, apart, fill_missing, two_bodies
from skelfew.data.store import Skeleton
from skelfew.errors import SkelfewError
from skelfew.io.files import BROKEN, check_file, file_sha256
from skelfew.io.writing import writing
from skelfew_extract.frames import all_frames, probe
from skelfew_extract.pose import JOINTS, VALUES, Estimator

KEPT = Path("data/poses")  # below the working directory
MOST_PEOPLE = 4
VISIBLE = 0.5  # below it a joint counts as not found; MediaPipe draws none below it either
_VERSION = 2  # counts up when the same video gives other poses than before
_LONGEST_SIDE = 640  # of the pictures that poses are estimated in
_SAME = 0.1  # body sizes between two poses of one picture that are one person, at most
_STEP = 5  # frames over which movement is measured
_MANY_LOST = 0.1  # share of joints that is worth a note


@dataclass(frozen=True)
class Poses:
    """The people found in a video."""

    # (N, 33, 6) float32 as ``Estimator.find`` returns, in pixels of the upright video
    people: np.ndarray
    frame: np.ndarray  # the frame of each, ascending, (N,) int64
    frames: int
    fps: float  # frames a second, 0 if unknown
    size: tuple[int, int]  # width and height of the upright video


def poses_of(path: Path, model: Path, people: int = MOST_PEOPLE) -> Poses:
    """Return the poses in a video, kept below ``KEPT``; SkelfewError as ``Estimator``."""
    try:
        check_file(path, most=None)
        recipe = f"{_VERSION} {_model_hash(model, model.stat().st_mtime_ns)} {people}"
        name = f"{file_sha256(path)}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.npz"
    except OSError as error:
        raise SkelfewError(f"{path}: cannot be read ({error.strerror})") from None
    kept = KEPT / name
    found = _read(kept)
    if found is None:
        found = _estimate(path, model, people)
        _write(kept, found)
    return found


def find_in(estimator: Estimator, picture: np.ndarray, seconds: float, side: int) -> np.ndarray:
    """Return the people (P, 33, 6) in a picture, looked for in every k-th pixel of a large one."""
    every = -(-max(picture.shape[:2]) // side)
    people = estimator.find(picture[::every, ::every], seconds)
    people[..., :2] *= every
    return people


@lru_cache(maxsize=4)
def _model_hash(model: Path, changed: int) -> str:
    return file_sha256(model)


def _estimate(path: Path, model: Path, people: int) -> Poses:
    info = probe(path)
    found: list[np.ndarray] = []
    counts: list[int] = []
    size = (info.width, info.height)
    with Estimator(model, people) as estimator:
        for picture in all_frames(path):
            seen = find_in(estimator, picture.image, picture.time, _LONGEST_SIDE)
            found.append(seen)
            counts.append(len(seen))
    together = np.concatenate([np.zeros((0, JOINTS, VALUES), np.float32), *found])
    frame = np.repeat(np.arange(len(counts)), counts)
    return Poses(together, frame, len(counts), info.fps, size)


def _read(path: Path) -> Poses | None:
    """Return kept poses, None if there are none or the file is damaged."""
    try:
        check_file(path)
        with np.load(path, allow_pickle=False) as kept:
            people, frame = kept["people"], kept["frame"]
            frames, fps, width, height = (
                kept[k].item() for k in ("frames", "fps", "width", "height")
            )
    except BROKEN:
        return None
    shaped = people.ndim == 3 and people.shape[1:] == (JOINTS, VALUES) and len(people) == len(frame)
    return (
        Poses(people, frame, int(frames), float(fps), (int(width), int(height))) if shaped else None
    )


def _write(path: Path, poses: Poses) -> None:
    """Keep poses; where nothing can be written they are estimated again next time."""
    with contextlib.suppress(OSError), writing(path) as file:
        np.savez_compressed(
            file, people=poses.people, frame=poses.frame, frames=poses.frames, fps=poses.fps,
            width=poses.size[0], height=poses.size[1],
        )  # fmt: skip


def skeleton_of(
    poses: Poses, start: int, end: int, coordinates: int = 3, visible: float = VISIBLE
) -> tuple[Skeleton, int, tuple[str, ...]]:
    """Return the one or two people who move most in a segment, from the first frame with one.

    3 coordinates are metres (M, T, 33, 3), y upwards, z away from the camera; 2 pixels and a
    confidence. Joints less ``visible`` count as not found: filled in in the positions, NaN in the
    pixels. Returns the skeleton, the frame it begins with, notes. Raises SkelfewError without a
    person.
    """
    rows = np.flatnonzero((poses.frame >= start) & (poses.frame < end))
    everybody: list[list[Person]] = [[] for _ in range(end - start)]
    for row in rows:
        joints = poses.people[row].copy()
        lost = joints[:, 2] < visible
        if not lost.all():
            joints[lost] = 0
            everybody[poses.frame[row] - start].append(Person(joints))
    everybody = [_different(people) for people in everybody]
    seen = [t for t, people in enumerate(everybody) if people]
    if not seen:
        raise SkelfewError(f"no person is found in any of {end - start} frames")
    first, last = seen[0], seen[-1] + 1
    bodies, notes = two_bodies(everybody[first:last], movement)
    lost = bodies[..., 2] <= 0
    pixels = np.where(lost[..., None], np.nan, bodies[..., :2])
    positions = bodies[..., 3:] if coordinates == 3 else bodies[..., :3]
    positions, share = fill_missing(positions, lost, coordinates)
    if share > _MANY_LOST:
        notes += (f"{share:.0%} of the joints were not found; they are filled in",)
    return Skeleton(np.ascontiguousarray(positions), pixels), start + first, notes


def _different(people: list[Person]) -> list[Person]:
    """Return the people of a picture without those that the estimator found twice."""
    kept: list[Person] = []
    for person in sorted(people, key=lambda p: -float(p.joints[:, 2].sum())):
        if all(apart(person.joints, other.joints) > _SAME for other in kept):
            kept.append(person)
    return kept


def movement(joints: Mapping[int, np.ndarray]) -> float:
    """Return how far a person, (33, 6) by frame, moves, in body sizes summed over its frames."""
    steps = [apart(joints[t], joints[t + _STEP]) for t in joints if t + _STEP in joints]
    # A person seen too shortly to move at all still comes before no person.
    return float(sum(s for s in steps if np.isfinite(s))) + 1e-6 * len(joints)

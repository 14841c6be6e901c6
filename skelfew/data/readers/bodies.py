"""Two bodies from the people of each frame, and joints that were not found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from skelfew.data.readers.ucla import interpolate
from skelfew.errors import SkelfewError

MOST_BODIES = 2
_PATIENCE = 15  # frames that show others after which a person who is not seen is given up
_NEAR = 0.5  # body sizes that joints move, on average, from frame to frame at most
_SHORT = 0.1  # share of the frames with people that a second body is seen in at least

# Where x, y and z come from, and with which sign, if another axis points up than y.
UPS = {
    "y": ((0, 1), (1, 1), (2, 1)),
    "-y": ((0, 1), (1, -1), (2, -1)),
    "z": ((0, 1), (2, 1), (1, -1)),
    "-z": ((0, 1), (2, -1), (1, 1)),
    "x": ((1, -1), (0, 1), (2, 1)),
    "-x": ((1, 1), (0, -1), (2, 1)),
}


@dataclass(frozen=True)
class Person:
    """A person in one frame: joints (V, 3) of x, y, confidence, and a tracker's number."""

    joints: np.ndarray
    track: int | None = None


@dataclass(eq=False)
class _Track:
    """One person through time: joints (V, 3) by frame number."""

    joints: dict[int, np.ndarray] = field(default_factory=dict)

    def nearest(self, frame: int) -> np.ndarray:
        """The joints at the frame closest in time."""
        return self.joints[min(self.joints, key=lambda other: (abs(other - frame), other))]


def confidence(joints: Mapping[int, np.ndarray]) -> float:
    """Return the confidence of a track, joints (V, 3) by frame, summed over joints and frames."""
    return float(sum(j[:, 2].sum() for j in joints.values()))


def two_bodies(
    people: Sequence[Sequence[Person]],
    weight: Callable[[Mapping[int, np.ndarray]], float] = confidence,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the bodies (M, T, V, 3) of a recording, M at most 2, and what had to be left out.

    People are followed from frame to frame: by their tracker's number where all have one, else
    each to the nearest one; frames without anybody do not count. The track of the greatest
    ``weight`` is the first body. Others, in that order, continue a body where they share no frame
    with it (if both will do, the one they are nearer to), or open the second body if they are
    seen in a tenth of the frames. Raises SkelfewError if no frame shows a person.
    """
    tracks = sorted(_tracks(people), key=lambda track: -weight(track.joints))
    if not tracks:
        raise SkelfewError(f"no body in any of {len(people)} frames")
    bodies: list[_Track] = []
    left, shown = 0, sum(map(bool, people))
    for track in tracks:
        free = [b for b in bodies if b.joints.keys().isdisjoint(track.joints)]
        if free:
            _nearest(free, track).joints.update(track.joints)
        elif not bodies or (len(bodies) < MOST_BODIES and len(track.joints) >= _SHORT * shown):
            bodies.append(_Track(dict(track.joints)))
        else:
            left += 1
    positions = np.zeros((len(bodies), len(people), *tracks[0].nearest(0).shape), np.float32)
    for body, values in zip(bodies, positions, strict=True):
        for frame, joints in body.joints.items():
            values[frame] = joints
    notes = (f"{left} of {len(tracks)} tracks of people left out",) if left else ()
    return positions, notes


def _tracks(people: Sequence[Sequence[Person]]) -> list[_Track]:
    everybody = [p for persons in people for p in persons]
    numbers = [(t, p.track) for t, persons in enumerate(people) for p in persons]
    if all(p.track is not None for p in everybody) and len(set(numbers)) == len(numbers):
        found: dict[int | None, _Track] = {}
        for frame, persons in enumerate(people):
            for person in persons:
                found.setdefault(person.track, _Track()).joints[frame] = person.joints
        return list(found.values())
    tracks: list[_Track] = []
    active: list[tuple[_Track, int, int]] = []  # with when each was seen last, frame and place
    shown = [(frame, persons) for frame, persons in enumerate(people) if persons]
    for place, (frame, persons) in enumerate(shown):
        active = [entry for entry in active if place - entry[2] <= _PATIENCE]
        pairs = sorted(
            (distance, a, p)
            for a, (track, last, _) in enumerate(active)
            for p, person in enumerate(persons)
            if (distance := apart(track.joints[last], person.joints)) <= _NEAR
        )
        taken: dict[int, _Track] = {}
        for _, a, p in pairs:
            track = active[a][0]
            if p not in taken and track not in taken.values():
                taken[p] = track
        for p, person in enumerate(persons):
            track = taken.get(p) or _Track()
            if p not in taken:
                tracks.append(track)
            track.joints[frame] = person.joints
            active = [entry for entry in active if entry[0] is not track] + [(track, frame, place)]
    return tracks


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return how far joints found in both have moved on average, in sizes of the body."""
    both = (one[:, 2] > 0) & (other[:, 2] > 0)
    if not both.any():
        return np.inf
    found = one[one[:, 2] > 0, :2]
    size = max(float(np.ptp(found, axis=0).max()), 1e-6)
    return float(np.linalg.norm(one[both, :2] - other[both, :2], axis=1).mean()) / size


def _nearest(bodies: Sequence[_Track], track: _Track) -> _Track:
    first, last = min(track.joints), max(track.joints)

    def gap(body: _Track) -> float:
        return min(apart(body.nearest(t), track.joints[t]) for t in (first, last))

    return min(bodies, key=gap)


def most_seen(positions: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return which bodies (M, T, V, C) to keep: the two most seen, and a note; or SkelfewError."""
    frames_seen = positions.any(axis=(2, 3)).sum(axis=1)
    order = np.argsort(-frames_seen, kind="stable")
    order = order[frames_seen[order] > 0]
    if not len(order):
        raise SkelfewError(f"no body in any of {positions.shape[1]} frames")
    notes: tuple[str, ...] = ()
    if len(order) > MOST_BODIES:
        notes = (f"{len(order)} bodies; the {MOST_BODIES} seen in most frames are kept",)
    return np.sort(order[:MOST_BODIES]), notes


def least_confidence(options: Mapping[str, object]) -> float | None:
    """Return the confidence from which on a joint was found; None for the source's own."""
    text = str(options["min_confidence"])
    if text == "auto":
        return None
    try:
        least = float(text)
    except ValueError:
        least = -1.0
    if not 0 <= least < np.inf:
        raise SkelfewError(f"--option min_confidence={text}: expected auto or a number from 0")
    return least


def turned_up(positions: np.ndarray, coordinates: int, up: str) -> np.ndarray:
    """Return joints (..., C) turned, not mirrored, so that ``up`` (of ``UPS``; in 2D y) is y."""
    if up == "y":
        return positions
    if up not in UPS:
        raise SkelfewError(f"--option up={up}: expected {', '.join(UPS)}")
    if coordinates == 2:
        raise SkelfewError(
            f"--option up={up} is for x, y, z; pictures are turned with their joints"
        )
    turned = positions.copy()
    for axis, (source, sign) in enumerate(UPS[up]):
        turned[..., axis] = sign * positions[..., source]
    return turned


def fill_missing(
    positions: np.ndarray, missing: np.ndarray, coordinates: int
) -> tuple[np.ndarray, float]:
    """Fill joints that were ``missing`` (M, T, V) while others of the same body were found.

    Linearly in time between the frames in which the joint was found; a joint of which there is none
    takes the mean of the others in its frame. The confidence stays 0; absent bodies stay zero.
    Returns the positions (M, T, V, C), and the share of joints of present bodies that was filled.
    """
    filled, count, total = positions.copy(), 0, 0
    for body, lost in zip(filled, missing, strict=True):
        there = np.flatnonzero(~lost.all(axis=1))
        body[lost.all(axis=1)] = 0
        gaps = lost[there]
        total += gaps.size
        if not gaps.any():
            continue
        count += int(gaps.sum())
        points = interpolate(body[there][..., :coordinates], gaps)
        never = gaps.all(axis=0)
        points[:, never] = points[:, ~never].mean(axis=1, keepdims=True)
        body[there, :, :coordinates] = points
    return filled, count / max(total, 1)

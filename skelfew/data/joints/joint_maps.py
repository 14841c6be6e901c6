"""From the joints of one layout to those of another, by what the joints are called.

Every known joint has recipes: names of joints whose mean stands for it, the closest first. Joints
that no layout shares exactly (a Kinect's hand tip, COCO's ears) take the nearest that there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from skelfew.data.joints.layouts import Layout
from skelfew.errors import SkelfewError

Recipe = tuple[str, ...]

_PELVIS = ("pelvis", "hip_centre", "spine_base", "mid_hip")
_WAIST = ("spine", "spine_mid", "torso", "spine1", "spine2")
_CHEST = ("shoulder_centre", "spine_shoulder", "thorax", "spine3")
_MIDDLE: dict[str, tuple[Recipe, ...]] = {
    **{name: (*((n,) for n in _PELVIS), ("left_hip", "right_hip")) for name in _PELVIS},
    **{
        name: (*((n,) for n in _WAIST), ("pelvis", "shoulder_centre"))
        for name in _WAIST
    },
    # OpenPose's and OpenNI's neck lies between the shoulders.
    **{name: (*((n,) for n in _CHEST), ("left_shoulder", "right_shoulder")) for name in _CHEST},
    "neck": (("neck",), ("shoulder_centre",)),
    "head": (("head",), ("left_ear", "right_ear"), ("nose",)),
    "nose": (("nose",), ("head",)),
}
_SIDED: dict[str, tuple[Recipe, ...]] = {
    "eye": (("eye",), ("nose",)),
    "ear": (("ear",), ("head",)),
    "collar": (("collar",), ("shoulder", "shoulder_centre")),
    "shoulder": (("shoulder",),),
    "elbow": (("elbow",),),
    "wrist": (("wrist",), ("hand",)),
    "hand": (("hand",), ("wrist",)),
    "hand_tip": (("hand_tip",), ("hand",)),
    "thumb": (("thumb",), ("hand",)),
    "hip": (("hip",),),
    "knee": (("knee",),),
    "ankle": (("ankle",), ("foot",)),
    "foot": (("foot",), ("big_toe",), ("ankle",)),
    "big_toe": (("big_toe",), ("foot",)),
    "small_toe": (("small_toe",), ("foot",)),
    "heel": (("heel",), ("ankle",)),
}


def _recipes(joint: str) -> tuple[Recipe, ...]:
    side, _, part = joint.partition("_")
    if side not in ("left", "right") or part not in _SIDED:
        return _MIDDLE.get(joint, ((joint,),))
    return tuple(
        tuple(f"{side}_{name}" if name in _SIDED else name for name in recipe)
        for recipe in _SIDED[part]
    )


@dataclass(frozen=True)
class JointMap:
    """How the joints of ``target`` come from those of ``source``.

    Attributes:
        source: Layout of the recordings.
        target: Layout that is wanted.
        weights: (V_target, V_source) float32; rows add up to 1.
    """

    source: Layout
    target: Layout
    weights: np.ndarray

    def apply(self, positions: np.ndarray, coordinates: int) -> np.ndarray:
        """Return joints (M, T, V_target, C) of joints (M, T, V_source, C).

        A confidence becomes the smallest of those that a joint is made of.
        """
        mapped = np.einsum("uv,mtvc->mtuc", self.weights, positions)
        for channel in range(coordinates, positions.shape[-1]):
            used = self.weights > 0
            values = np.where(used, positions[..., None, :, channel], np.inf)
            mapped[..., channel] = values.min(axis=-1)
        return np.ascontiguousarray(mapped, dtype=np.float32)

    def described(self) -> Mapping[str, str]:
        """Return which source joints each target joint of another name is made of."""
        made = {}
        for name, row in zip(self.target.joints, self.weights, strict=True):
            used = [self.source.joints[i] for i in np.flatnonzero(row)]
            if used != [name]:
                made[name] = " + ".join(used)
        return made


def joint_map(source: Layout, target: Layout) -> JointMap:
    """Return how to make a skeleton of ``target`` from one of ``source``.

    Raises:
        SkelfewError: A joint has neither its namesake nor anything near it; all are named.
    """
    index = {name: i for i, name in enumerate(source.joints)}
    weights: np.ndarray = np.zeros((len(target), len(source)), dtype=np.float32)
    lacking = []
    for row, name in zip(weights, target.joints, strict=True):
        made = _make(name, index, frozenset())
        if made is None:
            lacking.append(name)
            continue
        for joint, share in made.items():
            row[index[joint]] += share
    if lacking:
        raise SkelfewError(
            f"{', '.join(lacking)} of layout {target.name} cannot be made from the joints of "
            f"{source.name} ({', '.join(source.joints)}); joints are matched by name, so name them "
            "in your layout file as skelfew/data/joints/layouts.py does"
        )
    return JointMap(source, target, weights)


def _make(name: str, index: Mapping[str, int], tried: frozenset[str]) -> dict[str, float] | None:
    """Return the source joints, and their shares, whose mean stands for a joint; None if none."""
    if name in index:
        return {name: 1.0}
    if name in tried:
        return None
    for recipe in _recipes(name):
        parts = [_make(part, index, tried | {name}) for part in recipe]
        if all(part is not None for part in parts):
            made: dict[str, float] = {}
            for part in parts:
                for joint, share in (part or {}).items():
                    made[joint] = made.get(joint, 0.0) + share / len(recipe)
            return made
    return None


def project(positions: np.ndarray) -> np.ndarray:
    """Return where 3D joints (..., 3), y upwards, would be in a picture, (..., 2), y downwards.

    A pinhole of focal length 1 where every joint lies in front of the camera (z > 0), as a depth
    camera records; else along z. Joints at (0, 0, 0) are absent and stay zero.
    """
    there = np.asarray(positions.any(axis=-1))
    flipped = positions[..., :2] * np.array([1, -1], dtype=positions.dtype)
    depth = positions[..., 2:]
    if there.any() and (depth[there] > 0).all():
        flipped = flipped / np.where(there[..., None], depth, 1)
    return np.where(there[..., None], flipped, 0).astype(np.float32)

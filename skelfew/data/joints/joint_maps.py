"""From the joints of one layout to those of another, by what the joints are called.

Every known joint has recipes: names of joints whose mean takes its place, the closest first, and
those that need no other recipe before those that do. Joints that no layout shares exactly (a
Kinect's hand tip, COCO's ears) take the nearest that exists.
"""

import re
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
    **{name: (*((n,) for n in _WAIST), ("pelvis", "shoulder_centre")) for name in _WAIST},
    # OpenPose's and OpenNI's neck lies between the shoulders.
    **{name: (*((n,) for n in _CHEST), ("left_shoulder", "right_shoulder")) for name in _CHEST},
    "neck": (("shoulder_centre",),),
    "head": (("left_ear", "right_ear"), ("nose",)),
    "nose": (("head",),),
}
_SIDED: dict[str, tuple[Recipe, ...]] = {
    "eye": (("nose",),),
    "ear": (("head",),),
    "mouth": (("nose",),),
    "collar": (("shoulder", "shoulder_centre"),),
    "shoulder": (),
    "elbow": (),
    "wrist": (("hand_root",), ("hand",)),
    # Kinect's hand is the palm, its hand tip the end of the middle finger.
    "hand": (("wrist", "forefinger1", "pinky1"), ("wrist", "index", "pinky"), ("wrist",)),
    "hand_root": (("wrist",),),
    "hand_tip": (("middle_finger4",), ("index", "pinky"), ("hand",)),
    "thumb": (("thumb4",), ("hand",)),
    # MediaPipe's knuckles.
    "index": (("forefinger1",), ("hand",)),
    "pinky": (("pinky1",), ("hand",)),
    "forefinger1": (("index",), ("hand",)),
    "pinky1": (("pinky",), ("hand",)),
    "hip": (),
    "knee": (),
    "ankle": (("foot",),),
    "foot": (("big_toe",), ("foot_index",), ("ankle",)),
    "foot_index": (("big_toe",), ("foot",)),
    "big_toe": (("foot_index",), ("foot",)),
    "small_toe": (("foot_index",), ("foot",)),
    "heel": (("ankle",),),
}
_RULES: tuple[tuple[str, tuple[Recipe, ...]], ...] = (  # for the names of whole families
    (r"(brow|eye_).*", (("eye",),)),
    (r"(thumb|.*finger|pinky)1", (("hand",),)),
    (r"thumb\d", (("thumb",),)),
    (r"(.*finger|pinky)\d", (("hand_tip",),)),
    (r"(jaw|nostril|mouth|upper_lip|lower_lip|chin|nose_).*", (("nose",),)),
)


def _recipes(joint: str) -> tuple[Recipe, ...]:
    if joint in _MIDDLE:
        return _MIDDLE[joint]
    side, _, part = joint.partition("_")
    if side not in ("left", "right"):
        side, part = "", joint
    rules = (recipes for pattern, recipes in _RULES if re.fullmatch(pattern, part))
    recipes = _SIDED[part] if part in _SIDED else next(rules, ())
    return tuple(
        tuple(name if name in _MIDDLE else f"{side}_{name}" for name in recipe)
        for recipe in recipes
    )


@dataclass(frozen=True)
class JointMap:
    """From the joints of ``source`` to those of ``target``: weights (V_target, V_source)."""

    source: Layout
    target: Layout
    weights: np.ndarray

    def apply(self, positions: np.ndarray, coordinates: int) -> np.ndarray:
        """Return joints (M, T, V_target, C); a confidence is the smallest of its sources."""
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
    """Return how to make ``target`` of ``source``; SkelfewError names joints with nothing near."""
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
    """Return the source joints, and their shares, that make a joint; None if none do."""
    if name in index:
        return {name: 1.0}
    if name in tried:
        return None
    recipes = _recipes(name)
    for recipe in sorted(recipes, key=lambda r: not all(part in index for part in r)):
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

    A pinhole of focal length 1 if all lie in front of the camera (z > 0), else along z. Zeros stay.
    """
    there = np.asarray(positions.any(axis=-1))
    flipped = positions[..., :2] * np.array([1, -1], dtype=positions.dtype)
    depth = positions[..., 2:]
    if there.any() and (depth[there] > 0).all():
        flipped = flipped / np.where(there[..., None], depth, 1)
    return np.where(there[..., None], flipped, 0).astype(np.float32)

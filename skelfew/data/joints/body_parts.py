"""Parts of the body by the names of joints: what GCA-LSTM and APSR take together."""

import re

from skelfew.data.joints.layouts import Layout
from skelfew.errors import SkelfewError

# Part and what the names of its joints are; {side} is left and right.
_JOINTS = {
    "head": r"head|nose.*|chin|(upper|lower)_lip.*|(left|right)_(eye|ear|brow|jaw|nostril|mouth)\w*"
    r"|(left|right)_(upper|lower)_lip.*",
    "torso": r"neck|spine_mid|spine_shoulder|shoulder_centre|spine\d?|torso|thorax",
    "hips": "spine_base|hip_centre|pelvis|mid_hip|(left|right)_hip",
    "{side} arm": "{side}_(collar|shoulder|elbow)",
    "{side} hand": r"{side}_(wrist|hand|hand_tip|hand_root|index|thumb\d?|pinky\d?|\w+finger\d)",
    "{side} leg": "{side}_knee",
    "{side} foot": "{side}_(ankle|foot|big_toe|small_toe|heel|foot_index)",
}
PARTS = {
    part.format(side=side): re.compile(names.replace("{side}", side))
    for part, names in _JOINTS.items()
    for side in ("left", "right")
}

# What a teacher reads of a part; the names alone say too little to a sentence encoder.
_TEXTS = {
    "head": "movement of the head: nodding, shaking, looking, eating, drinking",
    "torso": "movement of the torso: bending, turning, leaning, bowing",
    "hips": "movement of the hips: sitting down, standing up",
    "{side} arm": "movement of the {side} arm: raising, swinging, reaching, throwing",
    "{side} hand": "movement of the {side} hand: holding, grasping, writing, waving",
    "{side} leg": "movement of the {side} leg: walking, kicking, squatting",
    "{side} foot": "movement of the {side} foot: stepping, jumping, stamping",
}
PART_TEXTS = {
    part.format(side=side): text.format(side=side)
    for part, text in _TEXTS.items()
    for side in ("left", "right")
}


def body_parts(layout: Layout) -> dict[str, tuple[int, ...]]:
    """Return the joints (0-based) of each part of a layout; SkelfewError for one of no part."""
    found: dict[str, list[int]] = {part: [] for part in PARTS}
    for joint, name in enumerate(layout.joints):
        part = next((p for p, names in PARTS.items() if names.fullmatch(name)), None)
        if part is None:
            raise SkelfewError(
                f"layout {layout.name}: no part of the body is known to have a joint {name!r}; "
                f"name it as {', '.join(PARTS)} of the built-in layouts have theirs, or use "
                "an encoder that needs no parts, e.g. agcn"
            )
        found[part].append(joint)
    return {part: tuple(joints) for part, joints in found.items() if joints}

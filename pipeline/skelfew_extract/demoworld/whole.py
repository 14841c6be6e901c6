"""Curves of legs, torso, head and the whole body."""

import numpy as np

from skelfew_extract.demoworld.arms import hold
from skelfew_extract.demoworld.body import HANGING, SIDES
from skelfew_extract.demoworld.curves import DEGREE, Curve, beat, columns, ease, keys, swept


def kick_forward(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    foot = keys(
        p, (0.1, (0, 0, 0)), (0.34, (0, 0.16, -0.3)), (0.5, (-0.05, 0.5, 0.82)),
        (0.56, (-0.05, 0.5, 0.82)), (0.85, (0, 0, 0)),
    )  # fmt: skip
    lean = keys(p, (0.34, 0.0), (0.52, -14 * DEGREE), (0.85, 0.0))
    return {"foot": foot, "torso": columns(p, x=lean)}


def kick_sideways(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    foot = keys(
        p, (0.1, (0, 0, 0)), (0.32, (0.05, 0.22, 0.1)), (0.5, (0.8, 0.5, 0.05)),
        (0.56, (0.8, 0.5, 0.05)), (0.85, (0, 0, 0)),
    )  # fmt: skip
    tilt = keys(p, (0.32, 0.0), (0.52, -20 * DEGREE), (0.85, 0.0))
    return {"foot": foot, "torso": columns(p, y=tilt)}


def lift(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    knee = (0.0, 0.46, 0.18)
    return {"foot": keys(p, (0.1, (0, 0, 0)), (0.4, knee), (0.68, knee), (0.92, (0, 0, 0)))}


def swing(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    swing = beat(p, 3 * beats, 0.1, 0.92)
    return {"foot": columns(p, y=0.05 * np.abs(swing) + 0.16 * swing**2, z=0.45 * swing)}


def bent(column: str, degrees: float) -> Curve:
    def curve(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
        angle = degrees * DEGREE * (ease(p, 0.1, 0.42) - ease(p, 0.6, 0.92))
        channels = {"torso": columns(p, **{column: angle})}
        if column == "x":
            channels["hips"] = columns(p, z=-0.12 * angle)
        return channels

    return curve


def sit(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    down = ease(p, 0.15, 0.75)
    lean = keys(p, (0.15, 0.0), (0.5, 32.0), (0.9, 4.0)) * DEGREE
    return {"hips": columns(p, y=-0.47 * down, z=-0.40 * down), "torso": columns(p, x=lean)}


def squat(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    down = ease(p, 0.1, 0.42) - ease(p, 0.58, 0.92)
    return {
        "hips": columns(p, y=-0.56 * down, z=-0.16 * down),
        "torso": columns(p, x=26 * DEGREE * down),
    }


def jump(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    hips = keys(p, (0.1, 0.0), (0.32, -0.2), (0.5, 0.3), (0.68, -0.16), (0.88, 0.0))
    feet = keys(p, (0.38, 0.0), (0.5, 0.28), (0.62, 0.0))
    lean = keys(p, (0.1, 0.0), (0.32, 18.0), (0.46, 0.0), (0.6, 0.0), (0.68, 14.0), (0.88, 0.0))
    foot = columns(p, y=feet)
    return {
        "hips": columns(p, y=hips),
        "left_foot": foot,
        "right_foot": foot,
        "torso": columns(p, x=lean * DEGREE),
    }


def gait(p: np.ndarray, strides: int, length: float, height: float) -> dict[str, np.ndarray]:
    phase = 2 * np.pi * strides * np.clip((p - 0.05) / 0.9, 0, 1)
    still = ease(p, 0.02, 0.12) - ease(p, 0.88, 0.98)
    channels = {}
    for side, sign in SIDES.items():
        swing, lifted = sign * np.sin(phase), np.maximum(0, sign * np.cos(phase))
        channels[f"{side}_foot"] = columns(p, y=height * lifted, z=length * swing) * still[:, None]
        arm = -0.9 * sign * np.sin(phase) * still * min(0.5, 0.25 + length)
        channels[f"{side}_hand"] = swept(arm) + columns(p, y=0.02, z=0.08)
    return channels


def walk(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    go = 1.05 * (np.clip((p - 0.05) / 0.9, 0, 1) - 0.62)
    return {**gait(p, 2, 0.3, 0.14), "place": columns(p, y=go)}


def approach(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    go = 0.75 * (np.clip((p - 0.05) / 0.9, 0, 1) - 1)
    return {**gait(p, 2, 0.25, 0.13), "place": columns(p, y=go)}


def march(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    return gait(p, max(2, round(3 * beats)), 0.05, 0.34)


def pick(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    down = ease(p, 0.1, 0.42) - ease(p, 0.5, 0.85)
    hand = hold(
        p, (0.42, (-0.1, -0.5, 0.82)), (0.5, (-0.1, -0.5, 0.82)), (0.85, (-0.15, -0.35, 0.6))
    )
    return {
        "hips": columns(p, y=-0.4 * down, z=-0.2 * down),
        "torso": columns(p, x=66 * DEGREE * down),
        "left_hand": hand,
        "right_hand": hand,
    }


def stagger(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    back = ease(p, 0.5, 0.78)
    jolt = keys(p, (0.48, 0.0), (0.62, -22.0), (0.85, 0.0)) * DEGREE
    lifted = 0.1 * np.sin(np.pi * ease(p, 0.52, 0.7))
    hand = hold(p, (0.5, HANGING), (0.64, (0.5, -0.5, 0.5)), (0.9, HANGING))
    return {
        "place": columns(p, y=-0.28 * back),
        "torso": columns(p, x=jolt),
        "right_foot": columns(p, y=lifted, z=-0.16 * (ease(p, 0.5, 0.68) - ease(p, 0.75, 0.9))),
        "left_hand": hand,
        "right_hand": hand,
    }

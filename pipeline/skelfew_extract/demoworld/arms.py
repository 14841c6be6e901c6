"""Curves of the arms: the wrist seen from its shoulder, outwards, up, forwards, in arm lengths."""

import numpy as np

from skelfew_extract.demoworld.body import HANGING
from skelfew_extract.demoworld.curves import DEGREE, beat, columns, ease, keys, swept


def hold(p: np.ndarray, *points: tuple[float, object]) -> np.ndarray:
    """Keys of a hand that start from hanging."""
    return keys(p, (0.05, HANGING), *points)


def wave(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    top = (0.30, 0.62, 0.25)
    hand = hold(p, (0.22, top), (0.8, top), (0.95, HANGING))
    return {"hand": hand + columns(p, x=0.28 * beat(p, 3 * beats, 0.22, 0.8))}


def raise_(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    return {"hand": swept(0.95 * np.pi * ease(p, 0.1, 0.75))}


def stretch(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    angle = 0.52 * np.pi * (ease(p, 0.1, 0.42) - ease(p, 0.62, 0.92))
    return {"hand": np.stack([np.sin(angle) + 0.08, -np.cos(angle), 0 * p + 0.05], -1) * 0.97}


def punch(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    guard, hit = (-0.12, -0.15, 0.42), (-0.25, 0.05, 0.96)
    hand = hold(
        p, (0.2, guard), (0.3, hit), (0.42, guard), (0.55, guard), (0.65, hit), (0.78, guard),
        (0.95, HANGING),
    )  # fmt: skip
    twist = keys(p, (0.2, 0.0), (0.3, -25.0), (0.42, 0.0), (0.55, 0.0), (0.65, -25.0), (0.78, 0.0))
    return {"hand": hand, "torso": columns(p, z=twist * DEGREE)}


def circle(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    turns = max(1, round(2 * beats))
    return {"hand": swept(2 * np.pi * turns * np.clip((p - 0.06) / 0.88, 0, 1))}


def push(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    chest, out = (-0.12, -0.18, 0.34), (-0.12, 0.0, 0.97)
    lean = keys(p, (0.38, 0.0), (0.7, 10 * DEGREE))
    return {"hand": hold(p, (0.3, chest), (0.38, chest), (0.72, out)), "torso": columns(p, x=lean)}


def throw(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    hand = hold(
        p, (0.38, (0.42, 0.45, -0.30)), (0.44, (0.42, 0.45, -0.30)), (0.56, (-0.05, 0.35, 0.9)),
        (0.68, (-0.45, -0.65, 0.5)), (0.95, HANGING),
    )  # fmt: skip
    twist = keys(p, (0.1, 0.0), (0.38, 25.0), (0.44, 25.0), (0.62, -30.0), (0.95, 0.0)) * DEGREE
    lean = keys(p, (0.44, 0.0), (0.64, 18.0), (0.95, 0.0)) * DEGREE
    return {"hand": hand, "torso": columns(p, x=lean, z=twist)}


def hammer(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    middle = (-0.05, 0.05, 0.55)
    hand = hold(p, (0.2, middle), (0.85, middle), (0.97, HANGING))
    swing = beat(p, 3 * beats, 0.2, 0.85)
    return {"hand": hand + columns(p, y=0.48 * swing, z=-0.12 * swing)}


def open_(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    front = (-0.26, 0.0, 0.88)
    angle = ease(p, 0.42, 0.85) * 0.55 * np.pi
    sweep = np.stack([np.sin(angle) * 1.2, 0 * p, 0.88 * np.cos(angle)], -1)
    return {"hand": hold(p, (0.32, front)) + sweep - [0.0, 0.0, 0.88]}


def clap(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    ready = (-0.12, -0.08, 0.52)
    hand = hold(p, (0.2, ready), (0.82, ready), (0.96, HANGING))
    return {"hand": hand - columns(p, x=0.2 * beat(p, 4 * beats, 0.2, 0.82))}


def hat(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    low, head = (-0.12, -0.30, 0.62), (-0.16, 0.62, 0.10)
    hand = keys(p, (0.15, low), (0.55, head), (0.7, head), (0.95, HANGING))
    nod = keys(p, (0.3, 0.0), (0.55, 14 * DEGREE), (0.75, 0.0))
    return {"hand": hand, "elbow": np.array([1.0, -0.1, 0.1]), "head": columns(p, x=nod)}


def drink(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    low, mouth = (-0.08, -0.42, 0.58), (-0.30, 0.22, 0.38)
    hand = hold(
        p, (0.2, low), (0.28, low), (0.48, mouth), (0.72, mouth), (0.88, low), (0.99, HANGING)
    )
    tip = keys(p, (0.4, 0.0), (0.55, -24 * DEGREE), (0.7, -24 * DEGREE), (0.8, 0.0))
    return {"hand": hand, "head": columns(p, x=tip), "elbow": np.array([0.8, -0.6, 0.0])}


def phone(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    ear = (-0.12, 0.36, 0.16)
    return {
        "hand": hold(p, (0.3, ear), (0.85, ear), (0.98, HANGING)),
        "elbow": np.array([0.7, -0.7, 0.2]),
        "head": columns(p, y=keys(p, (0.2, 0.0), (0.35, 0.2), (0.8, 0.2), (0.95, 0.0))),
    }


def shake_hand(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    out = (-0.25, -0.32, 0.78)
    hand = hold(p, (0.28, out), (0.8, out), (0.96, HANGING))
    return {"hand": hand + columns(p, y=0.13 * beat(p, 4 * beats, 0.3, 0.78))}


def hug(p: np.ndarray, beats: float) -> dict[str, np.ndarray]:
    wide, round_ = (0.35, -0.05, 0.75), (-0.2, -0.05, 0.72)
    go = 0.16 * (ease(p, 0.1, 0.4) - ease(p, 0.75, 0.98))
    hand = hold(p, (0.3, wide), (0.5, round_), (0.75, round_), (0.96, HANGING))
    return {"hand": hand, "place": columns(p, y=go)}

"""Subjects of the demo world: their proportions, clothes and habits."""

from dataclasses import dataclass

import numpy as np

from skelfew_extract.demoworld.actions import Action, poses
from skelfew_extract.demoworld.body import HANGING, SIDES, Pose, Proportions, joints


@dataclass(frozen=True)
class Performer:
    """One performer: the same in all of its samples."""

    proportions: Proportions
    own: str
    # Reach of arms and legs, by side, relative to usual; ``tempo`` likewise duration
    amplitude: dict[str, float]
    tempo: float
    # Posture of the torso in radians: forwards, to the right, twisted to the right
    lean: np.ndarray
    stance: float  # distance between the feet, leg lengths outwards
    shirt: np.ndarray  # RGB, 0 to 1; likewise trousers, shoes, skin, hair
    trousers: np.ndarray
    shoes: np.ndarray
    skin: np.ndarray
    hair: np.ndarray
    sleeves: bool


_SKIN = ((0.96, 0.80, 0.69), (0.87, 0.67, 0.52), (0.76, 0.56, 0.42), (0.55, 0.38, 0.27))
_HAIR = ((0.10, 0.08, 0.07), (0.30, 0.19, 0.11), (0.62, 0.46, 0.22), (0.45, 0.42, 0.40))


def subject(number: int, seed: int) -> Performer:
    """Return subject ``number`` (1-based) of a world; independent of how many there are."""
    rng = np.random.default_rng([seed, 7, number])
    hue = (0.13 + 0.381966 * number) % 1.0
    return Performer(
        proportions=Proportions(
            height=float(rng.uniform(1.50, 1.92)),
            shoulders=float(rng.uniform(0.32, 0.42)),
            hips=float(rng.uniform(0.17, 0.24)),
            arms=float(rng.uniform(0.92, 1.08)),
            legs=float(rng.uniform(0.93, 1.07)),
            girth=float(rng.uniform(0.85, 1.25)),
        ),
        own="left" if number % 4 == 3 else "right",
        amplitude={side: float(rng.uniform(0.74, 1.08)) for side in SIDES},
        tempo=float(rng.uniform(0.8, 1.25)),
        lean=rng.normal(0, [0.08, 0.045, 0.08]),
        stance=float(rng.uniform(0.0, 0.12)),
        shirt=_colour(hue, rng.uniform(0.55, 0.95), rng.uniform(0.55, 0.95)),
        trousers=_colour(
            (hue + rng.uniform(0.3, 0.7)) % 1, rng.uniform(0.2, 0.7), rng.uniform(0.25, 0.5)
        ),
        shoes=_colour(rng.uniform(), 0.3, rng.choice([0.15, 0.9])),
        skin=np.array(_SKIN[int(rng.integers(4))]),
        hair=np.array(_HAIR[int(rng.integers(4))]),
        sleeves=bool(rng.uniform() < 0.5),
    )


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    return value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))


def perform(
    action: Action, subjects: tuple[Performer, ...], fps: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the joints of one performance, (M, T, 25, 3) metres in the room.

    The floor is y = 0, and the origin the middle of the scene; one person faces -z, two persons
    stand along x and face each other.
    """
    actor = subjects[0]
    tempo = actor.tempo * rng.uniform(0.85, 1.18)
    frames = max(16, round(action.seconds * tempo * fps))
    beats = rng.uniform(0.75, 1.3)
    bodies = []
    for person, pose in enumerate(_styled(action, subjects, frames, beats, rng)):
        positions = joints(pose, subjects[person].proportions)
        if action.apart:
            # Person 0 stands left in the room and faces its right, person 1 the other way round.
            sign = 1.0 if person == 0 else -1.0
            x, z = positions[..., 0].copy(), positions[..., 2].copy()
            positions[..., 0], positions[..., 2] = -sign * z, sign * x
            positions[..., 0] -= sign * action.apart / 2
        bodies.append(positions)
    return np.stack(bodies)


def _styled(
    action: Action,
    subjects: tuple[Performer, ...],
    frames: int,
    beats: float,
    rng: np.random.Generator,
) -> tuple[Pose, ...]:
    """Perform the action in the subjects' own manner."""
    actor = subjects[0]
    before, after = rng.uniform(0.0, 0.33), rng.uniform(0.0, 0.33)
    facing = rng.uniform(-0.6, 0.6) if action.persons == 1 else 0.0
    p = np.clip((np.linspace(0, 1, frames) - before) / (1 - before - after), 0, 1)
    p = p + rng.uniform(-0.6, 0.6) * np.sin(2 * np.pi * p) / (2 * np.pi)
    styled = poses(action, p, beats, actor.own)
    for pose, person in zip(styled, subjects, strict=False):
        for side, hand in pose.hands.items():
            reach = np.clip(person.amplitude[side] * rng.uniform(0.8, 1.12), 0, 1.15)
            drift = rng.normal(0, 0.09, 3) + _sway(frames, 0.06, rng)
            pose.hands[side] = _reached(hand, reach) + drift
        for side in SIDES:
            if side not in pose.hands:
                hanging = HANGING + rng.normal(0, [0.05, 0.01, 0.09]) + _sway(frames, 0.04, rng)
                hanging = hanging + _fidget(frames, rng)
                pose.hands[side] = _kept_hanging(hanging, pose)
            reach = person.amplitude[side] * rng.uniform(0.88, 1.1)
            pose.feet[side] = pose.feet[side] * reach + [person.stance, 0.0, 0.0]
            pose.feet[side] += [rng.normal(0, 0.015), 0.0, rng.normal(0, 0.03)]
        pose.torso = pose.torso * rng.uniform(0.8, 1.1) + person.lean + _sway(frames, 0.06, rng)
        pose.head = pose.head * rng.uniform(0.75, 1.15) + _sway(frames, 0.06, rng)
        pose.hips = pose.hips * rng.uniform(0.85, 1.08) + _sway(frames, 0.03, rng) * [1, 0.2, 1]
        pose.place = pose.place + _sway(frames, 0.02, rng)
        pose.place[:, 2] += facing + rng.normal(0, 0.12)
    return styled


def _reached(hand: np.ndarray, amplitude: float) -> np.ndarray:
    """Move a hand less or further from hanging, but stretch the arm as before."""
    less = HANGING + amplitude * (hand - HANGING)
    stretch = np.linalg.norm(hand, axis=-1) / np.maximum(np.linalg.norm(less, axis=-1), 0.2)
    return less * np.clip(stretch, 0.5, 2.0)[:, None]


def _kept_hanging(hand: np.ndarray, pose: Pose) -> np.ndarray:
    """Let an idle arm hang down although its shoulder leans with the torso."""
    lean = pose.torso[:, 0]
    up, forward = hand[:, 1], hand[:, 2]
    cos, sin = np.cos(lean), np.sin(lean)
    return np.stack([hand[:, 0], cos * up + sin * forward, -sin * up + cos * forward], -1)


def _fidget(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Random movement of an idle hand: near the body and back, (T, 3)."""
    goal = rng.uniform([-0.3, 0.1, 0.1], [0.15, 0.8, 0.5])
    start, length = rng.uniform(0.0, 0.6), rng.uniform(0.3, 0.6)
    inside = np.clip((np.linspace(0, 1, frames) - start) / length, 0, 1)
    strength = rng.uniform(0.2, 1.0) * (rng.uniform() < 0.5)
    return strength * np.sin(np.pi * inside)[:, None] ** 2 * goal


def _sway(frames: int, size: float, rng: np.random.Generator) -> np.ndarray:
    """Slow wandering, (T, 3)."""
    time = np.linspace(0, 1, frames)[:, None, None]
    rate, phase = rng.uniform(0.4, 2.2, (1, 2, 3)), rng.uniform(0, 2 * np.pi, (1, 2, 3))
    return size * np.sin(2 * np.pi * rate * time + phase).mean(1)

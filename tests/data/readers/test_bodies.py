"""Joints that were not found, and who is who among several people."""

import numpy as np
import pytest

from skelfew.data.readers.bodies import Person, fill_missing, two_bodies

RNG, V = np.random.default_rng(0), 5


def test_an_absent_body_is_not_filled_in() -> None:
    positions = RNG.uniform(100, 400, (2, 6, V, 3)).astype(np.float32)
    missing = np.zeros((2, 6, V), dtype=bool)
    missing[1, :4] = True
    missing[0, 3, 2] = True
    filled, share = fill_missing(positions, missing, 2)
    assert not filled[1, :4].any() and share == pytest.approx(1 / (8 * V))
    np.testing.assert_array_equal(filled[1, 4:], positions[1, 4:])


def walker(frames: int, x: float, speed: float, confidence: float = 0.8) -> list[np.ndarray]:
    body = np.array([[0, 0], [0, 20], [-20, 50], [20, 50], [0, 100]])
    joints = np.concatenate([body, np.full((V, 1), confidence)], axis=1, dtype=np.float32)
    return [joints + np.array([x + speed * t, 0, 0], np.float32) for t in range(frames)]


def test_people_are_followed_whatever_their_order() -> None:
    left, right = walker(30, 0, 5), walker(30, 400, -5, 0.7)
    frames = [
        [Person(a), Person(b)][:: 1 if t % 3 else -1]
        for t, (a, b) in enumerate(zip(left, right, strict=True))
    ]
    frames[7] = frames[7][:1]  # one of them is missed once
    frames[20].append(Person(walker(1, 900, 0)[0]))  # somebody in the background
    bodies, notes = two_bodies(frames)
    assert bodies.shape == (2, 30, V, 3)
    seen = bodies.any(axis=(2, 3))
    assert seen.sum() == 59
    for body, track in zip(bodies, (left, right), strict=True):
        for t, joints in enumerate(body):
            assert not joints.any() or np.array_equal(joints, track[t])
    assert notes == ("1 of 3 tracks of people left out",)


def test_a_person_who_comes_back_is_the_same_body() -> None:
    there = walker(60, 0, 1)
    frames = [[Person(j)] if not 20 <= t < 40 else [] for t, j in enumerate(there)]
    bodies, notes = two_bodies(frames)
    assert len(bodies) == 1 and not notes
    assert bodies[0].any(axis=(1, 2)).sum() == 40


def test_a_trackers_numbers_are_believed() -> None:
    """Two people who stand in one place and change it in a single frame."""
    a, b = walker(20, 0, 0), walker(20, 30, 0, 0.7)
    frames = [
        [Person(a[t] if t < 10 else b[t], 4), Person(b[t] if t < 10 else a[t], 9)]
        for t in range(20)
    ]
    bodies, _ = two_bodies(frames)
    one = {tuple(body[:, 0, 0]) for body in bodies}
    assert one == {tuple([0.0] * 10 + [30.0] * 10), tuple([30.0] * 10 + [0.0] * 10)}

"""Curves over a phase p from 0 to 1, of which the motions are made."""

from collections.abc import Callable

import numpy as np

# From phases (T,) and a number of beats relative to usual to channels of a pose.
Curve = Callable[[np.ndarray, float], dict[str, np.ndarray]]
DEGREE = np.pi / 180


def ease(p: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Rise from 0 to 1 between two phases, with minimum jerk."""
    x = np.clip((p - start) / (stop - start), 0, 1)
    return x**3 * (10 - 15 * x + 6 * x**2)


def keys(p: np.ndarray, *points: tuple[float, object]) -> np.ndarray:
    """Go from one key value to the next, resting at each; (T,) or (T, k) like the values."""
    values = [np.asarray(value, dtype=float) for _, value in points]
    out = np.broadcast_to(values[0], (len(p), *values[0].shape)).copy()
    for (start, _), (stop, _), one, other in zip(
        points, points[1:], values, values[1:], strict=False
    ):
        out += np.multiply.outer(ease(p, start, stop), other - one)
    return out


def beat(p: np.ndarray, count: float, start: float = 0.2, stop: float = 0.8) -> np.ndarray:
    """Oscillate between -1 and 1, ``count`` whole periods between two phases, 0 outside."""
    inside = np.clip((p - start) / (stop - start), 0, 1)
    return np.sin(2 * np.pi * max(1, round(count)) * inside)


def columns(p: np.ndarray, **columns: float | np.ndarray) -> np.ndarray:
    """Stack ``x``, ``y``, ``z`` columns to (T, 3); absent ones are 0."""
    out = np.zeros((len(p), 3))
    for name, value in columns.items():
        out[:, "xyz".index(name)] = value
    return out


def swept(angle: np.ndarray) -> np.ndarray:
    """A straight arm swung forwards and up by ``angle`` radians from hanging."""
    return np.stack([np.full_like(angle, 0.12), -np.cos(angle), np.sin(angle)], -1) * 0.975

"""Raw files in the real formats, made up for tests."""

from collections.abc import Callable, Sequence

import numpy as np

Joints = Callable[[int, int], np.ndarray]  # (body from 1, frame) to (25, 3)


def skeleton_text(
    bodies_per_frame: Sequence[Sequence[int]],
    joints: Joints,
    decimals: int = 6,
    first_id: int = 7000,
) -> bytes:
    """Return a ``.skeleton`` file; a joint at x, y has the colour pixel (900 + 100 x, 500 - y)."""
    lines = [str(len(bodies_per_frame))]
    for frame, bodies in enumerate(bodies_per_frame):
        lines.append(str(len(bodies)))
        for body in bodies:
            lines += [f"{first_id + body} 0 1 1 1 1 0 0.027 0.057 2", "25"]
            for x, y, z in joints(body, frame):
                position = " ".join(f"{value:.{decimals}f}" for value in (x, y, z))
                pixel = f"{900 + 100 * x:.4f} {500 - y:.4f}"
                lines.append(f"{position} 277.419 191.8 {pixel} -0.2 0.05 0.97 0.1 2")
    return ("\n".join(lines) + "\n").encode()


def golden_joints(body: int, frame: int) -> np.ndarray:
    """The joint rule of ``tests/golden/denoise.json``."""
    j = np.arange(25)
    x = 0.2 * body + 0.1 * np.sin(0.3 * frame + 0.2 * j + body)
    y = 0.05 * j + (0.02 * frame if body == 1 else 0.0)
    z = 2 + 0.1 * np.cos(0.1 * j + 0.2 * frame)
    return np.stack([x, y, z], axis=1)

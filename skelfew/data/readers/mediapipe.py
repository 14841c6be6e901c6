"""MediaPipe's pose landmarks as arrays (T, 33, 3 to 5): x, y, z, visibility, presence.

Its world landmarks are in metres from the middle of the hips: x to the right of the picture, y
downwards, z away from the camera. Here, as Kinect has it, y points upwards; half a turn about the
camera's axis, (-x, -y, z), does that and keeps left and right as they are. Its picture landmarks
are shares of the picture, and their z is on another scale: they are 2D.
"""

import numpy as np

from skelfew.errors import SkelfewError

_HIPS = (23, 24)
_NEAR = 0.05  # of the origin that the middle of the hips is, in world landmarks


def upright(world: np.ndarray) -> np.ndarray:
    """Return world landmarks (..., 3) with y upwards: (-x, -y, z)."""
    return world * np.array([-1, -1, 1], dtype=world.dtype)


def from_mediapipe(values: np.ndarray, asked: str) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Return joints (M, T, 33, C), with any confidence, and how many C are position.

    ``asked`` is 2, 3, or auto: world landmarks are those around the middle of the hips. Raises
    SkelfewError for three values that are neither pixels nor world landmarks.
    """
    channels = values.shape[-1]
    if channels == 2:
        return values, 2, ()
    known = values[np.isfinite(values).all(axis=-1).all(axis=-1) & values.any(axis=(-1, -2))]
    middle = known[:, _HIPS, :3].mean(axis=1)
    world = len(middle) > 0 and float(np.median(np.abs(middle))) < _NEAR
    if channels == 3 and not world and asked == "auto":
        raise SkelfewError(
            "three values a joint are x, y, visibility or x, y, z of pose_landmarks; say --option "
            "coordinates=2 for the first, save pose_world_landmarks (x, y, z) for 3D, or keep all "
            "of x, y, z, visibility"
        )
    if asked == "3" or (world and asked == "auto"):
        return np.concatenate([upright(values[..., :3]), values[..., 3:4]], axis=-1), 3, ()
    if channels == 3:
        return values, 2, ()
    return values[..., [0, 1, 3]], 2, ("picture landmarks: x, y and visibility are used",)

"""The Kinect of the demo world: where its cameras stand and how wrongly it sees joints."""

from dataclasses import dataclass

import numpy as np

from skelfew_extract.demoworld.body import JOINT

# Azimuth and elevation of the three cameras in degrees; samples vary around them.
CAMERAS = ((0.0, 3.0), (45.0, 12.0), (-45.0, 6.0))

_SIGMA = np.full(len(JOINT), 0.006)
for _word, _size in (
    ("elbow", 0.011), ("wrist", 0.015), ("hand", 0.020), ("hand_tip", 0.034), ("thumb", 0.034),
    ("knee", 0.009), ("ankle", 0.014), ("foot", 0.022), ("head", 0.008),
):  # fmt: skip
    for _name, _joint in JOINT.items():
        if _name.split("_", 1)[-1] == _word or _name == _word:
            _SIGMA[_joint] = _size
LIMBS = tuple(
    tuple(JOINT[f"{side}_{name}"] for name in names)
    for side in ("left", "right")
    for names in (("elbow", "wrist", "hand", "hand_tip", "thumb"), ("knee", "ankle", "foot"))
)
_TORSO = [JOINT[n] for n in ("spine_base", "spine_mid", "neck", "spine_shoulder", "head")]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at the scene's middle, from the right, above (in radians)."""

    azimuth: float
    elevation: float
    distance: float
    target: float
    size: tuple[int, int]

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return 1.0 * self.size[0]

    @property
    def axes(self) -> np.ndarray:
        """Rows: right, up and away of the camera in the room, (3, 3)."""
        ca, sa = np.cos(self.azimuth), np.sin(self.azimuth)
        ce, se = np.cos(self.elevation), np.sin(self.elevation)
        away = np.array([-sa * ce, -se, ca * ce])
        right = np.array([ca, 0.0, sa])
        return np.stack([right, np.array([-sa * se, ce, ca * se]), away])

    @property
    def position(self) -> np.ndarray:
        return np.array([0.0, self.target, 0.0]) - self.distance * self.axes[2]

    def see(self, room: np.ndarray) -> np.ndarray:
        """Turn (..., 3) positions in the room into camera coordinates."""
        return (room - self.position) @ self.axes.T

    def project(self, seen: np.ndarray) -> np.ndarray:
        """Return (..., 2) pixels (x right, y down) of camera coordinates."""
        width, height = self.size
        scale = self.focal / np.maximum(seen[..., 2], 0.1)
        return np.stack(
            [width / 2 + scale * seen[..., 0], height / 2 - scale * seen[..., 1]], axis=-1
        )


def place_camera(
    view: int, persons: int, size: tuple[int, int], rng: np.random.Generator
) -> Camera:
    """Return camera ``view`` (1-based) as it is placed for one sample."""
    azimuth, elevation = CAMERAS[view - 1]
    return Camera(
        azimuth=np.deg2rad(azimuth + rng.uniform(-15, 15)),
        elevation=np.deg2rad(elevation + rng.uniform(-2.5, 2.5)),
        distance=float(rng.uniform(3.05, 3.5) + 0.40 * (persons - 1)),
        target=float(rng.uniform(0.98, 1.08)),
        size=size,
    )


def hidden(seen: np.ndarray) -> np.ndarray:
    """Return which joints (M, T, 25) a torso, head or thigh hides from the camera."""
    bodies, frames, count = seen.shape[:3]
    out = np.zeros((bodies, frames, count), dtype=bool)
    flat = seen[..., :2] / np.maximum(seen[..., 2:], 0.1)
    for m in range(bodies):
        for one, other, radius in (
            ("spine_base", "spine_shoulder", 0.13),
            ("left_hip", "left_knee", 0.06),
            ("right_hip", "right_knee", 0.06),
            ("head", "neck", 0.09),
        ):
            a, b = flat[m, :, JOINT[one]], flat[m, :, JOINT[other]]
            za, zb = seen[m, :, JOINT[one], 2], seen[m, :, JOINT[other], 2]
            way = b - a
            for k in range(bodies):
                off = flat[k] - a[:, None]
                t = (off * way[:, None]).sum(-1) / np.maximum((way**2).sum(-1), 1e-9)[:, None]
                t = np.clip(t, 0, 1)
                depth = za[:, None] + t * (zb - za)[:, None]
                gap = np.linalg.norm(off - t[..., None] * way[:, None], axis=-1) * depth
                behind = seen[k, ..., 2] > depth + 0.05
                covers = (gap < radius) & behind
                if k == m:
                    covers[:, [*_TORSO, JOINT[one], JOINT[other]]] = False
                out[k] |= covers
    return out


def observe(seen: np.ndarray, fps: int, rng: np.random.Generator) -> np.ndarray:
    """Return what the sensor makes of true joints (M, T, 25, 3) in camera coordinates.

    Joints jitter, hands and feet most; hidden joints lag, are drawn towards what hides them and
    wander; limbs freeze for some frames; sideways bodies have limbs exchanged; now and then a
    body is lost for some frames (all zeros), never in the first or the last frame.
    """
    bodies, frames, count = seen.shape[:3]
    blind = hidden(seen)
    noise = _SIGMA[:, None] * np.array([1.0, 1.0, 1.6])
    white, slow = rng.normal(size=(2, bodies, frames, count, 3))
    keep = 0.8 ** (15 / fps)
    for t in range(1, frames):
        slow[:, t] = keep * slow[:, t - 1] + np.sqrt(1 - keep**2) * slow[:, t]
    out = seen + noise * (1.0 * white + 1.3 * slow)
    out += np.where(blind[..., None], slow * [0.07, 0.07, 0.11], 0.0)
    for t in range(1, frames):
        lag = 0.75 * blind[:, t, :, None]
        out[:, t] = lag * (out[:, t - 1] - [0.0, 0.0, 0.01]) + (1 - lag) * out[:, t]
    for m in range(bodies):
        for limb in LIMBS:
            if rng.uniform() < 0.25:
                start, stop = _run(frames, 2, max(3, frames // 6), rng)
                out[m, start:stop, limb] = out[m, start - 1, limb][:, None]
        hips = seen[m, :, JOINT["left_hip"]] - seen[m, :, JOINT["right_hip"]]
        sideways = np.abs(hips[:, 2]).mean() > 0.09
        for left, right in (LIMBS[0::2], LIMBS[1::2]):
            if rng.uniform() < (0.2 if sideways else 0.04):
                start, stop = _run(frames, 2, max(3, frames // 5), rng)
                swapped = out[m, start:stop, right].copy()
                out[m, start:stop, right] = out[m, start:stop, left]
                out[m, start:stop, left] = swapped
        if rng.uniform() < 0.05:
            start, stop = _run(frames, 1, 4, rng)
            out[m, start:stop] = 0.0
    return out.astype(np.float32)


def _run(frames: int, shortest: int, longest: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return start and stop of a run of frames that spares the first and the last."""
    length = int(rng.integers(shortest, longest + 1))
    start = int(rng.integers(1, max(2, frames - length - 1)))
    return start, min(start + length, frames - 1)

"""A small rasteriser: shaded limbs with a depth buffer; all frames at once, limb by limb."""

from dataclasses import dataclass

import numpy as np

from skelfew_extract.demoworld.body import JOINT
from skelfew_extract.demoworld.performer import Performer
from skelfew_extract.demoworld.sensor import Camera

_LIGHT = np.array([-0.45, 0.65, -0.62], dtype=np.float32)
_SIDED_LIMBS = (
    # from, to, radius at either end in metres, what it wears
    ("shoulder", "elbow", 0.054, 0.046, "shirt"),
    ("elbow", "wrist", 0.043, 0.034, "sleeve"),
    ("wrist", "hand_tip", 0.036, 0.042, "skin"),
    ("hip", "knee", 0.083, 0.062, "trousers"),
    ("knee", "ankle", 0.058, 0.044, "trousers"),
    ("ankle", "foot", 0.048, 0.042, "shoes"),
)
_LIMBS = (
    *(
        (f"{side}_{one}", f"{side}_{other}", first, second, wears)
        for side in ("left", "right")
        for one, other, first, second, wears in _SIDED_LIMBS
    ),
    ("left_shoulder", "left_hip", 0.075, 0.075, "shirt"),
    ("right_shoulder", "right_hip", 0.075, 0.075, "shirt"),
    ("spine_shoulder", "spine_base", 0.115, 0.115, "shirt"),
    ("left_shoulder", "right_shoulder", 0.062, 0.062, "shirt"),
    ("left_hip", "right_hip", 0.095, 0.095, "trousers"),
    ("spine_shoulder", "head", 0.052, 0.052, "skin"),
    ("head", "head", 0.112, 0.112, "head"),
)


@dataclass
class _Canvas:
    """Frames under construction: colour (T * H * W, 3) and depth (T * H * W,)."""

    colour: np.ndarray
    depth: np.ndarray
    frames: int
    width: int
    height: int

    def patches(
        self, low: np.ndarray, high: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return frame, flat index, x and y of the pixels of a box (T, 2)..(T, 2) per frame."""
        low = np.floor(low).astype(np.int32)
        extent = np.ceil(high - low).astype(np.int32).max(0) + 1
        extent = np.minimum(extent, [self.width, self.height])
        x = low[:, :1] + np.arange(extent[0], dtype=np.int32)
        y = low[:, 1:] + np.arange(extent[1], dtype=np.int32)
        inside = ((y >= 0) & (y < self.height))[:, :, None] & ((x >= 0) & (x < self.width))[:, None]
        frame, row, column = np.nonzero(inside)
        x, y = x[frame, column], y[frame, row]
        return frame, (frame * self.height + y) * self.width + x, x, y


def render(
    seen: np.ndarray, subjects: tuple[Performer, ...], camera: Camera, rng: np.random.Generator
) -> np.ndarray:
    """Return the video of true joints (M, T, 25, 3) in camera coordinates, (T, H, W, 3) uint8."""
    frames = seen.shape[1]
    width, height = camera.size
    still = background(camera, rng)
    canvas = _Canvas(
        np.tile(still.reshape(-1, 3), (frames, 1)),
        np.full(frames * width * height, np.inf, dtype=np.float32),
        frames,
        width,
        height,
    )
    floor = camera.see(np.zeros(3))
    for positions in seen:
        _shadow(canvas, positions, camera, float(floor @ camera.axes[:, 1]))
    for positions, person in zip(seen, subjects, strict=False):
        _draw_person(canvas, positions.astype(np.float32), person, camera)
    return (
        np.clip(canvas.colour * 255 + 0.5, 0, 255)
        .astype(np.uint8)
        .reshape(frames, height, width, 3)
    )


def _draw_person(canvas: _Canvas, positions: np.ndarray, person: Performer, camera: Camera) -> None:
    pixels = camera.project(positions).astype(np.float32)
    scale = (camera.focal / np.maximum(positions[..., 2], 0.3)).astype(np.float32)
    colours = {
        "shirt": person.shirt,
        "sleeve": person.shirt if person.sleeves else person.skin,
        "trousers": person.trousers,
        "shoes": person.shoes,
        "skin": person.skin,
        "head": person.skin,
    }
    face = _facing(positions)
    for one, other, first, second, wears in _LIMBS:
        a, b = JOINT[one], JOINT[other]
        girth = 1.0 if wears == "head" else person.proportions.girth
        _draw_limb(
            canvas,
            (pixels[:, a], pixels[:, b]),
            (positions[:, a, 2], positions[:, b, 2]),
            (first * girth * scale[:, a], second * girth * scale[:, b]),
            max(first, second) * girth,
            colours[wears].astype(np.float32),
            "spine" not in one and other.split("_")[-1] not in ("hip", "shoulder"),
            (face, person.hair.astype(np.float32)) if wears == "head" else None,
        )


def _draw_limb(
    canvas: _Canvas,
    ends: tuple[np.ndarray, np.ndarray],
    depths: tuple[np.ndarray, np.ndarray],
    radii: tuple[np.ndarray, np.ndarray],
    thickness: float,
    colour: np.ndarray,
    outlined: bool,
    head: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """Draw a capsule in every frame; ends (T, 2) and radii (T,) in pixels, depths in metres."""
    (a, b), (ra, rb) = ends, radii
    reach = np.maximum(ra, rb)[:, None] + 1
    frame, index, x, y = canvas.patches(np.minimum(a, b) - reach, np.maximum(a, b) + reach)
    way = b - a
    length = np.maximum((way**2).sum(-1), 1e-6)
    dx, dy = x - a[frame, 0], y - a[frame, 1]
    t = np.clip((dx * way[frame, 0] + dy * way[frame, 1]) / length[frame], 0, 1)
    dx -= t * way[frame, 0]
    dy -= t * way[frame, 1]
    radius = ra[frame] + t * (rb - ra)[frame]
    distance = np.sqrt(dx**2 + dy**2)
    hit = np.flatnonzero(distance < radius + 0.5)
    frame, index, t, radius, distance = (v[hit] for v in (frame, index, t, radius, distance))
    nx, ny = dx[hit] / radius, -dy[hit] / radius
    nz = np.sqrt(np.maximum(0, 1 - nx**2 - ny**2))
    depth = depths[0][frame] + t * (depths[1] - depths[0])[frame] - thickness * nz
    near = np.flatnonzero(depth < canvas.depth[index])
    frame, index, depth, nx, ny, nz = (v[near] for v in (frame, index, depth, nx, ny, nz))
    cover = np.clip(radius[near] + 0.5 - distance[near], 0, 1)
    light = np.maximum(0, nx * _LIGHT[0] + ny * _LIGHT[1] - nz * _LIGHT[2])
    shade = 0.50 + 0.55 * light
    if outlined:
        shade *= np.where(nz < 0.45, 0.45 + 1.2 * nz, 1.0)
    paint = colour[None] * shade[:, None]
    if head is not None:
        face, hair = head
        f = face[frame]
        ahead = nx * f[:, 0] + ny * f[:, 1] - nz * f[:, 2]
        haired = (ahead < 0.12) | ((ny > 0.45) & (ahead < 0.8))
        paint[haired] = hair * shade[haired, None]
    blend = cover[:, None]
    canvas.colour[index] = blend * paint + (1 - blend) * canvas.colour[index]
    solid = cover > 0.5
    canvas.depth[index[solid]] = depth[solid]


def _facing(positions: np.ndarray) -> np.ndarray:
    """Return where the head looks, unit vectors (T, 3) in camera coordinates."""
    across = positions[:, JOINT["right_shoulder"]] - positions[:, JOINT["left_shoulder"]]
    up = positions[:, JOINT["neck"]] - positions[:, JOINT["spine_mid"]]
    chest = np.cross(up, across)
    chest /= np.maximum(np.linalg.norm(chest, axis=-1, keepdims=True), 1e-6)
    head = positions[:, JOINT["head"]] - positions[:, JOINT["neck"]]
    along = up / np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-6)
    gaze = chest + 3.0 * (head - (head * along).sum(-1, keepdims=True) * along)
    return gaze / np.maximum(np.linalg.norm(gaze, axis=-1, keepdims=True), 1e-6)


def _shadow(canvas: _Canvas, positions: np.ndarray, camera: Camera, floor: float) -> None:
    """Darken the floor below the pelvis and the feet."""
    up = camera.axes[:, 1]
    for name, size in (("spine_base", 0.30), ("left_ankle", 0.16), ("right_ankle", 0.16)):
        spot = positions[:, JOINT[name]]
        spot = spot + (floor - spot @ up)[:, None] * up
        pixel = camera.project(spot)
        rx = camera.focal * size / spot[:, 2]
        radii = np.stack([rx, 0.32 * rx], -1)
        frame, index, x, y = canvas.patches(pixel - radii, pixel + radii)
        off = ((x - pixel[frame, 0]) / radii[frame, 0]) ** 2
        off += ((y - pixel[frame, 1]) / radii[frame, 1]) ** 2
        hit = np.flatnonzero(off < 1)
        canvas.colour[index[hit]] *= (0.62 + 0.38 * off[hit])[:, None].astype(np.float32)


def background(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Return an empty room, (H, W, 3) float32 in 0..1: wall, floor, and things on the wall."""
    width, height = camera.size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(x - width / 2), (height / 2 - y), np.full_like(x, camera.focal)], -1)
    rays = rays @ camera.axes / camera.focal
    away = camera.axes[2] * [1, 0, 1]
    away /= np.linalg.norm(away)
    across = np.array([away[2], 0.0, -away[0]])
    origin = camera.position
    wall_at = rng.uniform(1.5, 2.4) - origin @ away
    to_wall = wall_at / np.maximum(rays @ away, 0.05)
    to_floor = np.where(rays[..., 1] < -1e-3, -origin[1] / np.minimum(rays[..., 1], -1e-3), np.inf)
    is_floor = to_floor < to_wall
    point = origin + np.minimum(to_wall, to_floor)[..., None] * rays
    u, v, w = point @ across, point[..., 1], point @ away

    room = (
        _pale(rng) * (0.92 + 0.05 * np.sin(u * rng.uniform(0.5, 2) + rng.uniform(0, 6)))[..., None]
    )
    style = int(rng.integers(3))
    if style == 1:
        room *= np.where(np.floor(u * rng.uniform(2, 5)) % 2 == 0, 1.0, 0.93)[..., None]
    elif style == 2:
        room[v < rng.uniform(0.7, 1.1)] = _pale(rng) * 0.85
    for _ in range(int(rng.integers(1, 5))):
        left, low = rng.uniform(-2.2, 1.6), rng.uniform(0.0, 1.6)
        wide, tall = rng.uniform(0.3, 1.1), rng.uniform(0.3, 1.2)
        on = (u > left) & (u < left + wide) & (v > low) & (v < low + tall)
        edge = on & ~((u > left + 0.05) & (u < left + wide - 0.05) & (v < low + tall - 0.05))
        room[on], room[edge] = _pale(rng) * rng.uniform(0.5, 1.1), _pale(rng) * 0.6
    room[(v < 0.09) & ~is_floor] = _pale(rng) * 0.7

    tile, angle = rng.uniform(0.25, 0.8), rng.uniform(0, np.pi / 2)
    gu = np.cos(angle) * u + np.sin(angle) * w
    gw = np.cos(angle) * w - np.sin(angle) * u
    checks = np.floor(gu / tile) + (np.floor(gw / tile) if rng.uniform() < 0.5 else 0)
    ground = _pale(rng) * rng.uniform(0.5, 0.9)
    pattern = np.where(checks % 2 == 0, 1.0, rng.uniform(0.78, 0.95))[..., None]
    room[is_floor] = (ground * pattern)[is_floor]
    grain = rng.normal(0, 0.02, (height // 4 + 1, width // 4 + 1))
    room += np.kron(grain, np.ones((4, 4)))[:height, :width, None]
    return np.clip(room, 0, 1).astype(np.float32)


def _pale(rng: np.random.Generator) -> np.ndarray:
    """A muted colour, as walls have."""
    grey = rng.uniform(0.5, 0.88)
    return np.clip(grey + rng.uniform(-0.11, 0.11, 3), 0, 1)

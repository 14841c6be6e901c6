"""Projection of joints onto a picture, and drawing of a body."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from skelfew.data.joints.layouts import Layout
from skelfew.errors import SkelfewError

VIEWS = ("front", "side", "top")
UPS = ("y", "-y", "z")
Colour = tuple[int, int, int]

GROUND: Colour = (250, 250, 248)
_BELOW: Colour = (236, 234, 229)  # under the floor
_GRID: Colour = (229, 229, 226)
_FLOOR: Colour = (150, 146, 138)
_FINE = 3  # pictures are drawn so many times larger and reduced, which smooths the lines
_ROOM = 0.08  # free space around the bodies, as a part of the picture's height
_LINES = 6  # grid lines over the height, at most
_GLOW: Colour = (255, 176, 0)
_GLOW_REACH = 0.09  # radius of the brightest joint's glow, as a part of the picture's height
_FLOOR_SHARE = 2.0  # the floor is this percentile of the lowest joints of all frames


class Palette(NamedTuple):
    """Colours of a body's left side, right side and middle (its own left, not the viewer's)."""

    left: Colour
    right: Colour
    middle: Colour


# Okabe and Ito's colours, distinct for colour-blind people too; more bodies begin again.
PALETTES = (
    Palette(left=(0, 114, 178), right=(213, 94, 0), middle=(64, 64, 68)),
    Palette(left=(0, 158, 115), right=(190, 90, 150), middle=(140, 140, 146)),
)


def evenly(frames: int, count: int) -> list[int]:
    """Return ``count`` frame numbers, the middles of equal parts, as the teacher's."""
    count = min(count, frames)
    return [int((i + 0.5) * frames / count) for i in range(count)]


def to_view(positions: np.ndarray, view: str = "front", up: str = "y") -> np.ndarray:
    """Turn joints (M, T, V, C) into (M, T, V, 3): to the right, upwards, towards the viewer.

    Args:
        positions: x, y or x, y, z.
        view: ``front`` as the camera sees it, ``side`` from the camera's right with the camera on
            the left, ``top`` from above with the camera below.
        up: Axis that points upwards: ``y`` for Kinect, ``-y`` for pixels and camera coordinates,
            ``z`` for motion capture.

    Raises:
        SkelfewError: An unknown view or axis, or one that flat joints do not have.
    """
    if view not in VIEWS or up not in UPS:
        raise SkelfewError(
            f"no view {view!r} with {up!r} upwards; views are {', '.join(VIEWS)}, "
            f"axes {', '.join(UPS)}"
        )
    if positions.shape[-1] == 2:
        if view != "front" or up == "z":
            raise SkelfewError(
                f"the skeletons are flat (x, y) and have no view {view!r} with {up!r} upwards; "
                "use --view front"
            )
        positions = np.concatenate([positions, np.zeros_like(positions[..., :1])], axis=-1)
    x, y, z = np.moveaxis(positions, -1, 0)
    right, height, away = {"y": (x, y, z), "-y": (x, -y, z), "z": (x, z, y)}[up]
    axes = {
        "front": (right, height, -away),
        "side": (away, height, right),
        "top": (right, away, height),
    }[view]
    return np.stack(axes, axis=-1)


def seen_joints(positions: np.ndarray, flat: bool = False) -> np.ndarray:
    """Return which joints (M, T, V) can be drawn.

    Not drawn are joints that are not finite, bodies that are all zeros (absent), and of ``flat``
    joints, which are x, y and perhaps a confidence, those at (0, 0) or of no confidence.
    """
    finite: np.ndarray = np.isfinite(positions).all(axis=-1)
    seen = finite & np.nan_to_num(positions).any(axis=(2, 3))[..., None]
    if flat:
        seen &= np.nan_to_num(positions[..., :2]).any(axis=-1)
        if positions.shape[-1] > 2:
            seen &= np.nan_to_num(positions[..., 2]) > 0
    return seen


@dataclass(frozen=True)
class Scene:
    """A fixed piece of space in which a recording is shown, so that motion stays visible."""

    points: np.ndarray  # joints (M, T, V, 3): to the right, upwards, towards the viewer
    seen: np.ndarray  # which of them are drawn (M, T, V)
    layout: Layout
    size: tuple[int, int]  # width and height of a picture, pixels
    centre: tuple[float, float]  # the point in its middle (2,)
    scale: float  # pixels per unit
    step: float  # distance of the grid's lines, in units; 0 for no grid
    floor: float | None  # height of the floor, None where there is none

    @classmethod
    def around(
        cls,
        positions: np.ndarray,
        layout: Layout,
        view: str = "front",
        up: str = "y",
        flat: bool = False,
        height: int = 240,
        width: int | None = None,
    ) -> "Scene":
        """Return the stage that a whole recording fits on.

        Args:
            positions: Joints (M, T, V, C), C 2 or 3; bodies that are all zeros are absent.
            view: One of ``VIEWS``.
            up: One of ``UPS``.
            flat: Whether the first two coordinates are a picture's and a third the confidence.
            height: Of a picture, pixels.
            width: Likewise; None for what the recording needs, between half and 1.4 of the height.

        Raises:
            SkelfewError: Joints that are not the layout's, or a view that they do not have.
        """
        if positions.ndim != 4 or positions.shape[2] != len(layout):
            raise SkelfewError(
                f"joints have shape {positions.shape}, expected (bodies, frames, {len(layout)}, "
                f"2 or 3) for layout {layout.name}"
            )
        seen = seen_joints(positions, flat)
        points = to_view(positions[..., :2] if flat else positions, view, up)
        shown = points[seen][:, :2] if seen.any() else np.array([[-1.0, -1.0], [1.0, 1.0]])
        low, high = shown.min(axis=0), shown.max(axis=0)
        extent = np.maximum(high - low, 1e-6 + 0.02 * (high - low).max())
        room = height * (1 - 2 * _ROOM)
        if width is None:
            needed = extent[0] / extent[1] * room + height - room
            width = int(np.clip(needed, height / 2, 1.4 * height))
        scale = float(min((width - height + room) / extent[0], room / extent[1]))
        floor = None
        if not flat and positions.shape[-1] == 3 and view != "top" and seen.any():
            heights = np.where(seen, points[..., 1], np.inf).min(axis=2)
            floor = float(np.percentile(heights[np.isfinite(heights)], _FLOOR_SHARE))
        middle = (low + high) / 2
        centre = (float(middle[0]), float(middle[1]))
        step = 0.0 if flat else _round_step(height / scale)
        return cls(points, seen, layout, (width, height), centre, scale, step, floor)

    def draw(self, frame: int, glow: np.ndarray | None = None) -> Image.Image:
        """Return the picture of one frame, RGB.

        Args:
            glow: How much each joint matters, 0 to 1 (M, V): the area of a disc behind it.
        """
        width, height = (_FINE * side for side in self.size)
        picture = Image.new("RGB", (width, height), GROUND)
        pen = ImageDraw.Draw(picture)
        self._draw_ground(pen, width, height)
        if glow is not None:
            self._draw_glow(pen, frame, glow)
        order = np.argsort([self._nearness(body, frame) for body in range(len(self.points))])
        for body in order:
            draw_body(
                pen,
                self._place(self.points[body, frame, :, :2]),
                self.seen[body, frame],
                self.layout,
                PALETTES[body % len(PALETTES)],
                thickness=height / 60,
                near=self.points[body, frame, :, 2],
            )
        return picture.resize(self.size, Image.Resampling.LANCZOS)

    def _draw_glow(self, pen: ImageDraw.ImageDraw, frame: int, glow: np.ndarray) -> None:
        reach = _GLOW_REACH * self.size[1] * _FINE
        for body in range(len(self.points)):
            places = self._place(self.points[body, frame, :, :2])
            for joint in np.flatnonzero(self.seen[body, frame] & (glow[body] > 0)):
                _dot(pen, places[joint], reach * float(np.sqrt(glow[body, joint])), _GLOW)

    def _nearness(self, body: int, frame: int) -> float:
        near = self.points[body, frame, self.seen[body, frame], 2]
        return float(near.mean()) if len(near) else -np.inf

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return where points (..., 2), to the right and upwards, come to lie, in pixels."""
        moved = (points - self.centre) * (self.scale, -self.scale)
        return moved + np.array(self.size) / 2

    def _place(self, points: np.ndarray) -> np.ndarray:
        """The same in the enlarged picture."""
        return self.place(points) * _FINE

    def _draw_ground(self, pen: ImageDraw.ImageDraw, width: int, height: int) -> None:
        level = None
        if self.floor is not None:
            level = float(self._place(np.array([0.0, self.floor]))[1])
            pen.rectangle((0, level, width, height), fill=_BELOW)
        if self.step:
            for axis, side in enumerate(self.size):
                reach = side / 2 / self.scale
                first = np.ceil((self.centre[axis] - reach) / self.step)
                count = int(2 * reach / self.step) + 1
                for value in (first + np.arange(count)) * self.step:
                    at = float(self._place(np.full(2, value))[axis])
                    line = (at, 0, at, height) if axis == 0 else (0, at, width, at)
                    pen.line(line, fill=_GRID, width=_FINE)
        if level is not None:
            pen.line((0, level, width, level), fill=_FLOOR, width=2 * _FINE)


def _round_step(height: float) -> float:
    """Return 1, 2 or 5 times a power of ten, so that at most ``_LINES`` of it fit the height."""
    power = 10.0 ** np.floor(np.log10(height / _LINES))
    return float(next(f * power for f in (1, 2, 5, 10) if f * power * _LINES >= height))


def draw_body(
    pen: ImageDraw.ImageDraw,
    points: np.ndarray,
    seen: np.ndarray,
    layout: Layout,
    palette: Palette,
    thickness: float,
    near: np.ndarray | None = None,
) -> None:
    """Draw bones and joints (V, 2) of one body in pixels, far ones first if ``near`` says so."""
    colours = _sides(layout, palette)
    depth = np.zeros(len(layout)) if near is None else near
    bones = [bone for bone in layout.bones if seen[bone[0]] and seen[bone[1]]]
    for child, parent in sorted(bones, key=lambda bone: float(depth[bone[0]] + depth[bone[1]])):
        _line(pen, points[child], points[parent], thickness, colours[child])
    for joint in sorted(np.flatnonzero(seen), key=lambda j: float(depth[j])):
        size = 0.75 if layout.joints[joint] != "head" else 1.7
        _dot(pen, points[joint], size * thickness, colours[joint])


def _sides(layout: Layout, palette: Palette) -> list[Colour]:
    colours = [palette.middle] * len(layout)
    for left, right in layout.mirror:
        colours[left], colours[right] = palette.left, palette.right
    return colours


def _line(
    pen: ImageDraw.ImageDraw,
    start: Sequence[float] | np.ndarray,
    end: Sequence[float] | np.ndarray,
    thickness: float,
    colour: Colour,
) -> None:
    ends = [float(value) for point in (start, end) for value in point]
    pen.line(ends, fill=colour, width=max(round(thickness), 1))
    for point in (start, end):
        _dot(pen, point, thickness / 2, colour)


def _dot(
    pen: ImageDraw.ImageDraw, point: Sequence[float] | np.ndarray, radius: float, colour: Colour
) -> None:
    x, y = float(point[0]), float(point[1])
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)

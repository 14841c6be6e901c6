"""Skeleton, label and a time line, drawn on the pictures of a video."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from skelfew_extract.camera import video_writer
from skelfew_extract.frames import all_frames

_WIDEST = 1280  # of the video that is written
_BODIES = ((60, 230, 120), (255, 120, 60))
_COLOURS = (
    (66, 133, 244), (244, 180, 0), (15, 157, 88), (219, 68, 55), (171, 71, 188), (0, 172, 193),
)  # fmt: skip
_DARK, _BRIGHT = (24, 24, 24), (240, 240, 240)


@dataclass(frozen=True)
class Span:
    """The label recognised from frame ``start`` to before ``end``."""

    start: int
    end: int
    label: str


class Annotator:
    """Draws on one picture after the other."""

    def __init__(self, bones: Sequence[tuple[int, int]]):
        self.bones = bones
        self._colour: dict[str, tuple[int, int, int]] = {}

    def draw(
        self,
        image: np.ndarray,
        pixels: np.ndarray | None,
        text: str,
        spans: Sequence[Span],
        frame: int,
        first: int,
        stop: int,
    ) -> np.ndarray:
        """Return an RGB picture (H, W, 3) with what was recognised, at most 1280 pixels wide.

        ``pixels`` are joints (M, V, 2), NaN where not found; the time line begins at the frame
        ``first``.
        """
        picture = Image.fromarray(image)
        scale = min(1.0, _WIDEST / picture.width)
        if scale < 1:
            picture = picture.resize((_WIDEST, round(picture.height * scale)))
        pen = ImageDraw.Draw(picture)
        size = max(12, picture.height // 24)
        for body, points in enumerate([] if pixels is None else pixels * scale):
            colour, wide = _BODIES[body % len(_BODIES)], max(2, picture.height // 160)
            for child, parent in self.bones:
                if np.isfinite(points[[child, parent]]).all():
                    pen.line([*points[child], *points[parent]], fill=colour, width=wide)
        self._write(pen, (size // 2, size // 3), text, size)
        self._time_line(pen, picture.size, size, spans, frame, first, stop)
        return np.asarray(picture)

    def _write(self, pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int) -> None:
        font = ImageFont.load_default(size)
        left, top, right, bottom = pen.textbbox(at, text, font=font)
        if text:
            pen.rectangle((left - 4, top - 4, right + 4, bottom + 4), fill=_DARK)
            pen.text(at, text, fill=_BRIGHT, font=font)

    def _time_line(
        self,
        pen: ImageDraw.ImageDraw,
        size: tuple[int, int],
        text: int,
        spans: Sequence[Span],
        frame: int,
        first: int,
        stop: int,
    ) -> None:
        width, height = size
        high = text + 6
        pen.rectangle((0, height - high, width, height), fill=_DARK)

        def x(at: int) -> float:
            return (min(max(at, first), stop) - first) / max(stop - first, 1) * width

        for span in spans:
            if span.end <= first or span.start >= stop:
                continue
            colour = self._colour.setdefault(
                span.label, _COLOURS[len(self._colour) % len(_COLOURS)]
            )
            pen.rectangle((x(span.start), height - high, x(span.end), height), fill=colour)
            font = ImageFont.load_default(max(9, text * 2 // 3))
            label, room = span.label, x(span.end) - x(span.start) - 6
            while label and pen.textlength(label, font=font) > room:
                label = label[:-1]
            pen.text((x(span.start) + 3, height - high + 3), label, fill=_DARK, font=font)
        pen.line((x(frame), height - high, x(frame), height), fill=_BRIGHT, width=2)


def annotate(
    video: Path,
    out: Path,
    bones: Sequence[tuple[int, int]],
    pixels: np.ndarray,
    spans: Sequence[Span],
    texts: Sequence[str],
    fps: float,
) -> None:
    """Write an MP4 of a video with skeletons, the label of the moment and a time line.

    ``pixels`` are joints (M, T, V, 2), NaN where not found; ``texts`` the line above, one a span.
    """
    pen, total = Annotator(bones), pixels.shape[1]

    def drawn() -> Iterator[np.ndarray]:
        for picture in all_frames(video):
            t = picture.number
            line = next((x for s, x in zip(spans, texts, strict=True) if s.start <= t < s.end), "")
            joints = pixels[:, t] if t < total else None
            yield pen.draw(picture.image, joints, line, spans, t, 0, total)

    with video_writer(out, fps) as add:
        for image in drawn():
            add(image)

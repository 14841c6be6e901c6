"""Contact sheets: what the teacher saw of a clip, as one picture for a person to look at."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from skelfew.data.manifest import file_name
from skelfew.io.writing import writing
from skelfew_extract.clips import ClipTask
from skelfew_extract.crop import Box

_CELL = 224  # width of a frame on the sheet, pixels
_GAP = 4
_TITLE = 28
_BACKGROUND, _INK = (24, 24, 24), (235, 235, 235)
_BOX_COLOUR = (255, 200, 0)
_BODY_COLOURS = ((0, 220, 255), (255, 90, 200), (140, 255, 90))


class Sheet:
    """A contact sheet, filled picture by picture: frames above, with box and joints, crops below.

    ``pixels`` are joints in the picture as shown (M, T, V, 2), NaN where unknown; ``indices`` the
    numbers of the frames in the video, (T,); ``task.sheet`` is where :meth:`write` writes.
    """

    def __init__(self, task: ClipTask, pixels: np.ndarray | None, indices: np.ndarray, box: Box):
        self.task, self.pixels, self.indices, self.box = task, pixels, indices, box
        self.image: Image.Image | None = None

    def add(self, i: int, frame: np.ndarray, crop: np.ndarray) -> None:
        """Draw picture ``i``: the full frame, RGB uint8 (H, W, 3), and its crop (3, S, S)."""
        height, width = frame.shape[:2]
        scale = _CELL / width
        cell_height = max(round(height * scale), 1)
        sheet = self.image or self._begin(cell_height)
        small = Image.fromarray(frame).resize((_CELL, cell_height), Image.Resampling.BILINEAR)
        pen = ImageDraw.Draw(small)
        for body, points in enumerate(self._joints_at(int(self.indices[i]))):
            colour = _BODY_COLOURS[body % len(_BODY_COLOURS)]
            for x, y in points[np.isfinite(points).all(axis=1)] * scale:
                pen.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)
        pen.rectangle([edge * scale for edge in self.box], outline=_BOX_COLOUR, width=2)
        pen.text((4, cell_height - 15), str(int(self.indices[i])), fill=_INK)
        left = _GAP + i * (_CELL + _GAP)
        sheet.paste(small, (left, _TITLE))
        cut = Image.fromarray(np.ascontiguousarray(crop.transpose(1, 2, 0)))
        sheet.paste(cut.resize((_CELL, _CELL)), (left, _TITLE + cell_height + _GAP))

    def write(self) -> None:
        """Write the PNG file."""
        assert self.task.sheet is not None and self.image is not None
        with writing(self.task.sheet) as file:
            self.image.save(file, format="PNG")

    def _begin(self, cell_height: int) -> Image.Image:
        width = len(self.indices) * (_CELL + _GAP) + _GAP
        size = (width, _TITLE + cell_height + _CELL + 3 * _GAP)
        self.image = Image.new("RGB", size, _BACKGROUND)
        pen, font = ImageDraw.Draw(self.image), ImageFont.load_default(14)
        pen.text((_GAP, 6), self.task.title, fill=_INK, font=font)
        return self.image

    def _joints_at(self, frame: int) -> np.ndarray:
        """Return the joints (M, V, 2) that belong to a video frame, NaN where unknown."""
        if self.pixels is None:
            return np.empty((0, 0, 2))
        return self.pixels[:, min(frame - self.task.start, self.pixels.shape[1] - 1)]


def sheet_path(folder: Path, sample_id: str) -> Path:
    """Return where the sheet of a sample goes; IDs cannot lead out of the folder."""
    return folder / f"{file_name(sample_id)}.png"

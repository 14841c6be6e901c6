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


def write_sheet(
    task: ClipTask, indices: np.ndarray, frames: np.ndarray, box: Box, clip: np.ndarray
) -> None:
    """Write the PNG file ``task.sheet``: frames with box and joints above, crops below.

    Args:
        task: The clip.
        indices: Number of each frame in the video, (T,).
        frames: Full frames, RGB uint8 (T, H, W, 3).
        box: What was cut out.
        clip: The crops, uint8 (T, 3, S, S).
    """
    assert task.sheet is not None
    sheet = contact_sheet(task, indices, frames, box, clip)
    with writing(task.sheet) as file:
        sheet.save(file, format="PNG")


def contact_sheet(
    task: ClipTask, indices: np.ndarray, frames: np.ndarray, box: Box, clip: np.ndarray
) -> Image.Image:
    """Return the sheet as a picture; arguments as for :func:`write_sheet`."""
    count, height, width = frames.shape[:3]
    scale = _CELL / width
    cell_height = max(round(height * scale), 1)
    step = _CELL + _GAP
    size = (count * step + _GAP, _TITLE + cell_height + _CELL + 3 * _GAP)
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 6), task.title, fill=_INK, font=ImageFont.load_default(14))
    for i in range(count):
        small = Image.fromarray(frames[i]).resize((_CELL, cell_height), Image.Resampling.BILINEAR)
        pen = ImageDraw.Draw(small)
        joints = _joints_at(task, int(indices[i]))
        for body, points in enumerate(joints):
            colour = _BODY_COLOURS[body % len(_BODY_COLOURS)]
            for x, y in points[np.isfinite(points).all(axis=1)] * scale:
                pen.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=colour)
        pen.rectangle([edge * scale for edge in box], outline=_BOX_COLOUR, width=2)
        pen.text((4, cell_height - 15), str(int(indices[i])), fill=_INK)
        sheet.paste(small, (_GAP + i * step, _TITLE))
        crop = Image.fromarray(np.ascontiguousarray(clip[i].transpose(1, 2, 0)))
        crop = crop.resize((_CELL, _CELL), Image.Resampling.BILINEAR)
        sheet.paste(crop, (_GAP + i * step, _TITLE + cell_height + _GAP))
    return sheet


def _joints_at(task: ClipTask, frame: int) -> np.ndarray:
    """Return the joints (M, V, 2) that belong to a video frame, NaN where unknown."""
    if task.pixels is None:
        return np.empty((0, 0, 2))
    position = min(frame - task.start, task.pixels.shape[1] - 1)
    return task.pixels[:, position]


def sheet_path(folder: Path, sample_id: str) -> Path:
    """Return where the sheet of a sample goes; IDs cannot lead out of the folder."""
    return folder / f"{file_name(sample_id)}.png"

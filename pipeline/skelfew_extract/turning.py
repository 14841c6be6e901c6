"""Pictures and joints as players show them: turned and mirrored by a video's display matrix.

A turn (a, b, c, d) takes a stored pixel to x' = a x + c y and y' = b x + d y, shifted into the
picture; each is -1, 0 or 1 (ISO/IEC 14496-12, 8.3.2: the matrix of a track).
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from skelfew_extract.video_index import VideoError

Turn = tuple[int, int, int, int]
STRAIGHT: Turn = (1, 0, 0, 1)


def turn_of(frame: Any, path: Path) -> Turn:
    """Return how a frame (of PyAV) is turned, from its display matrix."""
    kinds = importlib.import_module("av.sidedata.sidedata").Type
    data = frame.side_data.get(kinds.DISPLAYMATRIX)  # PyAV 19 iterates over kinds, before over data
    if data is None:
        return STRAIGHT
    a, b, c, d = (int(v) for v in np.frombuffer(bytes(data), dtype=np.int32)[[0, 1, 3, 4]])
    largest = max(abs(v) for v in (a, b, c, d))
    a, b, c, d = ((v > 0) - (v < 0) if 50 * abs(v) > largest else 0 for v in (a, b, c, d))
    if (a, b, c, d) == (0, 0, 0, 0):
        return STRAIGHT  # of no meaning; players show the picture as it is
    if abs(a * d) + abs(b * c) != 1:
        raise VideoError(
            f"{path}: its display matrix turns pictures by {frame.rotation} degrees; only "
            "quarter turns and mirroring are read, so write it anew without"
        )
    return a, b, c, d


def turned(image: np.ndarray, turn: Turn) -> np.ndarray:
    """Return a picture (H, W, 3) as it is shown."""
    if turn == STRAIGHT:
        return image
    a, b, c, d = turn
    across, down = (a, d) if a else (c, b)
    image = image if a else image.swapaxes(0, 1)
    return np.ascontiguousarray(image[:: down or 1, :: across or 1])


def shown_pixels(
    pixels: np.ndarray | None, width: int, height: int, turn: Turn
) -> np.ndarray | None:
    """Return joints (M, T, V, 2) in pixels of a picture as it is shown, NaN where unknown; or None.

    Pose estimators see pictures as they are shown, so joints count as such, unless more of them lie
    in the picture as it is stored: then they were found there, and are turned with it.
    """
    a, b, c, d = turn
    if pixels is None or turn == STRAIGHT:
        return pixels
    stored = (width, height) if a else (height, width)
    if _inside(pixels, stored) <= _inside(pixels, (width, height)):
        return pixels
    moved = pixels @ np.array([[a, b], [c, d]], dtype=pixels.dtype)
    shift = ((width - 1) * (a + c < 0), (height - 1) * (b + d < 0))
    return moved + np.array(shift, dtype=pixels.dtype)


def _inside(pixels: np.ndarray, size: tuple[int, int]) -> int:
    with np.errstate(invalid="ignore"):
        return int(((pixels >= 0) & (pixels < size)).all(axis=-1).sum())

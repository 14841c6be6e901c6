"""Frames of a sample's video for ``skelfew-show``, which finds this module by its import string."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from skelfew.data.manifest import Sample
from skelfew.io.paths import below
from skelfew_extract.crop import Box, CropError, CropSettings, clip_box
from skelfew_extract.frames import Video
from skelfew_extract.recordings import noted_videos
from skelfew_extract.turning import shown_pixels

_HEIGHT, _WIDTH = 0.9, 1.3  # of a video picture, at most, as parts of the skeleton's height
_AROUND = 0.5  # what is shown around the crop, as a part of its side


@dataclass(frozen=True)
class DecodedFrames:
    """The asked-for frames, reduced; see ``skelfew.draw.sample.VideoFrames``."""

    pictures: np.ndarray
    origin: tuple[int, int]
    scale: float
    box: Box | None
    note: str
    pixels: np.ndarray | None


def read_video(
    sample: Sample,
    pixels: np.ndarray | None,
    manifest: Path,
    videos: Path | None,
    moments: Sequence[int],
    size: int,
) -> DecodedFrames:
    """Return the frames of a sample's video at moments of its skeleton, with its joints.

    Raises SkelfewError if there is no such video or it cannot be decoded, ImportError without
    decoder.
    """
    path = below(videos or noted_videos(manifest), sample.video, manifest, links=True)
    with Video(path) as video:
        info = video.info
        pixels = shown_pixels(pixels, info.width, info.height, info.turn)
        box, note = None, ""
        try:
            box, _ = clip_box(pixels, info.width, info.height, CropSettings())
        except CropError:
            note = "no joints in the picture to crop by"
        part = _around(box, info.width, info.height)
        width, height = part.right - part.left, part.bottom - part.top
        scale = min(_HEIGHT * size / height, _WIDTH * size / width)
        reduced = (max(round(width * scale), 1), max(round(height * scale), 1))
        last = min(sample.end_frame, info.frames) - 1
        wanted = [min(sample.start_frame + moment, last) for moment in moments]
        pictures = {}
        # PyAV: decord can hang on a damaged file, and nothing watches over this process.
        for i, frame in video.pictures(wanted):
            picture = Image.fromarray(frame).crop(part)
            pictures[i] = np.asarray(picture.resize(reduced, Image.Resampling.LANCZOS))
    shown = np.stack([pictures[i] for i in range(len(wanted))])
    return DecodedFrames(shown, (part.left, part.top), scale, box, note, pixels)


def _around(box: Box | None, width: int, height: int) -> Box:
    """Return the box and what is around it, inside the picture; the whole picture without a box."""
    if box is None:
        return Box(0, 0, width, height)
    more = round(_AROUND * (box.right - box.left))
    return Box(
        max(box.left - more, 0),
        max(box.top - more, 0),
        min(box.right + more, width),
        min(box.bottom + more, height),
    )

"""The demo world's videos: H.264 through PyAV, imported only when a video is written."""

from pathlib import Path

import numpy as np

from skelfew.errors import SkelfewError
from skelfew_extract.camera import pyav, video_writer

NO_PYAV = (
    "the demo's videos need PyAV: pip install 'skelfew[extract]', or make skeletons only "
    "with --option video=false"
)


def is_complete(path: Path, recipe: str) -> bool:
    """Whether the video is there and was made by this recipe (version, seed, size, rate)."""
    try:
        av = pyav("the demo")
    except SkelfewError:
        raise SkelfewError(NO_PYAV) from None
    try:
        with av.open(str(path)) as container:
            return bool(container.metadata.get("comment") == recipe)
    except (av.error.FFmpegError, OSError):
        return False


def write_video(path: Path, frames: np.ndarray, fps: int, recipe: str) -> None:
    """Encode (T, H, W, 3) uint8 frames."""
    with video_writer(path, fps, recipe) as add:
        for image in frames:
            add(image)

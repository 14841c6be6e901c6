"""Writing the demo world's videos: H.264 through PyAV, imported only when a video is written."""

from pathlib import Path
from typing import Any

import numpy as np

from skelfew.errors import SkelfewError
from skelfew.io.writing import writing

NO_PYAV = (
    "the demo's videos need PyAV: pip install 'skelfew[extract]', or make skeletons only "
    "with --option video=false"
)


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise SkelfewError(NO_PYAV) from None
    return av


def is_complete(path: Path, recipe: str) -> bool:
    """Whether the video is there and was made by this recipe (version, seed, size, rate)."""
    av = _pyav()
    try:
        with av.open(str(path)) as container:
            return bool(container.metadata.get("comment") == recipe)
    except (av.error.FFmpegError, OSError):
        return False


def write_video(path: Path, frames: np.ndarray, fps: int, recipe: str) -> None:
    """Encode (T, H, W, 3) uint8 frames; the file appears under its name only when complete."""
    av = _pyav()
    with writing(path) as file, av.open(file.name, "w", format="mp4") as container:
        container.metadata["comment"] = recipe
        options = {"preset": "veryfast", "crf": "24", "g": "12", "threads": "1", "bf": "0"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())

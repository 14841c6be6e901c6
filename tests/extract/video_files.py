"""Real videos for tests: every picture carries its own number."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

# Suffix, codec and options of what people's data sets come in.
KINDS = {
    "h264-mp4": (".mp4", "libx264", {"g": "12", "bf": "2"}),
    "h264-long-gop-mp4": (".mp4", "libx264", {"g": "250"}),
    "h264-avi": (".avi", "libx264", {"g": "250", "bf": "2"}),
    "mpeg4-avi": (".avi", "mpeg4", {"g": "12", "bf": "0"}),
    "mpeg4-b-frames-avi": (".avi", "mpeg4", {"g": "12", "bf": "2"}),
    "mjpeg-avi": (".avi", "mjpeg", {}),
    "h264-ts": (".ts", "libx264", {"g": "12", "bf": "2"}),
    "mpeg4-b-frames-mkv": (".mkv", "mpeg4", {"g": "30", "bf": "2"}),
}
_BITS, _BLOCK = 8, 16


def picture(number: int, width: int = 160, height: int = 96) -> np.ndarray:
    """Return an RGB picture (H, W, 3) with ``number`` burned in as a row of black and white."""
    image = np.full((height, width, 3), 90, dtype=np.uint8)
    image[height // 2 :, :, 0] = (number * 37) % 200
    for bit in range(_BITS):
        image[:_BLOCK, bit * _BLOCK : (bit + 1) * _BLOCK] = 255 if number >> bit & 1 else 0
    return image


def number_of(image: np.ndarray) -> int:
    """Read the number of a decoded picture."""
    centres = [image[_BLOCK // 2, bit * _BLOCK + _BLOCK // 2].mean() for bit in range(_BITS)]
    return sum(1 << bit for bit, value in enumerate(centres) if value > 127)


def write_video(
    path: Path, pictures: list[np.ndarray], kind: str = "h264-mp4", fps: int = 30
) -> Path:
    """Encode pictures (H, W, 3) as the given kind; the suffix of ``path`` is replaced."""
    suffix, codec, options = KINDS[kind]
    path = path.with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.time_base = Fraction(1, fps)
        for i, image in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbered_video(path: Path, frames: int = 90, kind: str = "h264-mp4") -> Path:
    """Write a video of ``frames`` numbered pictures."""
    return write_video(path, [picture(i) for i in range(frames)], kind)

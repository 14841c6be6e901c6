"""Reading video frames by number, as players show them: PyAV, decord where proved right."""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from skelfew_extract.video import Picture, ShortVideo, Video, VideoInfo
from skelfew_extract.video_index import VideoError, first_line

__all__ = [
    "DECODERS", "Picture", "ShortVideo", "Video", "VideoError", "VideoInfo",
    "all_frames", "has_decord", "pictures_of", "probe", "read_frames",
]  # fmt: skip
DECODERS = ("auto", "decord", "pyav")
_AT_ONCE = 8  # pictures that decord makes in one go


def probe(path: str | Path) -> VideoInfo:
    """Return codec, size and length of a video; raise VideoError if it is not one."""
    with Video(path) as video:
        return video.info


def all_frames(path: str | Path, first: int = 0, stop: int | None = None) -> Iterator[Picture]:
    """Yield the frames of a video in order, as shown, with times; one is in memory at a time.

    From ``first`` to before ``stop``. Raises VideoError if the file is missing, empty or damaged.
    """
    with Video(path) as video:
        yield from video.all(first, stop)


def read_frames(
    path: str | Path, indices: Sequence[int] | np.ndarray, decoder: str = "auto"
) -> np.ndarray:
    """Return the pictures with the given numbers, RGB uint8 (n, H, W, 3), as they are shown.

    Numbers from 0, in any order, repeats allowed; raises and decodes as :func:`pictures_of`.
    """
    with Video(path) as video:
        found = dict(pictures_of(video, indices, decoder))
    return np.stack([found[place] for place in range(len(found))])


def pictures_of(
    video: Video, indices: Sequence[int] | np.ndarray, decoder: str = "auto"
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield places in ``indices`` and their pictures, few of them in memory at a time.

    Numbers from 0, in any order, repeats allowed. ``auto`` is ``pyav``; ``decord`` is for files of
    which a look at the container proves that it reads them right: the same bits. It can loop for
    ever on a damaged file while holding the interpreter lock (decord issue 373), so call this in a
    process that may be killed (engines/pool.py). Raises VideoError: decord would not, or a frame
    cannot be read.
    """
    if decoder not in DECODERS:
        raise VideoError(f"decoder {decoder!r} is unknown; choose {', '.join(DECODERS)}")
    if decoder != "decord":
        yield from video.pictures(indices)
        return
    doubt = video.doubt()
    if doubt:
        raise VideoError(
            f"{video.path}: decord returns wrong frames of {doubt}; use --decoder auto or pyav"
        )
    wanted = [int(i) for i in indices]
    if not wanted or min(wanted) < 0 or max(wanted) >= video.info.frames:
        yield from video.pictures(indices)  # whose errors are the same
    else:
        yield from _read_decord(video, wanted)


def has_decord() -> bool:
    """Whether decord is installed; it has no wheels for ARM and Apple silicon."""
    return importlib.util.find_spec("decord") is not None


def _read_decord(video: Video, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    try:
        import decord
    except ImportError as error:
        raise VideoError(f"decord cannot be imported ({error}); use --decoder pyav") from None
    path = video.path
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        if len(reader) != video.info.frames:
            raise VideoError(
                f"{path}: decord counts {len(reader)} frames of {video.info.frames}; "
                "use --decoder auto or pyav"
            )
        for start in range(0, len(wanted), _AT_ONCE):
            frames = reader.get_batch(wanted[start : start + _AT_ONCE]).asnumpy()
            yield from enumerate(frames, start)
        # Else its thread keeps decoding ahead without bound (decord issues 197, 208).
        reader.seek(0)
    except (decord.DECORDError, RuntimeError, OSError, IndexError) as error:
        raise VideoError(f"{path}: decord cannot read it ({first_line(error)})") from None

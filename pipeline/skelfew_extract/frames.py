"""Reading single video frames by number, exactly. The only reader of videos in this project.

Frame i is the i-th picture in the order of display. Time stamps are trusted only in MP4 and
Matroska; AVI, MPEG-TS and the like have none or cannot seek by them, so there the pictures are
counted from the start.
"""

import functools
import importlib.util
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skelfew.errors import SkelfewError

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer

DECODERS = ("auto", "decord", "pyav")
# Containers with a true time stamp for every picture and exact seeking; others are counted through.
_TIMED_CONTAINERS = ("mov", "matroska")
# Where decord's frames are the right ones. In AVI they are off by up to a whole group of pictures
# (also H.264 without B-frames); in MPEG-TS, WMV and with B-frames of MPEG-4 Part 2 by a few
# (tests/extract/test_frames.py shows it; decord issues 54, 91, 195, 252).
_DECORD_CODECS = ("h264", "hevc", "vp8", "vp9")


class VideoError(SkelfewError):
    """A video that cannot be read as asked; the message names the file and what is wrong."""


@dataclass(frozen=True)
class VideoInfo:
    """What a container says about its first video stream, found without decoding a picture.

    Attributes:
        container: e.g. ``avi``.
        codec: e.g. ``h264``.
        width: Pixels.
        height: Pixels.
        fps: Pictures per second, 0 if unknown.
        frames: Number of stored pictures.
        keyframes: Numbers of the pictures at which decoding can start, in display order; for
            containers without time stamps only the first.
        all_intra: Whether every picture can be decoded by itself.
        exact_times: Whether every picture has a time stamp of its own.
    """

    container: str
    codec: str
    width: int
    height: int
    fps: float
    frames: int
    keyframes: tuple[int, ...]
    all_intra: bool
    exact_times: bool


@dataclass(frozen=True)
class _Index:
    info: VideoInfo
    times: tuple[int, ...]  # presentation time of each picture, ascending; empty if not exact


def probe(path: str | Path) -> VideoInfo:
    """Return codec, size and length of a video; raise VideoError if it is not one."""
    return _index(Path(path)).info


def read_frames(
    path: str | Path, indices: Sequence[int] | np.ndarray, decoder: str = "auto"
) -> np.ndarray:
    """Return the pictures with the given numbers, RGB uint8 (n, H, W, 3), at full resolution.

    decord can loop for ever on a damaged file while holding the interpreter lock (decord issue
    373), so call this in a process that may be killed (engine.py).

    Args:
        path: Video file.
        indices: Numbers from 0, in any order, repeats allowed.
        decoder: ``decord``, ``pyav``, or ``auto``: decord where it is installed, exact for this
            kind of file and succeeds, else PyAV. Both give the same pictures, bit for bit.

    Raises:
        VideoError: If the file is missing, empty or damaged, or has no such frame.
    """
    path = Path(path)
    if decoder not in DECODERS:
        raise VideoError(f"decoder {decoder!r} is unknown; choose {', '.join(DECODERS)}")
    wanted = [int(i) for i in indices]
    if not wanted or min(wanted) < 0:
        raise VideoError(f"{path}: frame numbers {wanted} must be at least one and none negative")
    info = probe(path)
    if max(wanted) >= info.frames:
        raise VideoError(f"{path}: has {info.frames} frames, frame {max(wanted)} is not there")
    exact = info.exact_times and info.codec in _DECORD_CODECS
    if decoder == "decord" and not exact:
        raise VideoError(
            f"{path}: decord returns wrong frames of {info.codec} in {info.container} files; "
            "use --decoder auto or pyav"
        )
    if decoder == "decord" or (decoder == "auto" and exact and has_decord()):
        try:
            return _read_decord(path, wanted)
        except VideoError:
            if decoder == "decord":
                raise
    return _read_pyav(path, wanted)


def has_decord() -> bool:
    """Whether decord is installed; it has no wheels for ARM and Apple silicon."""
    return importlib.util.find_spec("decord") is not None


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror or 'no such video'}") from None
    if path.is_dir():
        raise VideoError(f"{path}: a folder, not a video")
    if path.is_file() and size == 0:
        raise VideoError(f"{path}: empty file")


def _read_decord(path: Path, wanted: list[int]) -> np.ndarray:
    try:
        import decord
    except ImportError as error:
        raise VideoError(f"decord cannot be imported ({error}); use --decoder pyav") from None
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        frames = reader.get_batch(wanted).asnumpy()
        reader.seek(
            0
        )  # else its thread keeps decoding ahead without bound (decord issues 197, 208)
    except (decord.DECORDError, RuntimeError, OSError, IndexError) as error:
        raise VideoError(f"{path}: decord cannot read it ({_first_line(error)})") from None
    del reader
    return np.ascontiguousarray(frames)


def _read_pyav(path: Path, wanted: list[int]) -> np.ndarray:
    import av

    index = _index(path)
    pending = sorted(set(wanted))
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            if index.info.exact_times:
                found = _by_time(container, stream, pending, index)
            elif index.info.all_intra:
                found = _by_packet(container, stream, pending)
            else:
                found = _by_count(container, stream, pending)
        lost = [i for i in pending if i not in found]
        if lost:
            raise VideoError(f"{path}: frame {lost[0]} of {index.info.frames} cannot be decoded")
        return np.stack([found[i] for i in wanted])
    except VideoError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: cannot be decoded ({_first_line(error)})") from None


def _by_time(
    container: "InputContainer", stream: "VideoStream", pending: list[int], index: _Index
) -> dict[int, np.ndarray]:
    """Decode from the last keyframe before each wanted picture, unless already on the way."""
    number = {time: i for i, time in enumerate(index.times)}
    found: dict[int, np.ndarray] = {}
    position = -1  # number of the last decoded picture
    frames = container.decode(stream)
    for target in pending:
        if target in found:
            continue
        keyframe = index.info.keyframes[max(bisect_right(index.info.keyframes, target) - 1, 0)]
        if keyframe > max(position, 0):
            container.seek(index.times[keyframe], stream=stream, backward=True)
            frames = container.decode(stream)
        for frame in frames:
            i = None if frame.pts is None else number.get(frame.pts)
            if i is None:
                continue
            position = i
            if i in pending:
                found[i] = frame.to_ndarray(format="rgb24")
            if i >= target:
                break
    return found


def _by_packet(
    container: "InputContainer", stream: "VideoStream", pending: list[int]
) -> dict[int, np.ndarray]:
    """Decode only the packets of the wanted pictures (every packet is a whole picture)."""
    found: dict[int, np.ndarray] = {}
    packets = (packet for packet in container.demux(stream) if packet.size)
    for i, packet in enumerate(packets):
        if i in pending:
            for frame in packet.decode():
                found[i] = frame.to_ndarray(format="rgb24")
        if i >= pending[-1]:
            break
    return found


def _by_count(
    container: "InputContainer", stream: "VideoStream", pending: list[int]
) -> dict[int, np.ndarray]:
    """Decode from the start and count."""
    found: dict[int, np.ndarray] = {}
    for i, frame in enumerate(container.decode(stream)):
        if i in pending:
            found[i] = frame.to_ndarray(format="rgb24")
        if i >= pending[-1]:
            break
    return found


def _index(path: Path) -> _Index:
    _check_file(path)
    return _scan(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)  # the segments of an untrimmed video follow each other
def _scan(path: Path, mtime_ns: int) -> _Index:
    """Read the packet headers of a video, decoding nothing."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: holds no video stream; is it truncated, or sound only?")
            stream = container.streams.video[0]
            context = stream.codec_context
            packets = [
                (packet.pts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.size and not packet.is_discard
            ]
            name = container.format.name.split(",")[0]
            intra = context.codec.intra_only or False
            codec, rate = context.name, float(stream.average_rate or 0)
            width, height = stream.width, stream.height
    except av.FFmpegError as error:
        raise VideoError(f"{path}: not a readable video ({_first_line(error)})") from None
    if not packets:
        raise VideoError(f"{path}: holds no pictures; it is probably truncated")
    times = [pts for pts, _ in packets if pts is not None]
    exact = name in _TIMED_CONTAINERS and len(times) == len(packets) == len(set(times))
    keyframes: tuple[int, ...] = (0,)
    if exact:
        keys = {pts for pts, key in packets if key}
        keyframes = tuple(i for i, pts in enumerate(sorted(times)) if pts in keys) or (0,)
    info = VideoInfo(name, codec, width, height, rate, len(packets), keyframes, intra, exact)
    return _Index(info, tuple(sorted(times)) if exact else ())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]

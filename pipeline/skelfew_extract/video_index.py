"""Positions of a video's pictures from its packet headers, without decoding one.

The number of a picture is its place in the order in which decoding from the start puts pictures
out. An index by time says the same only where every packet has a presentation time of its own and
becomes one picture; only then may a reader jump. Safe points to jump to are pictures after which
nothing needs what came before: IDR pictures of H.264 (not recovery points, so neither open groups
of pictures nor intra refresh), IDR and CRA of HEVC, key frames of VP8, VP9 and AV1.
"""

import functools
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from skelfew.errors import SkelfewError

if TYPE_CHECKING:
    from av import Packet, VideoStream

# Containers with a presentation time for every picture and seeking that can be checked.
_TIMED = ("mov", "matroska")
_JUMPING = ("h264", "hevc", "vp8", "vp9", "av1")
_H264_IDR, _H264_SPS = 5, 7
_HEVC_IDR, _HEVC_CRA, _HEVC_SPS = (19, 20), 21, 33
_HEVC_BREAKS = frozenset((16, 17, 18, 36, 37))  # pictures after these may be left out
_BOXES = 10_000  # at the top of an MP4 file that are looked at


class VideoError(SkelfewError):
    """A video that cannot be read as asked; the message names the file and what is wrong."""


@dataclass(frozen=True)
class VideoIndex:
    """Positions of the pictures of a video."""

    container: str
    codec: str
    fps: float  # pictures per second, 0 if unknown
    # Pictures that the packets promise; decoding may find fewer where there is no index
    frames: int
    # Presentation time of each picture, ascending; empty where it proves nothing
    times: tuple[int, ...] = ()
    # Numbers of the pictures at which decoding can start, ascending; ``seek`` their times
    safe: tuple[int, ...] = ()
    seek: tuple[int, ...] = ()
    intra: bool = False  # whether every picture is a packet that can be decoded by itself
    timed: bool = False  # whether every picture has a time of presentation in the file
    doubt: str = ""  # what decord would not read right of it; empty if nothing is known against it

    @functools.cached_property
    def number(self) -> dict[int, int]:
        """The number of the picture at each presentation time."""
        return {time: i for i, time in enumerate(self.times)}

    def before(self, target: int) -> tuple[int, int]:
        """Return number and time of the last safe point up to a picture; -1 if none."""
        at = bisect_right(self.safe, target) - 1
        return (self.safe[at], self.seek[at]) if at >= 0 else (-1, 0)


def index_of(path: Path) -> VideoIndex:
    """Return the index of a file, remembered while it does not change."""
    try:
        found = path.stat()
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror or 'no such video'}") from None
    if path.is_dir():
        raise VideoError(f"{path}: a folder, not a video")
    if path.is_file() and found.st_size == 0:
        raise VideoError(f"{path}: empty file")
    return _scan(path, found.st_mtime_ns, found.st_size)


@dataclass
class _Seen:
    """Counts and times collected over the packets."""

    shown: list[int | None] = field(default_factory=list)  # presentation times
    keys: list[tuple[int, bool]] = field(default_factory=list)  # times, and whether safe
    sets: set[bytes] = field(default_factory=set)  # parameter sets inside packets
    discarded: int = 0
    ordered: bool = True  # in time of decoding and in place in the file
    reordered: bool = False  # shown in another order than decoded
    breaks: bool = False


@functools.lru_cache(maxsize=8)  # the segments of an untrimmed video follow each other
def _scan(path: Path, mtime_ns: int, size: int) -> VideoIndex:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: holds no video stream; is it truncated, or sound only?")
            stream = container.streams.video[0]
            name = container.format.name.split(",")[0]
            codec, rate = stream.codec_context.codec.canonical_name, float(stream.average_rate or 0)
            intra = bool(stream.codec_context.codec.intra_only)
            jumping = name in _TIMED and codec in _JUMPING
            seen = _read_packets(container.demux(stream), stream, codec if jumping else "")
            promised, delayed = stream.frames, stream.codec_context.has_b_frames
    except av.FFmpegError as error:
        raise VideoError(f"{path}: not a readable video ({first_line(error)})") from None
    count = len(seen.shown)
    if not count:
        raise VideoError(f"{path}: holds no pictures; it is probably truncated")
    times = sorted(time for time in seen.shown if time is not None)
    # Times copied from AVI are those of decoding: B-frames, yet no change of order, give it away.
    timed = name != "avi" and len(set(times)) == count and (seen.reordered or not delayed)
    fragments = name == "mov" and _fragmented(path)
    doubt = (
        f"{codec} in {name} files"
        if not jumping or codec != "h264"
        else "fragmented files"
        if fragments
        else "trimmed files (an edit list)"
        if seen.discarded or promised not in (0, count) or not seen.ordered
        else "files without times of presentation"
        if not timed
        else "files whose key frames are no safe points (open groups of pictures, intra refresh)"
        if seen.breaks or not all(safe for *_, safe in seen.keys)
        else "files whose pictures change"
        if len(seen.sets) > 1
        else ""
    )
    if not jumping or fragments or seen.breaks or not seen.ordered or not timed:
        return VideoIndex(
            name, codec, rate, count, intra=intra, timed=timed, doubt=doubt or "such files"
        )
    number = {time: i for i, time in enumerate(times)}
    points = sorted((number[pts], pts) for pts, safe in seen.keys if safe and pts in number)
    safe, seek = tuple(i for i, _ in points), tuple(pts for _, pts in points)
    return VideoIndex(name, codec, rate, count, tuple(times), safe, seek, intra, timed, doubt)


def _read_packets(packets: "Iterator[Packet]", stream: "VideoStream", codec: str) -> _Seen:
    """Go through the packets; ``codec`` is empty where no picture is looked into."""
    seen, latest, last, place = _Seen(), None, None, -1
    extradata = bytes(stream.codec_context.extradata or b"") if codec else b""
    for packet in packets:
        if not packet.size:
            continue
        pts, dts = packet.pts, packet.dts
        if codec:
            if dts is None or (last is not None and dts <= last) or (packet.pos or 0) < place:
                seen.ordered = False
            last, place = dts, packet.pos or 0
            if codec == "vp8" and not memoryview(packet)[0] >> 4 & 1:
                continue  # a picture to refer to, never shown
            safe = packet.is_keyframe
            if codec in ("h264", "hevc") and (packet.is_keyframe or codec == "hevc"):
                units = dict(_units(memoryview(packet), codec, extradata))
                safe = safe and _is_safe(units, codec)
                seen.breaks |= codec == "hevc" and not _HEVC_BREAKS.isdisjoint(units)
                seen.sets |= {units[k] for k in (_sps(codec),) if k in units}
            if packet.is_keyframe and pts is not None and dts is not None:
                # Nothing from before may be shown after it.
                seen.keys.append((pts, safe and (latest is None or latest < pts)))
        seen.reordered |= pts is not None and latest is not None and pts < latest
        if pts is not None and (latest is None or pts > latest):
            latest = pts
        if packet.is_discard:
            seen.discarded += 1
        else:
            seen.shown.append(pts)
    return seen


def _sps(codec: str) -> int:
    return _H264_SPS if codec == "h264" else _HEVC_SPS


def _is_safe(units: dict[int, bytes], codec: str) -> bool:
    if codec == "h264":
        return _H264_IDR in units
    return any(kind in units for kind in (*_HEVC_IDR, _HEVC_CRA))


def _units(data: memoryview, codec: str, extradata: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and, for a parameter set, content of the units of a packet (ISO/IEC 14496-15)."""
    at = 4 if codec == "h264" else 21
    if len(extradata) <= at or extradata[0] != 1:
        return
    width, position = (extradata[at] & 3) + 1, 0
    while position + width < len(data):
        length = int.from_bytes(data[position : position + width], "big")
        head = data[position + width]
        kind = head & 31 if codec == "h264" else head >> 1 & 63
        content = data[position + width : position + width + length]
        yield kind, bytes(content) if kind == _sps(codec) else b""
        position += width + max(length, 1)


def _fragmented(path: Path) -> bool:
    """Whether an MP4 file keeps its pictures in fragments (ISO/IEC 14496-12, box ``moof``)."""
    with path.open("rb") as file:
        for _ in range(_BOXES):
            head = file.read(16)
            if len(head) < 8:
                return False
            if head[4:8] == b"moof":
                return True
            size = int.from_bytes(head[:4], "big")
            step = int.from_bytes(head[8:16], "big") - 16 if size == 1 else size - len(head)
            if step < -8:
                return False  # to the end of the file, or damaged
            file.seek(step, 1)
    return True  # not proved


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, short enough for a table."""
    text = str(getattr(error, "strerror", None) or error)  # without FFmpeg's number and the path
    return (text.strip().splitlines() or [type(error).__name__])[0][:160]

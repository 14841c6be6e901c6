"""One open video: its pictures by number or one after the other, exactly, as players show them.

Frame i is the i-th picture that decoding from the start puts out: edit lists are followed, and the
picture is turned or mirrored as its display matrix says. It jumps only where packet headers prove
the way (video_index.py) and the pictures that come out agree; else it decodes from the start.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from skelfew_extract.turning import STRAIGHT, Turn, turn_of, turned
from skelfew_extract.video_index import VideoError, VideoIndex, first_line, index_of

if TYPE_CHECKING:
    from av import Packet, VideoFrame


class ShortVideo(VideoError):
    """A video with fewer pictures than its packets promise."""

    def __init__(self, message: str, frames: int):
        super().__init__(message)
        self.frames = frames


class _MistrustError(Exception):
    """The pictures that come out contradict the index."""


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, found without decoding all of it."""

    container: str
    codec: str
    width: int  # of a picture as it is shown, pixels
    height: int
    fps: float  # pictures per second, 0 if unknown
    frames: int  # pictures that the packets promise; a damaged video may hold fewer
    turn: Turn  # how stored pictures become shown ones (turning.py)


@dataclass(frozen=True)
class Picture:
    """A frame of a video, RGB uint8 (H, W, 3), as it is shown, and its number in that order.

    ``time`` is seconds after the first frame's; number over rate where the container keeps no such
    times (AVI, raw streams). A time that does not ascend is that of the frame before it and 1 /
    rate.
    """

    number: int
    time: float
    image: np.ndarray


class Video:
    """An open video, read with PyAV; a context manager. VideoError if it cannot be decoded."""

    _container: Any = None
    _scaler: Any = None
    _stream: Any
    _frame: "VideoFrame"  # the last decoded
    _at: int  # its number

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._index: VideoIndex = index_of(self.path)
        self._counting = not self._index.times
        try:
            self._restart()
            self.info = self._describe()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Video":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()

    def pictures(self, indices: Sequence[int] | np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield places in ``indices`` and their pictures, one at a time, in the order of the video.

        Numbers from 0, in any order, repeats allowed. A place may come again: the later picture is
        the right one. Raises ShortVideo if the video ends before, VideoError if a frame is absent
        or damaged.
        """
        places: dict[int, list[int]] = {}
        for place, number in enumerate(indices):
            places.setdefault(int(number), []).append(place)
        wanted = sorted(places)
        if not wanted or wanted[0] < 0:
            raise VideoError(f"{self.path}: frame numbers must be at least one and none negative")
        if wanted[-1] >= self.info.frames:
            raise ShortVideo(
                f"{self.path}: has {self.info.frames} frames, frame {wanted[-1]} is not there",
                self.info.frames,
            )
        find = self._by_packet if self._index.intra and self._counting else self._by_number
        try:
            yield from self._each(find(wanted), places)
        except _MistrustError:
            self._count()
            yield from self._each(self._by_number(wanted), places)

    def all(self, first: int = 0, stop: int | None = None) -> Iterator[Picture]:
        """Yield all pictures from ``first`` up to before ``stop``, in order, one in memory."""
        number = first
        try:
            try:
                self._advance(first)
            except _MistrustError:
                self._count()
                self._advance(first)
        except ShortVideo:
            return
        time = -1.0
        while stop is None or number < stop:
            step = 1 / (self.info.fps or 25.0)
            time = own if (own := self._time(number)) > time else time + step
            yield Picture(number, time, self._image(self._frame))
            number += 1
            if (frame := next(self._coming, None)) is None:
                return
            self._frame, self._at = frame, number

    def doubt(self) -> str:
        """Return why decord would not read it right; empty if nothing is known against it."""
        if self.info.turn != STRAIGHT:
            return "turned files (a display matrix)"
        return "interlaced pictures" if self._interlaced else self._index.doubt

    def _each(
        self, frames: "Iterable[tuple[int, VideoFrame]]", places: dict[int, list[int]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        for number, frame in frames:
            image = self._image(frame)
            for place in places[number]:
                yield place, image

    def _by_number(self, wanted: list[int]) -> "Iterator[tuple[int, VideoFrame]]":
        for number in wanted:
            self._advance(number)
            yield number, self._frame

    def _by_packet(self, wanted: list[int]) -> "Iterator[tuple[int, VideoFrame]]":
        """Decode only the packets of the wanted pictures: each packet is a picture."""
        import av

        self._open()
        shown = (p for p in self._container.demux(self._stream) if p.size and not p.is_discard)
        pending = set(wanted)
        for number, packet in enumerate(shown):
            if number in pending:
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    raise self._unreadable(error) from None
                if len(frames) != 1:
                    raise _MistrustError
                yield number, frames[0]
            if number >= wanted[-1]:
                return

    def _advance(self, target: int) -> None:
        """Decode up to a picture, from the last safe point before it unless on the way."""
        if target < self._at:
            self._restart()
        if not self._counting:
            safe, seek = self._index.before(target)
            if safe > self._at:
                self._jump(seek, target)
        while self._at < target:
            frame = next(self._coming, None)
            if frame is None:
                if not self._counting:
                    raise _MistrustError
                count = self._at + 1
                raise ShortVideo(
                    f"{self.path}: has {count} frames that can be decoded, frame {target} is not "
                    "there",
                    count,
                )
            if not self._counting:
                number = None if frame.pts is None else self._index.number.get(frame.pts)
                if number is not None and number < self._from:
                    continue  # shown before the safe point
                if number != self._at + 1:
                    raise _MistrustError
            self._frame, self._at = frame, self._at + 1

    def _jump(self, seek: int, target: int) -> None:
        self._container.seek(seek, stream=self._stream, backward=True)
        packets = (packet for packet in self._container.demux(self._stream) if packet.size)
        first = next(packets, None)
        landed = None if first is None or first.pts is None else self._index.number.get(first.pts)
        if (
            first is None
            or landed is None
            or landed > target
            or self._index.before(landed)[0] != landed
        ):
            raise _MistrustError
        self._coming = self._decode(itertools.chain([first], packets), started=True)
        self._at, self._from = landed - 1, landed

    def _restart(self) -> None:
        """Decode the first picture, from the start."""
        self._open()
        packets = (packet for packet in self._container.demux(self._stream) if packet.size)
        self._coming = self._decode(packets)
        frame = next(self._coming, None)
        if frame is None:
            raise VideoError(f"{self.path}: none of its pictures can be decoded")
        self._frame, self._at, self._from, self._start = frame, 0, 0, frame.pts or 0
        if not self._counting and (frame.pts is None or self._index.number.get(frame.pts) != 0):
            self._counting = True

    def _count(self) -> None:
        """Trust the index no more: decode from the start and count."""
        self._counting = True
        self._restart()

    def _open(self) -> None:
        import av

        self.close()
        try:
            self._container = av.open(str(self.path))
            self._stream = self._container.streams.video[0]
        except (av.FFmpegError, IndexError) as error:
            raise self._unreadable(error) from None
        self._stream.thread_type, self._stream.codec_context.thread_count = "NONE", 1

    def _decode(self, packets: "Iterable[Packet]", started: bool = False) -> "Iterator[VideoFrame]":
        """Yield what comes out; packets that are cut off count at neither end of the video."""
        import av

        damage: BaseException | None = None
        try:
            for packet in packets:
                if damage is not None:
                    raise self._unreadable(damage) from None
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError as error:
                    damage = error if started else None
                    continue
                started = started or bool(frames)
                yield from frames
            yield from self._stream.codec_context.decode(None)
        except (av.FFmpegError, ValueError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: BaseException) -> VideoError:
        return VideoError(f"{self.path}: cannot be decoded ({first_line(error)})")

    def _describe(self) -> VideoInfo:
        frame, index = self._frame, self._index
        turn, self._interlaced = turn_of(frame, self.path), frame.interlaced_frame
        size = (frame.width, frame.height) if turn[0] else (frame.height, frame.width)
        return VideoInfo(index.container, index.codec, *size, index.fps, index.frames, turn)

    def _image(self, frame: "VideoFrame") -> np.ndarray:
        """Return a picture as it is shown, at the size of the video's first."""
        turn = turn_of(frame, self.path)
        size = (self.info.width, self.info.height)
        width, height = size if turn[0] else size[::-1]
        if self._scaler is None:  # kept, because making one takes as long as using it
            from av.video.reformatter import VideoReformatter

            self._scaler = VideoReformatter()
        picture = self._scaler.reformat(frame, width, height, "rgb24").to_ndarray()
        return turned(picture, turn)

    def _time(self, number: int) -> float:
        pts, base = self._frame.pts, self._stream.time_base
        if not self._index.timed or pts is None:
            return number / (self.info.fps or 1.0)
        return float((pts - self._start) * base)

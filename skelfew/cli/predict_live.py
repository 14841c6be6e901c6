"""``skelfew-predict --camera`` and ``--annotate``: labels while they happen, and on the video."""

import importlib
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from skelfew.cli.common import OK, log, say, say_in_place
from skelfew.data.readers import VIDEO_DOOR
from skelfew.errors import SkelfewError
from skelfew.predict.recogniser import Prediction, Recogniser
from skelfew.predict.recordings import Clip
from skelfew.predict.rejection import NONE_OF_THESE
from skelfew.predict.sliding import Segment, Stream

LIVE_FPS = 15.0  # joints a second that the recogniser gets, however fast the camera is
PAUSE_S = 0.25  # between decisions
_SHOWN_S = 10.0  # of the time line of a live video
BEHIND = 8  # frames that the recogniser may be behind
_RATE_OVER = 30  # frames


def watch_camera(
    recogniser: Recogniser, source: str, support_fps: float, sure: float, annotate: Path | None
) -> int:
    """Name what a camera shows, on one line, until it ends or Ctrl-C.

    Args:
        source: Number or name of a camera, or a video file.
        support_fps: Frames a second of the support recordings.
        sure: Confidence at which a label is given.
        annotate: The video to write, if any.
    """
    door = importlib.import_module(VIDEO_DOOR)
    stream = Stream(recogniser, LIVE_FPS, support_fps, sure, pause=PAUSE_S)
    options = recogniser.reading.options
    line, times = _Line(), deque[float](maxlen=_RATE_OVER)
    spans: list[Any] = []
    writer = nullcontext() if annotate is None else door.video_writer(annotate, LIVE_FPS)
    pen = door.Annotator(recogniser.reading.layout.bones) if annotate else None
    frames, fed, rate = 0, 0, 0.0
    start = time.monotonic()
    coordinates = recogniser.model.coordinates
    with writer as add, Feeder(stream) as feeder:
        try:
            for moment in door.live(source, options):
                frames += 1
                times.append(time.monotonic())
                due = int(moment.time * LIVE_FPS) + 1 - fed
                for _ in range(min(due, int(LIVE_FPS))):  # a slow camera's picture lasts longer
                    feeder.feed(moment.joints(coordinates))
                    fed += 1
                rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
                found = feeder.found(BEHIND)
                spans += [door.Span(s.start, s.end, s.label) for s in found]
                line.show(found, stream.best, rate)
                if add is not None and pen is not None and due > 0:
                    first = max(0, fed - int(_SHOWN_S * LIVE_FPS))
                    stop = first + int(_SHOWN_S * LIVE_FPS)
                    text = line.text if stream.best else ""
                    add(pen.draw(moment.image, moment.pixels, text, spans, fed, first, stop))
            found = feeder.found(0)
            last = stream.finish()
            line.show(found if last is None else [*found, last], None, rate)
        except KeyboardInterrupt:
            line.end()
            log("stopped")
    line.end()
    took = time.monotonic() - start
    log(f"{frames} frames in {took:.1f} s ({frames / max(took, 1e-6):.1f} a second); {stream.why}")
    return OK


class Feeder:
    """Gives frames to a stream in a thread of its own, so that poses are estimated meanwhile."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Segment | None]] = deque()

    def __enter__(self) -> "Feeder":
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def feed(self, joints: np.ndarray | None) -> None:
        """Add a frame."""
        self._waiting.append(self._pool.submit(self._stream.add, joints))

    def found(self, behind: int) -> list[Segment]:
        """Return the actions found since; wait until at most so many frames are waiting."""
        found = []
        while self._waiting and (len(self._waiting) > behind or self._waiting[0].done()):
            if (segment := self._waiting.popleft().result()) is not None:
                found.append(segment)
        return found


class _Line:
    """The line of now: label, its share, the rate; on a terminal in place, else at each action."""

    def __init__(self) -> None:
        self.text = ""
        self._wide = 0
        self._live = sys.stdout.isatty()

    def show(self, found: Sequence[Segment], best: Segment | None, rate: float) -> None:
        """Print the actions that are sure, or show what the newest windows say."""
        label = NONE_OF_THESE if best is None else f"{best.label}  {best.confidence:.0%}"
        self.text = f"{label}  {rate:.1f} frames/s"
        for one in found:
            self.end()
            share = f"{one.label}  {one.confidence:.0%}  {rate:.1f} frames/s"
            say(f"{one.end / LIVE_FPS:8.2f} s  {share}")
            sys.stdout.flush()
        if self._live and not found:
            self._wide = say_in_place(self.text, self._wide)

    def end(self) -> None:
        """End the line in place."""
        if self._wide:
            self._wide = say_in_place("", self._wide)


def annotate_video(clip: Clip, found: Prediction | Sequence[Segment], out: Path) -> None:
    """Write a copy of a video with skeleton, label and time line.

    Raises:
        SkelfewError: The recording is no video.
    """
    if clip.pixels is None:
        raise SkelfewError(f"{clip.name}: --annotate draws on a video, and this is none")
    door = importlib.import_module(VIDEO_DOOR)
    if isinstance(found, Prediction):
        label = found.label or NONE_OF_THESE
        spans = [door.Span(0, clip.frames, label)]
        texts = [f"{label}  {found.confidence:.0%}"]
    else:
        spans = [door.Span(s.start, s.end, s.label) for s in found]
        texts = [f"{s.label}  {s.confidence:.0%}" for s in found]
    bones = clip.layout.bones
    door.annotate(Path(clip.name), out, bones, clip.pixels, spans, texts, clip.fps or 30.0)
    log(f"{out}: {clip.frames} frames")

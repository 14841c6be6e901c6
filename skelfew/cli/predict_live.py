"""``skelfew-predict --camera`` and ``--annotate``: labels while they happen, and on the video."""

import importlib
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from skelfew.cli.common import OK, log
from skelfew.data.readers import VIDEO_DOOR
from skelfew.errors import SkelfewError
from skelfew.predict.recogniser import Prediction, Recogniser
from skelfew.predict.recordings import Clip
from skelfew.predict.rejection import NOBODY
from skelfew.predict.sliding import Segment, Stream

LIVE_FPS = 15.0  # joints a second that the recogniser gets, however fast the camera is
_SHOWN_S = 10.0  # of the time line of a live video
_RATE_OVER = 30  # frames


def watch_camera(
    recogniser: Recogniser, source: str, support_fps: float, sure: float, annotate: Path | None
) -> int:
    """Name what a camera shows, on one line, until it ends or Ctrl-C.

    Args:
        recogniser: What was taught.
        source: Number or name of a camera, or a video file.
        support_fps: Frames a second of the support recordings.
        sure: Confidence at which a label is given.
        annotate: The video to write, if any.
    """
    door = importlib.import_module(VIDEO_DOOR)
    stream = Stream(recogniser, LIVE_FPS, support_fps, sure)
    options = recogniser.reading.options
    line, times = _Line(), deque[float](maxlen=_RATE_OVER)
    spans: list[Any] = []
    writer = nullcontext() if annotate is None else door.video_writer(annotate, LIVE_FPS)
    pen = door.Annotator(recogniser.reading.layout.bones) if annotate else None
    frames = 0
    start = time.monotonic()
    coordinates = recogniser.model.coordinates
    with writer as add:
        try:
            for moment in door.live(source, options):
                frames += 1
                times.append(time.monotonic())
                found, due = None, int(moment.time * LIVE_FPS) + 1 - stream.frame
                for _ in range(min(due, int(LIVE_FPS))):  # a slow camera's picture lasts longer
                    found = stream.add(moment.joints(coordinates)) or found
                if found is not None:
                    spans.append(door.Span(found.start, found.end, found.label))
                rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6)
                line.show(found, stream.best, moment.time, rate)
                if add is not None and pen is not None and due > 0:
                    first = max(0, stream.frame - int(_SHOWN_S * LIVE_FPS))
                    stop = first + int(_SHOWN_S * LIVE_FPS)
                    text = line.text if stream.best else ""
                    add(
                        pen.draw(
                            moment.image, moment.pixels, text, spans, stream.frame, first, stop
                        )
                    )
        except KeyboardInterrupt:
            line.end()
            log("stopped")
    line.end()
    took = time.monotonic() - start
    log(f"{frames} frames in {took:.1f} s ({frames / max(took, 1e-6):.1f} a second); {stream.why}")
    return OK


class _Line:
    """The line of now: label, its share, the rate; on a terminal in place, else at each action."""

    def __init__(self) -> None:
        self.text = ""
        self._wide = 0
        self._live = sys.stdout.isatty()

    def show(self, found: Segment | None, best: Segment | None, at: float, rate: float) -> None:
        """Show what the newest windows say, or print an action that is sure."""
        label = NOBODY if best is None else f"{best.label}  {best.confidence:.0%}"
        self.text = f"{label}  {rate:.1f} frames/s"
        if found is not None:
            self.end()
            done = f"{at:8.2f} s  {found.label}  {found.confidence:.0%}  {rate:.1f} frames/s"
            click.echo(done)
            sys.stdout.flush()
        elif self._live:
            click.echo("\r" + self.text.ljust(self._wide), nl=False)
            self._wide = len(self.text)

    def end(self) -> None:
        """End the line in place."""
        if self._wide:
            click.echo("\r" + " " * self._wide + "\r", nl=False)
            self._wide = 0


def annotate_video(clip: Clip, found: Prediction | Sequence[Segment], out: Path) -> None:
    """Write a copy of a video with skeleton, label and time line.

    Raises:
        SkelfewError: The recording is no video.
    """
    if clip.pixels is None:
        raise SkelfewError(f"{clip.name}: --annotate draws on a video, and this is none")
    door = importlib.import_module(VIDEO_DOOR)
    if isinstance(found, Prediction):
        label = found.label or NOBODY
        spans = [door.Span(0, clip.frames, label)]
        texts = [f"{label}  {found.confidence:.0%}"]
    else:
        spans = [door.Span(s.start, s.end, s.label) for s in found]
        texts = [f"{s.label}  {s.confidence:.0%}" for s in found]
    bones = clip.layout.bones
    door.annotate(Path(clip.name), out, bones, clip.pixels, spans, texts, clip.fps or 30.0)
    log(f"{out}: {clip.frames} frames")

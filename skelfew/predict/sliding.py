"""Long recordings: windows of the lengths of the taught actions, slid over a file or a stream.

What they show, and which of them are reported, ``skelfew.predict.spotting`` says. Most of a long
recording is none of the actions.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from skelfew.data.readers.bodies import turned_up
from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew.predict.recogniser import Recogniser, Source, as_clip
from skelfew.predict.recordings import Clip, usable
from skelfew.predict.rejection import NONE_OF_THESE
from skelfew.predict.spotting import FAR, Spotter, best_without_overlap
from skelfew.predict.windows import Span, cut, join, travelled, windows

_LENGTHS = (0.8, 1.25)  # of the shortest and the longest support recording
_RATIO, _STREAM_RATIO = 1.25, 1.6  # between the lengths of windows
_HOPS = 8  # windows in the time of one
_AT_ONCE = 1024  # windows in memory
_SHORTEST = 2  # frames
_MOST = 30  # recordings in a rehearsal


@dataclass(frozen=True)
class Segment:
    """An action in a long recording."""

    start: int  # its first frame, from 0
    end: int  # one past its last frame; in a stream, one past the frame at which it was sure
    label: str
    confidence: float  # probability of it among the taught ones
    runner_up: str
    distance: float  # to it; 1 is how far recordings of one action lie apart, see ``spotting``

    def to_dict(self, fps: float) -> Document:
        """Return plain values for JSON, with the times in seconds."""
        times = {"start_s": round(self.start / fps, 3), "end_s": round(self.end / fps, 3)}
        return {**asdict(self), **times}


@dataclass(frozen=True)
class Found:
    """The answer for windows that show a person."""

    spans: list[Span]
    apart: Tensor  # distances to the exemplars (n, S)
    moved: Tensor  # how far the body moves (n,)
    near: Tensor  # distances to the actions (n, N)

    @property
    def frames(self) -> Tensor:
        """Length of each window (n,)."""
        return torch.tensor([end - start for start, end in self.spans])

    @property
    def distance(self) -> Tensor:
        """Distance to the nearest action (n,)."""
        return self.near.amin(dim=1)


class Watcher:
    """Compares windows of a long recording with what was taught."""

    def __init__(self, recogniser: Recogniser, fps: float = 30.0, support_fps: float = 30.0):
        if not (fps > 0 and support_fps > 0):
            raise SkelfewError(f"{fps} and {support_fps} frames a second; both must be above 0")
        self.recogniser, self.fps = recogniser, fps
        apart = recogniser.model.apart(recogniser.features, recogniser.features)
        ways = [travelled(c, c.fps or support_fps)[-1] for c in recogniser.clips]
        taught = recogniser.frames.double() * (fps / support_fps)
        self.spotter = Spotter.learn(apart, recogniser.labels, taught, torch.tensor(ways))
        self._rehearse()

    def lengths(self, ratio: float = _RATIO) -> tuple[int, ...]:
        """Return lengths of windows from short to long, each ``ratio`` times the one before."""
        taught = self.spotter.frames
        low, high = float(taught.min()) * _LENGTHS[0], float(taught.max()) * _LENGTHS[1]
        steps = math.ceil(math.log(high / low) / math.log(ratio))
        lengths = (low * (high / low) ** (i / steps) for i in range(steps + 1))
        return tuple(sorted({max(_SHORTEST, round(length)) for length in lengths}))

    def look(self, clip: Clip, spans: Sequence[Span]) -> Found | None:
        """Return what windows show; None if no window shows a person."""
        model, support = self.recogniser.model, self.recogniser.features
        kept, apart = [], []
        for start in range(0, len(spans), _AT_ONCE):
            some = [(s, w) for s in spans[start : start + _AT_ONCE] if (w := cut(clip, *s))]
            if some:
                kept += [span for span, _ in some]
                apart.append(model.apart(support, model.features([window for _, window in some])))
        if not kept:
            return None
        way = torch.from_numpy(travelled(clip, self.fps))
        ends = torch.tensor(kept)
        moved = way[ends[:, 1]] - way[ends[:, 0]]
        together = torch.cat(apart)
        near = self.spotter.to_actions(together, ends[:, 1] - ends[:, 0], moved)
        return Found(kept, together, moved, near)

    def segment(self, found: Found, row: int, span: Span) -> Segment:
        """Return a window as a segment."""
        names, near = self.recogniser.classes, found.near[row]
        first, second = near.topk(2, largest=False).indices.tolist()
        confidence = float((-self.spotter.scale * near).softmax(dim=0)[first])
        return Segment(*span, names[first], confidence, names[second], float(near[first]))

    def _rehearse(self) -> None:
        """Learn the threshold from the support recordings, joined; see ``Spotter.rehearsed``."""
        labels = self.recogniser.labels
        several = (torch.bincount(labels)[labels] > 1).nonzero().flatten().tolist()
        if not several:
            return
        rows = several[:: -(-len(several) // _MOST)]
        joined, places = join([self.recogniser.clips[r] for r in rows], self._frames(rows))
        found = self.look(joined, windows(joined, self.lengths(_STREAM_RATIO), _HOPS // 2))
        if found is None:
            return
        apart = found.apart.clone()
        for row, (start, end) in zip(rows, places, strict=True):  # none is found by itself
            over = torch.tensor([a < end and b > start for a, b in found.spans])
            apart[over, row] = FAR
        near = self.spotter.to_actions(apart, found.frames, found.moved)
        truth = [(*place, int(labels[row])) for row, place in zip(rows, places, strict=True)]
        self.spotter = self.spotter.rehearsed(near, found.spans, truth)

    def _frames(self, rows: Sequence[int]) -> list[int]:
        return [max(_SHORTEST, round(float(self.spotter.frames[row]))) for row in rows]

    def __str__(self) -> str:
        lengths = self.lengths()
        return (
            f"{NONE_OF_THESE} beyond distance {self.spotter.threshold:.2f}; "
            f"windows of {lengths[0]} to {lengths[-1]} frames"
        )


def segments(
    recogniser: Recogniser,
    recording: Source,
    fps: float = 30.0,
    support_fps: float = 30.0,
) -> list[Segment]:
    """Return the actions of an untrimmed recording, in order of time; see ``spotting``.

    Args:
        recording: A path, an array (T, V, C) or (M, T, V, C), or a ``Clip``.
        fps: Its frames a second; ``support_fps`` are those of the support recordings.
    """
    clip = as_clip(recording, recogniser.reading)
    clip = recogniser.model.fit(clip, recogniser.map_joints)
    watcher = Watcher(recogniser, fps, support_fps)
    found = watcher.look(clip, windows(clip, watcher.lengths(), _HOPS))
    if found is None:
        return []
    gains = watcher.spotter.gains(found.distance, found.frames)
    rows = best_without_overlap(found.spans, gains.numpy())
    return [watcher.segment(found, row, found.spans[row]) for row in rows]


class Stream:
    """Recognises actions while they happen.

    Every few frames the windows that end now are compared, all lengths at once, and the one that
    would gain most (``Spotter.gains``) decides. A label is given once it was decided ``patience``
    times in a row, each time with the confidence ``sure``. Then watching begins anew. An action
    that is recognised on and on without a break is given once.

    Args:
        support_fps: Frames a second of the support recordings.
        patience: Decisions in a row.
        pause: Seconds between decisions, at least.

    Attributes:
        best: What the newest windows show; None for none of these.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        fps: float = 30.0,
        support_fps: float = 30.0,
        sure: float = 0.5,
        patience: int = 2,
        pause: float = 0.0,
    ):
        if not 0 <= sure <= 1 or patience < 1:
            raise SkelfewError(
                f"sure is {sure}, patience {patience}; expected [0, 1] and 1 or more"
            )
        self.recogniser, self.watcher = recogniser, Watcher(recogniser, fps, support_fps)
        self.lengths = self.watcher.lengths(_STREAM_RATIO)
        self.hop = max(1, self.lengths[0] // _HOPS, round(pause * fps))
        self.sure, self.patience = sure, patience
        self.frame = self.decisions = self._since = self._given = self._unsure = 0
        self.best: Segment | None = None
        self._closest: Segment | None = None
        self._frames: deque[np.ndarray] = deque(maxlen=self.lengths[-1])
        self._label: str | None = None
        self._times = 0
        self._before: str | None = None

    def add(self, joints: np.ndarray | None) -> Segment | None:
        """Take the next frame; return an action as soon as it is sure of one.

        Args:
            joints: (V, C) or (M, V, C) of the recogniser's layout; NaN, or a confidence of 0, is a
                joint that was not found. None: no person is there.

        Raises:
            SkelfewError: Another number of joints or values.
        """
        bodies = self._bodies(joints)
        self.frame += 1
        if not self._frames and not np.nan_to_num(bodies).any():
            self._since = self.frame  # nothing begins before somebody is there
            return None
        self._frames.append(bodies)
        ready = len(self._frames) >= self.lengths[0]
        if not ready or (self.frame - self._since) % self.hop:
            return None
        lengths = [n for n in self.lengths if n <= len(self._frames)]
        return self._decide(lengths, self.patience)

    def finish(self) -> Segment | None:
        """Return the action that the last frames show, at the end of the stream."""
        if len(self._frames) < max(_SHORTEST, self.lengths[0] // 2):
            return None
        lengths = [min(n, len(self._frames)) for n in self.lengths]
        return self._decide(sorted(set(lengths)), 1)

    def _bodies(self, joints: np.ndarray | None) -> np.ndarray:
        """Return a frame as (M, V, C)."""
        reading = self.recogniser.reading
        if joints is None or not np.size(joints):
            return np.zeros((1, len(reading.layout), 0), dtype=np.float32)
        try:
            frame = np.asarray(joints, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise SkelfewError(f"frame {self.frame}: not joints of numbers ({error})") from None
        frame = frame[None] if frame.ndim == 2 else frame
        if frame.ndim != 3 or frame.shape[1] != len(reading.layout) or frame.shape[2] not in (2, 3):
            raise SkelfewError(
                f"frame {self.frame}: shape {np.shape(joints)}, expected ({len(reading.layout)}, 2 "
                f"or 3), the joints of {reading.layout.name}, or that for each body"
            )
        return frame

    def _clip(self) -> Clip | None:
        """Return the frames kept as a recording; None if no person was in any."""
        values = max((f.shape[2] for f in self._frames), default=0)
        if not values:
            return None
        bodies, joints = max(len(f) for f in self._frames), len(self.recogniser.reading.layout)
        positions: np.ndarray = np.zeros(
            (bodies, len(self._frames), joints, values), dtype=np.float32
        )
        for t, frame in enumerate(self._frames):
            positions[: len(frame), t, :, : frame.shape[2]] = frame
        layout, model = self.recogniser.reading.layout, self.recogniser.model
        given = self.recogniser.reading.options.get("coordinates", "auto")
        coordinates = min(values, model.coordinates if given == "auto" else int(given))
        if values > coordinates:  # a confidence
            positions[positions[..., -1] <= 0] = np.nan
            positions[np.isnan(positions).all(axis=(2, 3))] = 0
        try:
            up = self.recogniser.reading.options.get("up", "y")
            positions = turned_up(positions, coordinates, up)
            clip = usable(Clip("stream", positions, layout, coordinates), "missing")
        except SkelfewError:  # no person in the window
            return None
        return model.fit(clip, self.recogniser.map_joints)

    def _decide(self, lengths: Sequence[int], patience: int) -> Segment | None:
        clip, total = self._clip(), len(self._frames)
        self.best = (
            None if clip is None else self._look(clip, [(total - n, total) for n in lengths])
        )
        if self.best is None or self.best.confidence < self.sure:
            self._unsure += self.best is not None
            self._label, self._times, self._before = None, 0, None
            return None
        self._times = self._times + 1 if self.best.label == self._label else 1
        self._label = self.best.label
        if self._times < patience:
            return None
        self._label, self._times = None, 0
        self._frames.clear()
        again, self._before = self.best.label == self._before, self.best.label
        self._given += not again
        return None if again else self.best

    def _look(self, clip: Clip, spans: Sequence[Span]) -> Segment | None:
        """Return the window that gains most, if any is near enough."""
        found = self.watcher.look(clip, spans)
        if found is None:
            return None
        self.decisions += 1
        worth = self.watcher.spotter.worth(found.distance, found.frames)
        row = int(worth.argmax())
        best = self.watcher.segment(found, row, (self.frame - int(found.frames[row]), self.frame))
        if self._closest is None or best.distance < self._closest.distance:
            self._closest = best
        return best if float(worth[row]) > 0 else None

    @property
    def why(self) -> str:
        """Return a summary of the decisions."""
        text = f"{self.decisions} decisions, {self._given} actions"
        if self._given:
            return text
        if not self.decisions:
            return f"{text}: {self.frame} frames, but the shortest window has {self.lengths[0]}"
        assert self._closest is not None
        near, threshold = self._closest, self.watcher.spotter.threshold
        text += f"; nearest was {near.label} at distance {near.distance:.2f}"
        if near.distance >= threshold:
            return f"{text}, and {NONE_OF_THESE} begins at {threshold:.2f}"
        return (
            f"{text}, but not {self.patience} times in a row with a confidence of {self.sure:g} "
            f"({self._unsure} were not that sure)"
        )

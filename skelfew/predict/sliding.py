"""Long recordings: windows of the length of the taught actions, slid over a file or a stream.

A window is recognised like a recording, so it may be none of the taught actions; the threshold is
that of ``skelfew.predict.rejection``, learned if the recogniser has none.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.predict.recogniser import Recogniser, Source, as_clip
from skelfew.predict.recordings import Clip, usable
from skelfew.predict.rejection import learn_rejection

_QUANTILES = (0.1, 0.5, 0.9)  # of the lengths of the support recordings
_HOPS = 8  # decisions in the time of the shortest window
_OVERLAP = 0.25  # share of the shorter of two segments that they may have in common
_SHORTEST = 2  # frames


@dataclass(frozen=True)
class Segment:
    """An action in a long recording.

    Attributes:
        start: Its first frame, from 0.
        end: One past its last frame; in a stream, one past the frame at which it was sure.
        label: The action.
        confidence: Probability of it among the taught ones.
        runner_up: The second nearest action.
        similarity: To the action.
    """

    start: int
    end: int
    label: str
    confidence: float
    runner_up: str
    similarity: float

    def to_dict(self, fps: float) -> dict[str, Any]:
        """Return plain values for JSON, with the times in seconds."""
        times = {"start_s": round(self.start / fps, 3), "end_s": round(self.end / fps, 3)}
        return {**asdict(self), **times}


@dataclass(frozen=True)
class Windows:
    """How long windows are, and how far apart.

    Attributes:
        lengths: In frames, ascending.
        hop: Frames from one to the next.
    """

    lengths: tuple[int, ...]
    hop: int

    @classmethod
    def of(cls, recogniser: Recogniser, fps: float = 30.0, support_fps: float = 30.0) -> "Windows":
        """Return short, usual and long windows: the lengths that the support recordings have.

        Args:
            recogniser: What was taught.
            fps: Frames a second of the long recording.
            support_fps: Frames a second of the support recordings.
        """
        if not (fps > 0 and support_fps > 0):
            raise SkelfewError(f"{fps} and {support_fps} frames a second; both must be above 0")
        taught = recogniser.frames.double() * (fps / support_fps)
        wanted = taught.quantile(torch.tensor(_QUANTILES, dtype=torch.float64)).round().tolist()
        lengths = tuple(sorted({max(_SHORTEST, int(length)) for length in wanted}))
        return cls(lengths, max(1, lengths[0] // _HOPS))


def with_rejection(recogniser: Recogniser) -> Recogniser:
    """Return a recogniser that can say none of these: most of a long recording is."""
    if recogniser.rejection is not None:
        return recogniser
    rejection = learn_rejection(recogniser.features, recogniser.labels, recogniser.model.measure)
    return replace(recogniser, rejection=rejection)


def segments(
    recogniser: Recogniser,
    recording: Source,
    fps: float = 30.0,
    support_fps: float = 30.0,
) -> list[Segment]:
    """Return the actions of an untrimmed recording, in order of time.

    Of all windows that are not rejected, the most similar to an action is taken first, then the
    most similar of those that overlap it by a quarter at most, and so on.

    Args:
        recogniser: What was taught.
        recording: A path, an array (T, V, C) or (M, T, V, C), or a ``Clip``.
        fps: Frames a second of it.
        support_fps: Frames a second of the support recordings.
    """
    recogniser = with_rejection(recogniser)
    clip = as_clip(recording, recogniser.reading)
    clip = recogniser.model.fit(clip, recogniser.map_joints)
    first, last = clip.shown
    clip = replace(clip, positions=clip.positions[:, first:last])
    windows = Windows.of(recogniser, fps, support_fps)
    spans = []
    for length in dict.fromkeys(min(n, clip.frames) for n in windows.lengths):
        last = clip.frames - length
        starts = sorted({*range(0, last + 1, windows.hop), last})
        spans += [(start, start + length) for start in starts]
    pieces = [(span, window) for span in spans if (window := cut(clip, *span)) is not None]
    if not pieces:
        return []
    features = recogniser.model.features([window for _, window in pieces])
    places = [(first + start, first + end) for (start, end), _ in pieces]
    found = _accepted(recogniser, places, recogniser.similarities(features))
    taken: list[Segment] = []
    for one in sorted(found, key=lambda s: -s.similarity):
        if all(_common(one, other) <= _OVERLAP for other in taken):
            taken.append(one)
    return sorted(taken, key=lambda s: s.start)


def _accepted(
    recogniser: Recogniser, spans: Sequence[tuple[int, int]], similar: Tensor
) -> list[Segment]:
    assert recogniser.rejection is not None
    chances = (recogniser.scale * similar.double()).softmax(dim=1)
    found = []
    for row in (similar.amax(dim=1) >= recogniser.rejection.threshold).nonzero().flatten().tolist():
        first, second = chances[row].topk(2).indices.tolist()
        start, end = spans[row]
        found.append(
            Segment(
                start,
                end,
                recogniser.classes[first],
                float(chances[row, first]),
                recogniser.classes[second],
                float(similar[row, first]),
            )
        )
    return found


def _common(one: Segment, other: Segment) -> float:
    """Return the share of the shorter of two segments that both cover."""
    both = min(one.end, other.end) - max(one.start, other.start)
    return max(0, both) / min(one.end - one.start, other.end - other.start)


def cut(clip: Clip, start: int, end: int) -> Clip | None:
    """Return some frames of a recording with the bodies seen in them.

    None if fewer than half of the frames show anybody: too little to name an action by.
    """
    positions = clip.positions[:, start:end]
    if 2 * positions.any(axis=(0, 2, 3)).sum() < end - start:
        return None
    there = positions.any(axis=(1, 2, 3))
    return replace(clip, positions=positions[there], notes=())


class Stream:
    """Recognises actions while they happen.

    Every few frames the windows that end now are recognised, all lengths at once, and the most
    similar one decides. A label is given once it was decided ``patience`` times in a row, each
    time with the confidence ``sure``. Then watching begins anew. An action that is recognised on
    and on without a break is given once.

    Args:
        recogniser: What was taught.
        fps: Frames a second.
        support_fps: Frames a second of the support recordings.
        sure: Smallest confidence.
        patience: Decisions in a row.

    Attributes:
        frame: How many frames were added.
        decisions: How often windows were recognised.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        fps: float = 30.0,
        support_fps: float = 30.0,
        sure: float = 0.5,
        patience: int = 2,
    ):
        if not 0 <= sure <= 1 or patience < 1:
            raise SkelfewError(
                f"sure is {sure}, patience {patience}; expected [0, 1] and 1 or more"
            )
        self.recogniser = with_rejection(recogniser)
        self.windows = Windows.of(self.recogniser, fps, support_fps)
        self.sure, self.patience = sure, patience
        self.frame = self.decisions = self._since = 0
        self._frames: deque[np.ndarray] = deque(maxlen=self.windows.lengths[-1])
        self._label: str | None = None
        self._times = 0
        self._said: str | None = None

    def add(self, joints: np.ndarray | None) -> Segment | None:
        """Take the next frame; return an action as soon as it is sure of one.

        Args:
            joints: (V, C) or (M, V, C) of the recogniser's layout; NaN, or a confidence of 0, is a
                joint that was not found. None: nobody is there.

        Raises:
            SkelfewError: Another number of joints or values.
        """
        bodies = self._bodies(joints)
        self.frame += 1
        if not self._frames and not np.nan_to_num(bodies).any():
            self._since = self.frame  # nothing begins before somebody is there
            return None
        self._frames.append(bodies)
        ready = len(self._frames) >= self.windows.lengths[0]
        if not ready or (self.frame - self._since) % self.windows.hop:
            return None
        lengths = [n for n in self.windows.lengths if n <= len(self._frames)]
        return self._decide(lengths, self.patience)

    def finish(self) -> Segment | None:
        """Return the action that the last frames show, at the end of the stream."""
        if len(self._frames) < max(_SHORTEST, self.windows.lengths[0] // 2):
            return None
        lengths = [min(n, len(self._frames)) for n in self.windows.lengths]
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
        """Return the frames kept as a recording; None if nobody was in any."""
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
        told = self.recogniser.reading.options.get("coordinates", "auto")
        coordinates = min(values, model.coordinates if told == "auto" else int(told))
        if values > coordinates:  # a confidence
            positions[positions[..., -1] <= 0] = np.nan
            positions[np.isnan(positions).all(axis=(2, 3))] = 0
        try:
            clip = usable(Clip("stream", positions, layout, coordinates), "missing")
        except SkelfewError:  # nobody
            return None
        return model.fit(clip, self.recogniser.map_joints)

    def _decide(self, lengths: Sequence[int], patience: int) -> Segment | None:
        clip = self._clip()
        total = len(self._frames)
        pieces = [
            (n, window)
            for n in lengths
            if clip is not None and (window := cut(clip, total - n, total)) is not None
        ]
        best: Segment | None = None
        if pieces:
            features = self.recogniser.model.features([window for _, window in pieces])
            spans = [(self.frame - n, self.frame) for n, _ in pieces]
            found = _accepted(self.recogniser, spans, self.recogniser.similarities(features))
            best = max(found, key=lambda s: s.similarity, default=None)
            self.decisions += 1
        if best is None or best.confidence < self.sure:
            self._label, self._times, self._said = None, 0, None
            return None
        self._times = self._times + 1 if best.label == self._label else 1
        self._label = best.label
        if self._times < patience:
            return None
        self._label, self._times = None, 0
        self._frames.clear()
        again, self._said = best.label == self._said, best.label
        return None if again else best

"""Windows of a long recording, how far the body moves in them, and recordings joined to one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from skelfew.predict.recordings import Clip

Span = tuple[int, int]

STEP_S = 4 / 30  # over which movement is measured; shorter ones measure jitter


def windows(clip: Clip, lengths: Sequence[int], hops: int) -> list[Span]:
    """Return the windows of a recording, from short to long."""
    first, last = clip.shown
    spans = []
    for length in dict.fromkeys(min(n, last - first) for n in lengths):
        end = last - length
        starts = sorted({*range(first, end + 1, max(1, length // hops)), end})
        spans += [(start, start + length) for start in starts]
    return spans


def cut(clip: Clip, start: int, end: int) -> Clip | None:
    """Return frames of a recording with the bodies in them; None if most show no person."""
    positions = clip.positions[:, start:end]
    if 2 * positions.any(axis=(0, 2, 3)).sum() < end - start:
        return None
    there = positions.any(axis=(1, 2, 3))
    return replace(clip, positions=positions[there], notes=())


def travelled(clip: Clip, fps: float) -> np.ndarray:
    """Return how far joints moved on average from the first frame to each (T + 1,), in bodies.

    A body is as large as its joints lie from their mean (root of the mean square).
    """
    x = clip.positions[..., : clip.coordinates].astype(np.float64)
    there = np.asarray(x.any(axis=(2, 3)))
    step = min(max(1, round(fps * STEP_S)), x.shape[1] - 1)
    if step < 1 or not there.any():
        return np.zeros(x.shape[1] + 1)
    size = np.sqrt(x[there].var(axis=1).sum(axis=-1)).mean()
    both = there[:, step:] & there[:, :-step]
    way = np.linalg.norm(x[:, step:] - x[:, :-step], axis=-1).mean(axis=-1) * both
    way = way.sum(axis=0) / both.sum(axis=0).clip(1) / (step * max(size, 1e-9))
    before = step // 2
    return np.concatenate([[0], np.pad(way, (before, step - before), mode="edge").cumsum()])


def join(clips: Sequence[Clip], frames: Sequence[int]) -> tuple[Clip, list[Span]]:
    """Return recordings one after the other, brought to so many frames, and where each is.

    The body goes on from its place in the picture or the room; after every second recording it
    stands still for a while.
    """
    bodies, wait = max(len(clip.positions) for clip in clips), int(np.median(frames))
    parts: list[np.ndarray] = []
    places: list[Span] = []
    for number, (clip, count) in enumerate(zip(clips, frames, strict=True)):
        first, last = clip.shown
        taken = np.linspace(first, last - 1, count).round().astype(int)
        part = np.zeros((bodies, count, *clip.positions.shape[2:]), dtype=np.float32)
        part[: len(clip.positions)] = clip.positions[:, taken]
        if parts:
            step = parts[-1][0, -1].mean(axis=0) - part[0, 0].mean(axis=0)
            step[[1, *range(clip.coordinates, len(step))]] = 0  # heights and confidences stay
            part += step * part.any(axis=(2, 3), keepdims=True)
        start = places[-1][1] + wait * (number % 2) if places else 0
        places.append((start, start + count))
        parts.append(part)
        if number % 2 == 0:
            parts.append(np.repeat(part[:, -1:], wait, axis=1))
    return replace(clips[0], positions=np.concatenate(parts, axis=1)), places

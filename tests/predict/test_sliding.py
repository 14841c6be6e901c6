"""Actions in long recordings: the windows, an untrimmed file, a stream."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from skelfew.errors import SkelfewError
from skelfew.predict.model import Model
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.sliding import Segment, Stream, Watcher, segments
from skelfew.predict.spotting import Spotter, best_without_overlap
from skelfew.predict.windows import cut

RANDOM = np.random.default_rng(0)
BODY = RANDOM.normal(size=(20, 3))
AWAY = {name: RANDOM.normal(size=(20, 3)) for name in ("reach", "bow", "turn")}
LENGTH = 24


def action(name: str, frames: int = LENGTH) -> np.ndarray:
    """Go away from the body's place and come back."""
    swing = np.sin(np.pi * np.linspace(0, 1, frames))[:, None, None]
    return BODY + swing * AWAY[name] + 0.02 * RANDOM.normal(size=(frames, 20, 3))


def still(frames: int) -> np.ndarray:
    return BODY + 0.02 * RANDOM.normal(size=(frames, 20, 3))


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    takes = {name: [action(name), action(name, 20), action(name, 28)] for name in AWAY}
    return Recogniser.learn(takes, Model.raw("kinect-v1"))


@pytest.fixture(scope="module")
def long() -> np.ndarray:
    """Reach at 30, bow at 94, reach again at 158."""
    parts = [still(30), action("reach"), still(40), action("bow"), still(40), action("reach")]
    return np.concatenate([*parts, still(30)])


def near(found: Segment, start: int, slack: int = 8) -> bool:
    return abs(found.start - start) <= slack and abs(found.end - start - LENGTH) <= slack


def test_windows_are_shorter_and_longer_than_what_was_taught(recogniser: Recogniser) -> None:
    assert Watcher(recogniser).lengths() == (16, 19, 24, 29, 35)
    assert Watcher(recogniser, fps=60).lengths() == (32, 39, 47, 58, 70)
    assert Watcher(recogniser, fps=0.1).lengths() == (2,)
    with pytest.raises(SkelfewError, match="both must be above 0"):
        Watcher(recogniser, fps=0)


def test_actions_of_an_untrimmed_recording(recogniser: Recogniser, long: np.ndarray) -> None:
    found = segments(recogniser, long)
    assert [s.label for s in found] == ["reach", "bow", "reach"]
    assert all(near(s, start) for s, start in zip(found, (30, 94, 158), strict=True))
    assert found[0].to_dict(30)["start_s"] == round(found[0].start / 30, 3)
    assert segments(recogniser, still(80)) == []
    (whole,) = segments(recogniser, action("bow", 12))
    assert (whole.start, whole.end, whole.label) == (0, 12, "bow"), "shorter than any window"


def test_twice_the_rate_is_twice_the_frames(recogniser: Recogniser, long: np.ndarray) -> None:
    found = segments(recogniser, long.repeat(2, axis=0), fps=60)
    assert [s.label for s in found] == ["reach", "bow", "reach"]
    assert near(found[1], 188, slack=32)


def test_frames_without_anybody(recogniser: Recogniser, long: np.ndarray) -> None:
    empty = long.copy()
    empty[60:90] = 0
    assert [s.label for s in segments(recogniser, empty)] == ["reach", "bow", "reach"]


def watched(stream: Stream, frames: np.ndarray | list[np.ndarray | None]) -> list[Segment]:
    found = [stream.add(frame) for frame in frames] + [stream.finish()]
    return [s for s in found if s is not None]


@pytest.mark.parametrize("apart", [0.2, 1.1])
def test_neither_short_nor_long_windows_win_by_their_length(apart: float) -> None:
    """Four good short windows beat a poor long one over them; a good long one beats its parts."""
    labels, frames = torch.arange(2), torch.tensor([30.0, 180.0])
    spotter = Spotter(labels, frames, frames, spread=torch.ones(2), threshold=1.2)
    spans = [(0, 180), *((45 * i, 45 * i + 30) for i in range(4))]
    distance = torch.tensor([0.2 if apart > 1 else 0.8, *[apart] * 4])
    gains = spotter.gains(distance, torch.tensor([end - start for start, end in spans]))
    chosen = best_without_overlap(spans, gains.numpy())
    assert chosen == ([0] if apart > 1 else [1, 2, 3, 4])


def test_a_stream_says_it_as_soon_as_it_is_sure(recogniser: Recogniser, long: np.ndarray) -> None:
    stream = Stream(recogniser)
    found = watched(stream, long)
    assert [s.label for s in found] == ["reach", "bow", "reach"]
    for segment, start in zip(found, (30, 94, 158), strict=True):
        assert start + LENGTH // 2 < segment.end <= start + LENGTH + 3 * stream.hop
    assert stream.frame == len(long) and 0 < stream.decisions < len(long) / stream.hop


def test_a_stream_is_not_what_it_will_be(recogniser: Recogniser, long: np.ndarray) -> None:
    """Labels depend on the past only."""
    whole = watched(Stream(recogniser), long)
    stream = Stream(recogniser)
    part = [s for frame in long[:130] if (s := stream.add(frame)) is not None]
    assert part == whole[:2]


def changed(frames: np.ndarray, change: Callable[[int, np.ndarray], np.ndarray | None]) -> list:
    return [change(t, frame.copy()) for t, frame in enumerate(frames)]


def test_streams_with_gaps_people_and_lost_joints(recogniser: Recogniser, long: np.ndarray) -> None:
    def lose(t: int, frame: np.ndarray) -> np.ndarray | None:
        if 70 <= t < 80:
            return None
        frame[t % 20] = np.nan
        return frame

    expected = ["reach", "bow", "reach"]
    assert [s.label for s in watched(Stream(recogniser), changed(long, lose))] == expected
    two = changed(long, lambda t, frame: np.stack([frame, frame + 1]))
    assert [s.label for s in watched(Stream(recogniser), two)] == expected
    assert watched(Stream(recogniser), [None] * 80) == []


def test_an_action_that_goes_on_is_given_once() -> None:
    def hold(frames: int) -> np.ndarray:
        return still(frames) + AWAY["turn"]

    takes = {"hold": [hold(n) for n in (20, 24, 28)], "bow": [action("bow") for _ in range(3)]}
    stream = Stream(Recogniser.learn(takes, Model.raw("kinect-v1")))
    frames = np.concatenate([still(30), hold(120), still(60), hold(30)])
    assert [s.label for s in watched(stream, frames)].count("hold") == 2


def test_a_stream_that_ends_early_answers_at_its_end(recogniser: Recogniser) -> None:
    assert [s.label for s in watched(Stream(recogniser), action("bow", 14))] == ["bow"]
    assert watched(Stream(recogniser), action("bow", 3)) == []


def test_bad_frames_are_named(recogniser: Recogniser) -> None:
    stream = Stream(recogniser)
    stream.add(BODY)
    with pytest.raises(SkelfewError, match=r"frame 1: shape \(19, 3\), expected \(20, 2 or 3\)"):
        stream.add(BODY[:19])
    with pytest.raises(SkelfewError, match="sure is 2"):
        Stream(recogniser, sure=2)


def test_a_cut_keeps_the_bodies_that_are_seen(recogniser: Recogniser) -> None:
    values = np.zeros((2, 6, 20, 3), dtype=np.float32)
    values[0, :3], values[1, 3:5] = 1, 2
    from skelfew.predict.recordings import Clip

    clip = Clip("a", values, recogniser.model.layout, 3)
    second = cut(clip, 3, 6)
    assert second is not None and second.positions.shape == (1, 3, 20, 3)
    assert cut(clip, 5, 6) is None

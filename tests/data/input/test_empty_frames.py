"""Frames that show no person: where they are, and how many, makes no difference to the input."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_recordings import some_actions
from torch import Tensor

from skelfew.data.input import alignment, preprocess
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import load_layout
from skelfew.encoders.features import flat_positions, raw_pipeline
from skelfew.errors import SkelfewError
from skelfew.predict.model import Model
from skelfew.predict.recogniser import Recogniser

# The joints that readers give: metres; pixels; pixels and a confidence.
FORMS = {"kinect-v1": (3, 3), "kinect-v2": (3, 3), "coco": (2, 2), "openpose-25": (2, 3)}


@st.composite
def recordings(draw: st.DrawFn) -> tuple[np.ndarray, Pipeline, str]:
    """Draw a smooth clip (M, T, V, C) that begins and ends with somebody, and its pipeline."""
    name = draw(st.sampled_from(sorted(FORMS)))
    coordinates, channels = FORMS[name]
    bodies, frames = draw(st.integers(1, 2)), draw(st.integers(2, 40))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    steps = random.normal(0, 0.02, (bodies, frames, len(load_layout(name)), channels)).cumsum(
        axis=1
    )
    clip = (steps + random.normal(3, 0.3, (bodies, 1, *steps.shape[2:]))).astype(np.float32)
    if bodies == 2 and draw(st.booleans()):
        clip[1, draw(st.integers(0, frames - 1)) :] = 0
    pipeline = Pipeline(
        kind=draw(st.sampled_from(["ntu", "ucla"])),
        length=draw(st.integers(1, 32)),
        missing_body=draw(st.sampled_from(preprocess.MISSING_BODY)),
        stream=draw(st.sampled_from(preprocess.STREAMS)),
        coordinates=coordinates,
        root=draw(st.sampled_from(alignment.ROOTS)),
        facing=draw(st.sampled_from(alignment.FACINGS)),
        size=draw(st.sampled_from(alignment.SIZES)),
    )
    return clip, pipeline, name


def empty(clip: np.ndarray, frames: int) -> np.ndarray:
    return np.zeros((clip.shape[0], frames, *clip.shape[2:]), dtype=np.float32)


def inputs(clip: np.ndarray, pipeline: Pipeline, layout: str) -> list[Tensor]:
    """Return all that is made of a clip: test and training form, the raw joints."""
    bank = SkeletonBank.from_clips({"a": clip}, load_layout(layout), pipeline)
    raw = SkeletonBank.from_clips(
        {"a": clip}, load_layout(layout), raw_pipeline(pipeline.coordinates)
    )
    row, generator = torch.tensor([0]), torch.Generator().manual_seed(1)
    forms = [bank.batch(row, train=False), bank.batch(row, train=True, generator=generator)]
    return [*forms, flat_positions(raw)]


@given(recordings(), st.integers(0, 200), st.integers(0, 200), st.data())
@settings(deadline=None, max_examples=60)
def test_empty_frames_before_in_and_after(
    drawn: tuple[np.ndarray, Pipeline, str], before: int, after: int, data: st.DataObject
) -> None:
    """Before, after, and more than ``BRIDGED`` inside: equal to the last digit."""
    clip, pipeline, layout = drawn
    place = data.draw(st.integers(1, clip.shape[1] - 1))
    gap = data.draw(st.sampled_from([0, preprocess.BRIDGED + 1, 100]))
    parts = [empty(clip, before), clip[:, :place], empty(clip, gap), clip[:, place:]]
    longer = np.concatenate([*parts, empty(clip, after)], axis=1)
    for x, y in zip(inputs(clip, pipeline, layout), inputs(longer, pipeline, layout), strict=True):
        assert torch.equal(x, y)


@given(recordings(), st.data())
@settings(deadline=None, max_examples=60)
def test_a_short_gap_is_bridged(
    drawn: tuple[np.ndarray, Pipeline, str], data: st.DataObject
) -> None:
    """Frames lost inside change a joint by what it is off the straight line across the gap."""
    clip, _, layout = drawn
    clip = clip[:1]
    last = clip.shape[1] - 1
    start = data.draw(st.integers(1, max(1, last - 1)))
    end = min(last, start + data.draw(st.integers(1, preprocess.BRIDGED)))
    lost = clip.copy()
    lost[:, start:end] = 0
    across = np.linspace(clip[0, start - 1], clip[0, end], end - start + 2)[1:-1]
    bound = np.abs(across - clip[0, start:end]).max(initial=0)
    k = FORMS[layout][0]
    x, y = (preprocess.counted_frames(torch.from_numpy(c), k) for c in (clip, lost))
    assert x[2] == y[2] == clip.shape[1]
    assert (x[0] - y[0]).abs().max() <= bound + 1e-5


def test_what_would_be_all_zero_is_named() -> None:
    layout = load_layout("kinect-v1")
    good = np.random.default_rng(0).normal(size=(1, 5, 20, 3)).astype(np.float32)
    for bad, reason in ((0 * good, "no frame with a skeleton"), (0 * good + 2, "in one point")):
        with pytest.raises(SkelfewError, match=f"'bad'.*{reason}"):
            SkeletonBank.from_clips({"good": good, "bad": bad}, layout, Pipeline(), bodies=1)


def test_source_frames_are_those_of_the_recording() -> None:
    clip = np.random.default_rng(0).normal(size=(1, 20, 20, 3)).astype(np.float32)
    longer = np.concatenate([empty(clip, 7), clip[:, :9], empty(clip, 30), clip[:, 9:]], axis=1)
    pipeline = Pipeline(kind="ucla", length=20)
    bank = SkeletonBank.from_clips({"a": longer}, load_layout("kinect-v1"), pipeline, bodies=1)
    assert bank.source_frames(0).tolist() == [*range(7, 16), *range(46, 57)]


@pytest.mark.parametrize("data_set", ["utd-mhad", "nw-ucla"])
def test_recognition_of_real_recordings(shared: Path, data_set: str) -> None:
    """As ``skelfew-predict --raw`` with 3 exemplars: equal answers with empty frames around."""
    actions = some_actions(shared, data_set, each=5, step=3)
    expected = None
    for share in (0, 0.5, 1, 3):
        for at_end in (False, True):

            def around(clip: np.ndarray, share: float = share, at_end: bool = at_end) -> np.ndarray:
                blank = empty(clip[None], int(share * len(clip)))[0]
                return np.concatenate([clip, blank] if at_end else [blank, clip])

            takes = {name: [around(c) for c in clips[:3]] for name, clips in actions.items()}
            recogniser = Recogniser.learn(takes, Model.raw("kinect-v1"))
            answers = [
                recogniser.predict(around(c)) for clips in actions.values() for c in clips[3:]
            ]
            found = [(a.label, a.confidence, a.runner_up, a.similarity) for a in answers]
            expected = expected or found
            assert found == expected and len(found) >= 20

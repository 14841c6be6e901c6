"""A recogniser: features of a few recordings of each action, and what is nearest to them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skelfew.data.joints.layouts import Layout, load_layout
from skelfew.data.prepare.plausible import Survey
from skelfew.data.readers.arrays import coordinates_of, to_bodies
from skelfew.data.readers.bodies import turned_up
from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew.predict.model import Model
from skelfew.predict.recordings import Clip, read_clip, usable
from skelfew.predict.rejection import Rejection, learn_rejection
from skelfew.predict.similarity import class_means, confidence_scale, left_out
from skelfew.predict.support import read_folder
from skelfew.runs.folder import Run

FPS = 30.0  # frames a second, where nothing says it

Source = str | Path | np.ndarray | Clip


class Reading(NamedTuple):
    """Settings of reading arrays and keypoints; the arguments of ``read_clips``."""

    layout: Layout
    options: Mapping[str, str]
    unsure: int | None = None


@dataclass(frozen=True)
class Prediction:
    """The answer for one recording.

    Attributes:
        label: The action, or None for none of these.
        confidence: Probability of the nearest action among the known ones, in [0, 1].
        nearest: The nearest action, also where it is rejected.
        similarity: To the nearest action: a cosine, or 1 - half the distance by warping.
        notes: What is odd about the recording.
    """

    name: str
    label: str | None
    confidence: float
    nearest: str
    runner_up: str
    runner_up_confidence: float
    similarity: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> Document:
        """Return plain values for JSON."""
        return {**asdict(self), "notes": list(self.notes)}


@dataclass(frozen=True, repr=False)
class Recogniser:
    """Names the action of a recording; ``learn`` makes one.

    Labels are those of the classifier ``cosine``, or ``dtw`` without an encoder
    (docs/evaluation.md): the same exemplars give the same answers as in ``skelfew-eval``.

    Attributes:
        classes: The actions, N.
        features: Of all support recordings (S, *F).
        labels: Which action each shows (S,) int64.
        frames: How long each shows somebody, from first to last (S,) int64; of videos as many as
            it would be at ``FPS``.
        clips: The support recordings, S, as the model takes them.
        scale: Factor on the similarities, which makes confidences of them (``confidence_scale``).
        reading: How arrays and keypoints are read.
        map_joints: Whether joints of another layout are mapped.
        rejection: When the answer is none of these; None: never.
    """

    model: Model
    classes: tuple[str, ...]
    features: Tensor
    labels: Tensor
    frames: Tensor
    clips: tuple[Clip, ...]
    scale: float
    reading: Reading
    map_joints: bool = False
    rejection: Rejection | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the support recordings, S."""
        return tuple(clip.name for clip in self.clips)

    def how_sure(self) -> str:
        """Return how many support recordings are recognised when each is left out, in words."""
        similar, truth = left_out(self.features, self.labels, self.model.measure)
        if not len(truth):
            return "with one recording of each action nothing says how sure that is"
        right = int((similar.argmax(dim=1) == truth).sum())
        return f"{right} of {len(truth)} support recordings are recognised when left out"

    def __repr__(self) -> str:
        actions = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        return (
            f"Recogniser({len(self.classes)} actions ({actions}), {len(self.names)} recordings, "
            f"{self.model!r})"
        )

    @classmethod
    def learn(
        cls,
        support: str | Path | Mapping[str, Sequence[Source]],
        run: Run | str | Path | Model | None = None,
        *,
        layout: Layout | str | None = None,
        map_joints: bool = False,
        reject: bool = False,
        options: Mapping[str, str] | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> "Recogniser":
        """Teach actions from one to five recordings of each.

        Args:
            support: A folder with a folder an action (``read_folder``), or recordings by action:
                paths, or arrays (T, V, C) or (M, T, V, C).
            run: A run folder, an encoder file or a ``Model``; None for the newest run in runs/.
            layout: Joints of arrays and keypoints [those of the run].
            map_joints: Map recordings of another layout to that of the run.
            reject: Learn when to answer none of these (``learn_rejection``).
            options: How arrays and keypoints are read, e.g. ``{"coordinates": "2"}``.
            note: Takes a line about what is left out or odd.

        Raises:
            SkelfewError: Fewer than two actions, or a recording that cannot be used; it is named.
        """
        model = run if isinstance(run, Model) else Model.from_run(run)
        layout = model.layout if layout is None else load_layout(layout)
        reading = Reading(layout, dict(options or {}), 2 if model.coordinates == 2 else None)
        if isinstance(support, str | Path):
            clips: Mapping[str, Sequence[Clip]] = read_folder(support, *reading, note)
            where = str(support)
        else:
            clips = {
                name: [as_clip(s, reading, f"{name} {i}") for i, s in enumerate(sources, 1)]
                for name, sources in support.items()
            }
            where = "the support set"
        if len(clips) < 2:
            raise SkelfewError(
                f"{where}: only one action ({', '.join(clips) or 'none'}); a second is needed to "
                "tell it from, e.g. 'other' with recordings of anything else"
            )
        if empty := [name for name, group in clips.items() if not group]:
            raise SkelfewError(f"{where}: no recording of {empty[0]!r}")
        fitted = [model.fit(clip, map_joints) for group in clips.values() for clip in group]
        counts = torch.tensor([len(group) for group in clips.values()])
        labels = torch.arange(len(clips)).repeat_interleave(counts)
        survey = Survey(model.layout, model.coordinates)
        read = [clip.pixels is None for clip in fitted]  # joints found in a video are in order
        for clip, label, declared in zip(fitted, labels.tolist(), read, strict=True):
            if declared:
                survey.add(clip.name, clip.positions, label)
        odd = survey.findings() if any(read) else ()
        for text in (*gathered(fitted), *(f"{where}: {text}" for text in odd)):
            note(text)
        if model.encoder is None:  # as many bodies as are shown
            most = max(len(clip.positions) for clip in fitted)
            model = replace(model, bodies=min(model.bodies, most))
        features = model.features(fitted)
        if not features.isfinite().all():
            bad = int((~features.flatten(1).isfinite().all(dim=1)).nonzero()[0])
            raise SkelfewError(f"{fitted[bad].name}: its features are not finite; a broken encoder")
        rates = [1 if clip.fps is None else FPS / clip.fps for clip in fitted]
        shown = [(end - first) for first, end in (clip.shown for clip in fitted)]
        frames = torch.tensor([max(1, round(n * r)) for n, r in zip(shown, rates, strict=True)])
        return cls(
            model,
            tuple(clips),
            features,
            labels,
            frames,
            tuple(fitted),
            confidence_scale(features, labels, model.measure),
            reading,
            map_joints,
            learn_rejection(features, labels, model.measure) if reject else None,
        )

    def predict(self, recording: Source) -> Prediction:
        """Return what a recording shows.

        Args:
            recording: A path, or an array (T, V, C) or (M, T, V, C) of joints of the
                layout given to ``learn``.

        Raises:
            SkelfewError: It cannot be used; see ``read_clips`` and ``Model.fit``.
        """
        return self.predict_clips([as_clip(recording, self.reading)])[0]

    def predict_clips(self, clips: Sequence[Clip]) -> list[Prediction]:
        """Return what recordings show that have been read; many at a time."""
        if not clips:
            return []
        fitted = [self.model.fit(clip, self.map_joints) for clip in clips]
        features = self.model.features(fitted)
        return [
            self._prediction(clip.name, row, (*clip.notes, *_axes(clip)))
            for clip, row in zip(fitted, self.similarities(features), strict=True)
        ]

    def similarities(self, features: Tensor) -> Tensor:
        """Return how similar features (n, *F) are to the actions, (n, N)."""
        return self.model.measure(self.features, self.labels, features)

    @property
    def prototypes(self) -> Tensor:
        """Mean exemplar of each action (N, D)."""
        return class_means(self.features, self.labels)

    def _prediction(self, name: str, similar: Tensor, notes: tuple[str, ...]) -> Prediction:
        chances = (self.scale * similar.double()).softmax(dim=0)
        first, second = chances.topk(2).indices.tolist()
        rejected = self.rejection is not None and float(similar[first]) < self.rejection.threshold
        return Prediction(
            name=name,
            label=None if rejected else self.classes[first],
            confidence=float(chances[first]),
            nearest=self.classes[first],
            runner_up=self.classes[second],
            runner_up_confidence=float(chances[second]),
            similarity=float(similar[first]),
            notes=notes,
        )


def _axes(clip: Clip) -> tuple[str, ...]:
    """Return a note on a recording whose axes seem to be others than the support's."""
    if clip.pixels is not None:  # people in videos may lie
        return ()
    survey = Survey(clip.layout, clip.coordinates)
    survey.add(clip.name, clip.positions)
    return tuple(filter(None, [survey.upright()]))


def as_clip(source: Source, reading: Reading, name: str = "array") -> Clip:
    """Return a recording as read: from a path, an array, or as it is."""
    if isinstance(source, Clip):
        return source
    if isinstance(source, str | Path):
        return read_clip(source, *reading)
    layout, options, unsure = reading
    try:
        positions = to_bodies(np.asarray(source), len(layout), options.get("order", "auto"))
        coordinates = coordinates_of(positions, None, options.get("coordinates", "auto"), unsure)
        positions = turned_up(positions, coordinates, options.get("up", "y"))
        return usable(Clip(name, positions, layout, coordinates), options.get("nan", "missing"))
    except SkelfewError as error:
        raise SkelfewError(f"{name}: {error}") from None


def gathered(found: Iterable[Clip | Prediction]) -> list[str]:
    """Return the notes of recordings as lines, each different note once."""
    names: dict[str, list[str]] = {}
    for item in found:
        for text in item.notes:
            names.setdefault(text, []).append(item.name)
    return [
        f"{where[0]}" + (f" and {len(where) - 1} more" if where[1:] else "") + f": {text}"
        for text, where in names.items()
    ]

"""Recordings to features: the encoder of a run, or the raw joints without any."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.joint_maps import joint_map, project
from skelfew.data.joints.layouts import Layout, load_layout
from skelfew.encoders.checkpoints import open_encoder
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.encoders.features import clip_parts, encode, flat_positions, fused_clips, raw_pipeline
from skelfew.errors import SkelfewError
from skelfew.fewshot.ensemble import Joined, gap, weighted
from skelfew.io.files import Document
from skelfew.predict.recordings import Clip
from skelfew.predict.similarity import MEASURES, Measure, to_exemplars
from skelfew.runs.folder import Run, newest_run


class LayoutMismatch(SkelfewError):
    """A recording of other joints than the encoder was trained on; the message has the way out."""


@dataclass(frozen=True, repr=False)
class Model:
    """Recordings to features.

    Attributes:
        name: The run, the encoder file or ``raw joints``.
        encoder: In evaluation mode; None for raw joints.
        pipeline: How recordings become network input, as in training.
        about: What the encoder's file says about itself.
        compared_by: What compares features, a key of ``skelfew.predict.similarity.MEASURES``.
        share: Of the encoder beside aligned joints, as ``fusion`` of its run; 0 without these.
    """

    name: str
    encoder: SkeletonEncoder | None
    pipeline: Pipeline
    layout: Layout
    channels: int
    bodies: int
    about: Document
    compared_by: str = "cosine"
    share: float = 0.0

    def __repr__(self) -> str:
        kind = type(self.encoder).__name__ if self.encoder is not None else "no encoder"
        return (
            f"Model({self.name!r}, {kind}, layout={self.layout.name}, channels={self.channels}, "
            f"bodies={self.bodies})"
        )

    @classmethod
    def from_run(cls, run: Run | str | Path | None = None) -> "Model":
        """Open the encoder of a finished run (None: the newest in runs/), or an encoder file.

        Raises:
            SkelfewError: No such run, not finished, or weights that cannot be read.
        """
        if isinstance(run, str | Path) and Path(run).is_file():
            return cls.from_file(Path(run))
        if run is None:
            run = newest_run()
        run = run if isinstance(run, Run) else Run.open(run)
        run.check_finished()
        return replace(cls.from_file(run.encoder), name=str(run.path))

    @classmethod
    def from_file(cls, path: Path) -> "Model":
        """Open an ``encoder.safetensors``."""
        encoder, about, pipeline, share = open_encoder(path)
        if pipeline is None:  # the preparation of its data set
            coordinates = 2 if encoder.channels == 2 else 3
            pipeline = Pipeline.for_data(
                None, str(about.get("dataset", "")), coordinates=coordinates
            )
        rule = "dtw" if share else "cosine"
        takes = (encoder.layout, encoder.channels, encoder.bodies)
        return cls(str(path), encoder, pipeline, *takes, about, rule, share)

    @classmethod
    def raw(cls, layout: Layout | str, coordinates: int = 3, bodies: int = 1) -> "Model":
        """Return joint positions without an encoder: nothing was trained, nothing is needed.

        Args:
            layout: The joints of the recordings, or the name of a layout.
            coordinates: 3, or 2 for joints in pictures.
            bodies: M; bodies that are absent are zero.
        """
        layout = load_layout(layout)
        pipeline = raw_pipeline(coordinates)
        return cls("raw joints", None, pipeline, layout, coordinates, bodies, {})

    @classmethod
    def untrained(cls, layout: Layout | str, coordinates: int = 3, bodies: int = 2) -> "Model":
        """Return aligned bodies compared by dynamic time warping, as ``skelfew-eval --raw``."""
        model = cls.raw(layout, coordinates, bodies)
        pipeline = raw_pipeline(coordinates, aligned=True)
        return replace(model, name="aligned joints", pipeline=pipeline, compared_by="dtw")

    @property
    def measure(self) -> Measure:
        """Return similarities of recordings to actions."""
        return MEASURES[self.compared_by]

    def apart(self, support: Tensor, features: Tensor) -> Tensor:
        """Return the distances (n, S) of features of windows to those of each exemplar."""
        return to_exemplars(self.compared_by, support, features)

    @property
    def coordinates(self) -> int:
        """Number of values of a joint that are its position."""
        return self.pipeline.coordinates

    def fit(self, clip: Clip, map_joints: bool = False) -> Clip:
        """Return a recording with the joints and the values that this model takes.

        Confidences are added (1) or left out as needed. With ``map_joints``, joints of another
        layout are mapped by their names, and 3D joints are projected for a model of 2D ones.

        Raises:
            LayoutMismatch: Other joints without ``map_joints``, or joints that cannot be made.
        """
        positions, notes = clip.positions, clip.notes
        if clip.coordinates < self.coordinates:
            raise LayoutMismatch(
                f"{clip.name}: 2D joints, but {self.name} takes 3D ones, and depth cannot be "
                "guessed; train on 2D recordings (docs/own-data.md)"
            )
        if not clip.layout.same_graph(self.layout) or clip.coordinates > self.coordinates:
            if not map_joints:
                raise LayoutMismatch(self._way_out(clip))
            mapping = joint_map(clip.layout, self.layout)
            positions = mapping.apply(positions, clip.coordinates)
            notes += (f"joints mapped from {clip.layout.name} to {self.layout.name}",)
            if clip.coordinates > self.coordinates:
                positions = project(positions)
                notes += ("3D joints projected to a picture",)
        surplus = positions.shape[-1] - self.channels
        if surplus > 0:
            positions = positions[..., : self.channels]
        elif surplus < 0:
            there = positions.any(axis=-1, keepdims=True).astype(np.float32)
            positions = np.concatenate([positions, there], axis=-1)
        return replace(
            clip,
            positions=np.ascontiguousarray(positions),
            layout=self.layout,
            coordinates=self.coordinates,
            notes=notes,
        )

    def _way_out(self, clip: Clip) -> str:
        mine = f"{self.layout.name} ({len(self.layout)} joints, {self.coordinates}D)"
        theirs = f"{clip.layout.name} ({len(clip.layout)} joints, {clip.coordinates}D)"
        differ = f"{clip.name}: {theirs}, but {self.name} takes {mine}"
        try:
            made = joint_map(clip.layout, self.layout).described()
        except SkelfewError as error:
            return f"{differ}; no mapping: {error}; or train on such recordings"
        parts = [f"{name} = {source}" for name, source in made.items()]
        shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
        shown = f" ({shown})" if parts else ""
        return f"{differ}. --map-joints makes them from yours{shown}; or train on such recordings"

    def features(self, clips: Sequence[Clip]) -> Tensor:
        """Return the features (n, D) of recordings that ``fit``; clips (n, P, T, D) for ``dtw``."""
        named = {str(i): torch.from_numpy(clip.positions.copy()) for i, clip in enumerate(clips)}
        bank = SkeletonBank.from_clips(named, self.layout, self.pipeline, self.bodies)
        if self.encoder is None:
            return clip_parts(bank) if self.compared_by == "dtw" else flat_positions(bank)
        values = encode(self.encoder, bank, shown=False)
        if not self.share:
            return values
        beside = raw_pipeline(self.coordinates, aligned=True)
        bank = SkeletonBank.from_clips(named, self.layout, beside, self.bodies)
        return fused_clips(values, clip_parts(bank), self.share)

    def to(self, device: str) -> "Model":
        """Move the encoder to a device."""
        if self.encoder is not None:
            self.encoder.to(device)
        return self


@dataclass(frozen=True, repr=False, kw_only=True)
class EnsembleModel(Model):
    """Several models as one: similarities are summed; it takes what the first one takes."""

    members: tuple[Model, ...]
    joined: Joined

    @classmethod
    def of(cls, members: Sequence[Model]) -> "EnsembleModel":
        """Return the ensemble of two models or more; SkelfewError if they take different joints."""
        first = members[0]
        for model in members[1:]:
            if not model.layout.same_graph(first.layout) or model.channels != first.channels:
                raise SkelfewError(
                    f"{model.name} takes {model.layout.name} joints of {model.channels} values, "
                    f"{first.name} {first.layout.name} of {first.channels}: no ensemble"
                )
        name = "ensemble of " + ", ".join(model.name for model in members)
        own = {**vars(first), "name": name, "compared_by": "ensemble"}
        return cls(**own, members=tuple(members), joined=Joined())

    @property
    def measure(self) -> Measure:
        """The weighted mean of the members' measures."""

        def together(support: Tensor, labels: Tensor, features: Tensor) -> Tensor:
            gaps, found = [], []
            for model, s, f in self._parts(support, features):
                gaps.append(gap(model.measure(s, labels, s), labels))
                found.append(model.measure(s, labels, f))
            return weighted(gaps, found)

        return together

    def apart(self, support: Tensor, features: Tensor) -> Tensor:
        """Return the weighted mean of the members' distances (n, S)."""
        parts = self._parts(support, features)
        found = [(m.apart(s, s).mean(), m.apart(s, f)) for m, s, f in parts]
        return weighted([unit for unit, _ in found], [values for _, values in found])

    def features(self, clips: Sequence[Clip]) -> Tensor:
        """Return the features (n, D) of all members side by side."""
        return self.joined.join([model.features(clips) for model in self.members])

    def to(self, device: str) -> "Model":
        """Move all encoders to a device."""
        for model in self.members:
            model.to(device)
        return self

    def _parts(self, support: Tensor, features: Tensor) -> Iterator[tuple[Model, Tensor, Tensor]]:
        both = self.joined.split(support), self.joined.split(features)
        return zip(self.members, *both, strict=True)

"""Skeletons in memory, in batches without a loop over samples; steps are ``preprocess``'s."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from skelfew.data.input import augment, preprocess
from skelfew.data.input.alignment import alignment
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import Layout
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError

_COPIES = 100  # of a clip's frame list, from which CTR-GCN's feeders/feeder_ucla.py draws frames
_ALIGNED_ROWS = 1 << 16  # frames of bodies that are aligned together


class SkeletonBank:
    """The skeletons of some samples in one tensor, centred, ready for ``batch``.

    With two coordinates they are scaled to body lengths too.

    Args:
        ids: Sample IDs (N).
        rows: All bodies and frames of all samples (R, V, C) float32, sample by sample, body by
            body. Changed in place.
        frames: T of each sample (N,).
        stored: How many bodies of each sample are in ``rows`` (N,).
        layout: Joint layout, V joints.
        bodies: M of the batches. Surplus bodies are left out, missing ones filled in as
            ``pipeline.missing_body`` says.

    Attributes:
        frames: How many frames of each sample count (N,) int64: ``preprocess.counted_frames``.
        present: Which bodies are there (N, M) bool, before missing ones are filled in.

    Raises:
        SkelfewError: Wrong shapes, or a sample with a value that is not finite, or without any
            skeleton; it is named.
    """

    def __init__(
        self,
        ids: Sequence[str],
        rows: Tensor,
        frames: Tensor,
        stored: Tensor,
        layout: Layout,
        pipeline: Pipeline,
        bodies: int,
    ):
        self.ids, self.layout, self.pipeline, self.bodies = tuple(ids), layout, pipeline, bodies
        self.channels = rows.shape[-1]
        if rows.ndim != 3 or rows.shape[1] != len(layout) or self.channels < pipeline.coordinates:
            raise SkelfewError(
                f"skeletons of shape {tuple(rows.shape[1:])} for layout {layout.name} with "
                f"{len(layout)} joints and {pipeline.coordinates} coordinates; the layout must be "
                "the one the skeletons were prepared with"
            )
        if int((frames * stored).sum()) != len(rows) or bodies < 1:
            raise SkelfewError(f"{len(rows)} rows for {int((frames * stored).sum())} body frames")
        self.frames = frames.long().clone()
        sample_rows = self.frames * stored
        starts = sample_rows.cumsum(0) - sample_rows
        flat = rows.view(len(rows), -1)
        finite = flat.isfinite().all(dim=1)
        if not finite.all():
            bad = int((starts <= int((~finite).nonzero()[0])).sum()) - 1
            raise SkelfewError(
                f"sample {self.ids[bad]!r} has a coordinate that is not a number; prepare the "
                "data set again or leave the sample out"
            )
        there = (flat != 0).any(dim=1)
        stored = stored.clone()
        self._sources = self._close_gaps(rows, there, starts, stored)
        if pipeline.coordinates == 2:
            _to_body_size(rows, there, starts, self.frames, sample_rows)
        _centre(rows, there, starts, sample_rows, layout.root, pipeline.coordinates)

        # Row of frame 0 of every body, and whether that body is ever there.
        slots = torch.arange(bodies).expand(len(self.ids), bodies)
        self._start = starts[:, None] + slots.minimum(stored[:, None] - 1) * self.frames[:, None]
        counts = torch.cat([there.new_zeros(1, dtype=torch.int64), there.long().cumsum(0)])
        seen = counts[self._start + self.frames[:, None]] - counts[self._start]
        self.present = (slots < stored[:, None]) & (seen > 0)
        self._check_extent(rows)
        first = self.present.long().argmax(dim=1, keepdim=True)
        self._filled = self.present.clone()
        if pipeline.missing_body == "duplicate":
            self._start = self._start.where(self.present, self._start.gather(1, first))
            self._filled[:] = True
        self._rows = flat
        self._there = there
        if pipeline.aligned:
            self._align(starts, stored)
        self._parents = layout.parents

    def _align(self, starts: Tensor, stored: Tensor) -> None:
        """Align all rows in place, samples of similar length together."""
        k, joints = self.pipeline.coordinates, len(self.layout)
        rows = self._rows.view(len(self._rows), joints, self.channels)
        found = self._there[:, None].expand(-1, joints)
        if self.channels > k:
            found = (rows != 0).any(dim=-1)
        order = self.frames.argsort()
        most = self.bodies * self.frames[order].clamp(min=1)
        block = (most.double().cumsum(0) // _ALIGNED_ROWS).long()
        for index in order.split([n for n in block.bincount().tolist() if n]):
            frame = torch.arange(int(self.frames[index].max()))
            body = torch.arange(int(stored[index].max()))
            inside = (body < stored[index, None])[..., None] & (
                frame < self.frames[index, None, None]
            )
            at = starts[index, None, None] + body[:, None] * self.frames[index, None, None] + frame
            at = at.where(inside, starts[index, None, None])
            used = inside & (body < self.bodies)[:, None]
            x, seen = rows[at][..., :k], found[at] & used[..., None]
            there = self._there[at] & used
            origin, matrix = alignment(x, there, seen, self.layout, **self.pipeline.alignment)
            x = ((x - origin[:, None, :, None]).flatten(1, 3) @ matrix).view(x.shape)
            x = x.masked_fill(~found[at][..., None], 0)
            rows[at[inside], :, :k] = x[inside]

    @classmethod
    def from_store(
        cls,
        store: SkeletonStore,
        sample_ids: Sequence[str],
        pipeline: Pipeline,
        bodies: int | None = None,
    ) -> "SkeletonBank":
        """Read samples from a skeleton store; ``bodies`` None is the store's most, 2 at most."""
        positions, offset = store.read_all()
        index = np.array([store.row(sample_id) for sample_id in sample_ids], dtype=np.int64)
        if not np.array_equal(index, np.arange(len(store))):
            kept = [positions[offset[i] : offset[i + 1]] for i in index]
            positions = np.concatenate(kept) if kept else positions[:0]
        if bodies is None:
            bodies = int(min(2, store.bodies.max(initial=1)))
        return cls(
            sample_ids,
            torch.from_numpy(positions),
            torch.from_numpy(store.frames[index]),
            torch.from_numpy(store.bodies[index]),
            store.joint_layout,
            pipeline,
            bodies,
        )

    @classmethod
    def from_clips(
        cls,
        clips: Mapping[str, np.ndarray | Tensor],
        layout: Layout,
        pipeline: Pipeline,
        bodies: int = 2,
    ) -> "SkeletonBank":
        """Take clips (M, T, V, C) by name, e.g. recordings that are not in a store."""
        tensors = [torch.as_tensor(clip, dtype=torch.float32) for clip in clips.values()]
        if wrong := [name for name, clip in zip(clips, tensors, strict=True) if clip.ndim != 4]:
            raise SkelfewError(
                f"sample {wrong[0]!r}: expected bodies x frames x joints x coordinates, got shape "
                f"{tuple(clips[wrong[0]].shape)}"
            )
        return cls(
            list(clips),
            torch.cat([clip.flatten(0, 1) for clip in tensors]),
            torch.tensor([clip.shape[1] for clip in tensors]),
            torch.tensor([clip.shape[0] for clip in tensors]),
            layout,
            pipeline,
            bodies,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "SkeletonBank":
        """Move all tensors to a device, in place; batches are then made there."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def clip(self, row: int) -> Tensor:
        """Return one sample, centred and aligned, (M, T, V, C)."""
        t = int(self.frames[row])
        frames = torch.arange(t, device=self._rows.device).expand(1, t)
        index = torch.tensor([row], device=self._rows.device)
        values = self._gather(index, frames)[0]
        return values.unflatten(-1, (len(self.layout), self.channels))

    def source_frames(self, row: int) -> Tensor:
        """Return which frame of a sample each frame of a test batch shows, (T,) float64."""
        length = self.pipeline.length
        if self.pipeline.kind == "ucla":
            shown = preprocess.spread_frames(self.frames[row], length).double()
        else:
            start, crop = preprocess.central_window(self.frames[row], self.pipeline.test_interval)
            shown = start + preprocess.resized_positions(crop, length).minimum(crop - 1)
        if row not in self._sources:
            return shown
        source, before = self._sources[row].to(shown), shown.long()
        after = (before + 1).clamp(max=len(source) - 1)
        return source[before].lerp(source[after], shown - before)

    def batch(
        self, index: Tensor, *, train: bool, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return network input (B, C, T, V, M) float32, a view that is not contiguous.

        Args:
            index: Positions in ``ids`` (B,) int64.
            train: Random crop or frames and random rotation instead of the fixed test form.
            generator: Source of randomness, on the processor; None is torch's own.
        """
        index = index.to(self._rows.device)
        make = self._ntu if self.pipeline.kind == "ntu" else self._ucla
        x = make(index, train, generator)
        x = preprocess.stream(x, self.pipeline.stream, self._parents, self.pipeline.coordinates)
        return x.permute(0, 4, 2, 3, 1)

    def _ntu(self, index: Tensor, train: bool, generator: torch.Generator | None) -> Tensor:
        total, length = self.frames[index], self.pipeline.length
        if train:
            low, high = self.pipeline.train_interval
            portion, place = self._random((2, len(index)), generator)
            start, crop = preprocess.random_window(total, portion * (high - low) + low, place)
        else:
            start, crop = preprocess.central_window(total, self.pipeline.test_interval)
        # Half-pixel centres, ends clamped: the frames on both sides of each new frame.
        position = preprocess.resized_positions(crop, length)
        before = position.long()
        after = (before + 1).minimum(crop[:, None] - 1)
        weight = (position - before).float()[:, None, :, None]
        x = self._gather(index, start[:, None] + before)
        x.lerp_(self._gather(index, start[:, None] + after), weight)
        x = x.unflatten(-1, (len(self.layout), self.channels))
        if train and self.pipeline.coordinates == 2:
            random = 2 * self._random((len(index), 3), generator) - 1
            factors = 1 + random[:, 1:] * self.pipeline.stretch
            matrices = augment.picture_matrix(random[:, 0] * self.pipeline.rotation, factors)
            x[..., :2] = _rotate(x[..., :2], matrices.float())
        elif train and self.pipeline.rotation > 0:
            angles = (2 * self._random((len(index), 3), generator) - 1) * self.pipeline.rotation
            x = _rotate(x, augment.rotation_matrix(angles).transpose(-1, -2).float())
        return x

    def _ucla(self, index: Tensor, train: bool, generator: torch.Generator | None) -> Tensor:
        total, size = self.frames[index], self.pipeline.length
        coordinates = self.pipeline.coordinates
        # Whole clips: shorter ones repeat their last frame, which no minimum or maximum notices.
        frames = torch.arange(int(total.max()), device=index.device).minimum(total[:, None] - 1)
        x = self._gather(index, frames).unflatten(-1, (len(self.layout), self.channels))
        if train and coordinates == 3 and self.pipeline.view_degrees > 0:
            most = self.pipeline.view_degrees
            steps = self._random((len(index), 2), generator) * (2 * most + 1)
            x = _rotate(x, augment.view_matrix(steps.floor() - most).float())
        there = self._is_there(index, frames)
        x = _fit_to_box(x, there, coordinates)
        if train:
            drawn = augment.sorted_draw(total * max(_COPIES, size), size, generator)
            chosen = (drawn // max(_COPIES, size)).minimum(total[:, None] - 1)
        else:
            chosen = preprocess.spread_frames(total, size)
        return x.gather(2, chosen[:, None, :, None, None].expand(-1, self.bodies, -1, *x.shape[3:]))

    def _random(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Return float64 numbers in [0, 1); the same on every device for one generator."""
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(self._rows.device)

    def _gather(self, index: Tensor, frames: Tensor) -> Tensor:
        """Return frames (B, L) of samples (B,) as (B, M, L, V * C); empty slots are zero."""
        rows = self._start[index][:, :, None] + frames[:, None]
        x = self._rows[rows.flatten()].view(*rows.shape, -1)
        filled = self._filled[index]
        return x if filled.all() else x.mul_(filled[:, :, None, None])

    def _is_there(self, index: Tensor, frames: Tensor) -> Tensor:
        """Return whether anybody is in slot M at frames (B, L): (B, M, L) bool."""
        rows = self._start[index][:, :, None] + frames[:, None]
        return self._there[rows] & self._filled[index][:, :, None]

    def _close_gaps(
        self, rows: Tensor, there: Tensor, starts: Tensor, stored: Tensor
    ) -> dict[int, Tensor]:
        """Apply ``preprocess.counted_frames`` where a frame shows no person, in place.

        Such a sample's frames then lie at the front of its rows, body by body, the rest is zero,
        and ``frames`` and ``stored`` change. Returns which frames of the recording they are, by
        sample.
        """
        begin = self.frames.cumsum(0) - self.frames
        sample = torch.arange(len(self)).repeat_interleave(self.frames)
        frame = torch.arange(len(sample)) - begin[sample]
        somebody = torch.zeros(len(sample), dtype=torch.bool)
        for body in range(self.bodies):
            slot = (stored - 1).clamp(max=body)
            somebody |= there[(starts + slot * self.frames)[sample] + frame]
        sources = {}
        for i in sample[~somebody].unique().tolist():
            block = slice(int(starts[i]), int(starts[i] + self.frames[i] * stored[i]))
            clip = rows[block].unflatten(0, (int(stored[i]), int(self.frames[i])))[: self.bodies]
            closed, order, count = preprocess.counted_frames(clip, self.pipeline.coordinates)
            if not count:
                raise SkelfewError(
                    f"sample {self.ids[i]!r} has no frame with a skeleton; leave it out of the "
                    "manifest"
                )
            closed = closed[:, :count].flatten(0, 1)
            rows[block] = 0
            rows[block][: len(closed)] = closed
            there[block] = (rows[block] != 0).flatten(1).any(dim=1)
            self.frames[i], stored[i], sources[i] = count, len(clip), order[:count]
        return sources

    def _check_extent(self, rows: Tensor) -> None:
        """Raise SkelfewError for a sample of which nothing is left once it is centred."""
        somewhere = (rows[..., : self.pipeline.coordinates] != 0).flatten(1).any(dim=1)
        counts = torch.cat([somewhere.new_zeros(1).long(), somewhere.long().cumsum(0)])
        points = counts[self._start + self.frames[:, None]] - counts[self._start]
        if len(flat := (~(points > 0).any(dim=1)).nonzero().flatten()):
            raise SkelfewError(
                f"sample {self.ids[int(flat[0])]!r}: all its joints lie in one point, in all "
                "frames; leave it out of the manifest"
            )


def _centre(
    rows: Tensor, there: Tensor, starts: Tensor, counts: Tensor, root: int, coordinates: int
) -> None:
    """``preprocess.centre`` for all samples, in place."""
    first = _first_row(there, starts, counts)
    origin = rows[first, root, :coordinates]
    if rows.shape[-1] > coordinates:  # with a confidence: a joint may not have been found
        found = (rows != 0).any(dim=-1)
        seen = found[first][..., None]
        mean = (rows[first, :, :coordinates] * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1)
        origin = origin.where(seen[:, root], mean)
        absent = ~found
    rows[..., :coordinates] -= origin.repeat_interleave(counts, dim=0)[:, None]
    if rows.shape[-1] > coordinates:
        rows[absent] = 0
    else:
        rows[~there] = 0


def _to_body_size(
    rows: Tensor, there: Tensor, starts: Tensor, frames: Tensor, counts: Tensor
) -> None:
    """``preprocess.to_body_size`` for all samples, in place."""
    absent = ~(rows != 0).any(dim=-1, keepdim=True) if rows.shape[-1] > 2 else ~there[:, None, None]
    low = rows[..., :2].masked_fill(absent, torch.inf).amin(dim=1)
    high = rows[..., :2].masked_fill(absent, -torch.inf).amax(dim=1)
    sizes = (high - low).amax(dim=-1)
    # The rows of the first body that is there; the median of their sizes, sample by sample.
    sample = torch.arange(len(starts)).repeat_interleave(counts)
    body = (torch.arange(len(rows)) - starts[sample]) // frames[sample]
    first = _first_row(there, starts, counts)
    used = (there & (body == body[first][sample])).nonzero().flatten()
    used = used[sizes[used].argsort(stable=True)]
    used = used[sample[used].argsort(stable=True)]
    each = torch.zeros_like(counts).index_add(0, sample[used], torch.ones_like(used))
    middle = each.cumsum(0) - each + (each - 1).clamp(min=0) // 2
    size = sizes[used[middle.clamp(max=max(len(used) - 1, 0))]] if len(used) else sizes[:0]
    size = size.where((each > 0) & (size > 0), 1) if len(used) else torch.ones(len(starts))
    rows[..., :2] /= size.repeat_interleave(counts)[:, None, None]


def _first_row(there: Tensor, starts: Tensor, counts: Tensor) -> Tensor:
    """Return each sample's first row with a skeleton, its first row if there is none."""
    used = there.nonzero().flatten()
    first = torch.cat([used, used.new_zeros(1)])[torch.searchsorted(used, starts)]
    return first.where((first >= starts) & (first < starts + counts), starts)


def _rotate(x: Tensor, matrices: Tensor) -> Tensor:
    """Return x (B, ..., 3) as row vectors times matrices (B, 3, 3)."""
    return (x.flatten(1, -2) @ matrices).view(x.shape)


def _fit_to_box(x: Tensor, there: Tensor, coordinates: int) -> Tensor:
    """``preprocess.fit_to_box`` for x (B, M, T, V, C), with there (B, M, T), in place."""
    points = x[..., :coordinates]
    absent = ~there[..., None, None]
    low = points.masked_fill(absent, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    high = points.masked_fill(absent, -torch.inf).amax(dim=(1, 2, 3), keepdim=True)
    flat = high <= low
    extent = (high - low).masked_fill(flat, 1)
    points.sub_(low).mul_(2).div_(extent).sub_(1).masked_fill_(flat | absent, 0)
    return x

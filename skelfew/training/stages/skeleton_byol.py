"""Stage ``skeleton_byol``: BYOL on two views of a skeleton sequence, without labels or teacher.

A RECONSTRUCTION of Moliner, Huang and Astrom, "Bootstrapped Representation Learning for
Skeleton-Based Action Recognition" (arXiv 2202.02232): only its abstract could be read here, and
there is no code. From it come BYOL, two asymmetric transformation pipelines and positives from
other cameras. Everything else, each transformation and its range, the widths, the decay and the
optimiser, is BYOL's (Grill et al., 2020) or ours, and unverified.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.config.stages import SkeletonBYOLConfig
from skelfew.data.input import views
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.training.data import TrainingData
from skelfew.training.seeding import generator, seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.byol import byol_loss, byol_mlp
from skelfew.training.stages.passes import Bootstrap

Pairs = tuple[tuple[int, int], ...]


def conservative(x: Tensor, coordinates: int, draw: torch.Generator | None) -> Tensor:
    """Return mild views: half of the clip or more, turned by 0.3 rad at most, noise of 0.01."""
    n = len(x)
    x = views.crop_resize(x, views.uniform((n,), 0.5, 1, draw), views.uniform((n,), 0, 1, draw))
    x = views.turned(x, views.uniform((n, 3), -0.3, 0.3, draw), coordinates)
    return views.noisy(x, 0.01, torch.ones(n, dtype=torch.bool), coordinates, draw)


def aggressive(x: Tensor, pairs: Pairs, coordinates: int, draw: torch.Generator | None) -> Tensor:
    """Return strong views.

    A fifth of the clip or more; turned by pi / 6 at most about x and z, freely about y; sheared by
    0.5 at most; 0.8 to 1.2 times as large; half of them mirrored; 15 % of the joints and a fifth of
    the frames absent; noise of 0.05.
    """
    n, everybody = len(x), torch.ones(len(x), dtype=torch.bool)
    x = views.crop_resize(x, views.uniform((n,), 0.2, 1, draw), views.uniform((n,), 0, 1, draw))
    most = torch.tensor([math.pi / 6, math.pi, math.pi / 6], dtype=torch.float64)
    x = views.turned(x, most * views.uniform((n, 3), -1, 1, draw), coordinates)
    x = views.sheared(x, 0.5, coordinates, draw)
    size = views.uniform((n, 1, 1), 0.8, 1.2, draw)
    x = views.transformed(x, size * torch.eye(3, dtype=torch.float64), coordinates)
    x = views.swapped(x, pairs, views.chosen(n, 0.5, draw), reflect=True)
    x = views.noisy(x, 0.05, everybody, coordinates, draw)
    x = views.without_joints(x, 0.15, draw)
    return views.without_frames(x, 0.2, views.uniform((n,), 0, 1, draw))


class TwoViewBYOL(nn.Module):
    """Encoder, projector and predictor, and a slow copy of the first two that gives the targets."""

    def __init__(
        self,
        encoder: nn.Module,
        feature_dim: int,
        hidden_dim: int,
        projection_dim: int,
        output_bias: bool = True,
    ):
        super().__init__()
        self.encoder = encoder
        self.projector = byol_mlp(feature_dim, hidden_dim, projection_dim, output_bias)
        self.predictor = byol_mlp(projection_dim, hidden_dim, projection_dim, output_bias)
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.target_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def predict(self, skeletons: Tensor) -> Tensor:
        """Return normalised predictions (N, projection_dim)."""
        prediction = self.predictor(self.projector(self.encoder(skeletons)))
        return F.normalize(prediction.float(), dim=-1)

    @torch.no_grad()
    def target(self, skeletons: Tensor) -> Tensor:
        """Return normalised projections of the slow copy (N, projection_dim)."""
        projection = self.target_projector(self.target_encoder(skeletons))
        return F.normalize(projection.float(), dim=-1)

    @torch.no_grad()
    def update_target(self, decay: float) -> None:
        """Move the slow copy: decay x old + (1 - decay) x online; statistics are its own."""
        for slow, fast in (
            (self.target_encoder, self.encoder),
            (self.target_projector, self.projector),
        ):
            for target, online in zip(slow.parameters(), fast.parameters(), strict=True):
                target.lerp_(online, 1 - decay)


def rising_decay(base: float, step: int, steps: int) -> float:
    """Return 1 - (1 - base) (cos(pi k / K) + 1) / 2, BYOL's decay at step k of K."""
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2


class SkeletonBYOL(Bootstrap):
    """Trains an encoder to predict what its slow copy makes of another view, in both directions."""

    name = "skeleton_byol"
    Config = SkeletonBYOLConfig
    one_process = True  # its network is a copy of the encoder, or sees several views
    unverified = (
        "a reconstruction from an abstract: transformations, widths, decay and optimiser are not "
        "Moliner et al.'s"
    )
    config: SkeletonBYOLConfig
    module: TwoViewBYOL

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: SkeletonBYOLConfig, seed: int
    ):
        super().__init__(data, config, seed)
        with seeded(seed, self.name, "heads"):
            self.module = TwoViewBYOL(
                encoder,
                encoder.feature_dim,
                config.hidden_dim,
                config.projection_dim,
                config.output_bias,
            ).to(data.device)
        # Rows in the order of performances, and where the performance of every row begins.
        self._grouped = data.performances.argsort(stable=True)
        counts = data.performances.bincount()
        self._count = counts[data.performances]
        self._start = (counts.cumsum(0) - counts)[data.performances]

    def draw(self, epoch: int, step: int) -> Batch:
        """Return a conservative view of a batch and an aggressive one, maybe by other cameras."""
        rows = self.rows(epoch, step)
        draw = generator(self.seed, self.name, epoch, step)
        other = self.partners(rows, draw) if self.config.multi_view else rows
        bank = self.data.bank
        coordinates, pairs = bank.pipeline.coordinates, bank.layout.mirror
        first, second = self.data.skeletons(rows), self.data.skeletons(other)
        return Batch(
            rows,
            conservative(first, coordinates, draw),
            views=(aggressive(second, pairs, coordinates, draw),),
        )

    def partners(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        """Return for every row one of the same performance, itself included, at random (B,)."""
        place = (views.uniform((len(rows),), 0, 1, draw) * self._count[rows]).long()
        return self._grouped[self._start[rows] + place]

    def forward(self, batch: Batch) -> Step:
        """Return the loss and the spreads that the collapse monitor looks at."""
        one, other = batch.skeletons, batch.views[0]
        predictions = self.module.predict(one), self.module.predict(other)
        targets = self.module.target(other), self.module.target(one)
        losses = [byol_loss(p, t).mean() for p, t in zip(predictions, targets, strict=True)]
        stats = self.watched(prediction=predictions[0], target=targets[0])
        return Step((losses[0] + losses[1]) / 2, stats)

    def after_step(self) -> None:
        """Move the slow copy."""
        done = self.memory.get("moves", 0.0)
        decay = self.config.decay
        if self.config.decay_schedule == "cosine":
            decay = rising_decay(decay, int(done), self.epochs * self.steps(0))
        self.module.update_target(decay)
        self.memory["moves"] = done + 1

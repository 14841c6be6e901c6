"""Common code of stages that pass over all base samples: order, views, batches."""

from typing import ClassVar

import torch
from torch import Tensor

from skelfew.config.stages import AimCLRConfig, PassesConfig, SkeletonBYOLConfig, TransferConfig
from skelfew.training.data import TrainingData
from skelfew.training.seeding import generator
from skelfew.training.stages.base import Batch, Stage
from skelfew.training.stages.collapse import check_collapse, effective_rank, spread


class Passes(Stage):
    """A stage that sees every base sample once an epoch, in an order of its own.

    Subclasses set ``name`` and ``module`` and have ``encoder`` and ``forward``. Of targets (n, V,
    D) a random view goes along.
    """

    config: PassesConfig

    def __init__(self, data: TrainingData, config: PassesConfig, seed: int):
        self.data, self.config, self.seed = data, config, seed
        self.optimizer, self.epochs = config.optimizer, config.epochs
        self.memory: dict[str, float] = {}
        self._batch = config.batch
        self._order: tuple[int, tuple[Tensor, ...]] = (-1, ())

    def steps(self, epoch: int) -> int:
        """Number of batches; they are as equal in size as can be and none is left out."""
        return max(1, -(-len(self.data) // self._batch))

    def samples(self, epoch: int) -> int:
        """Every base sample once."""
        return len(self.data)

    def rows(self, epoch: int, step: int) -> Tensor:
        """Return the rows of a batch (B,)."""
        if self._order[0] != epoch:
            order = torch.randperm(len(self.data), generator=generator(self.seed, self.name, epoch))
            self._order = (epoch, order.tensor_split(self.steps(epoch)))
        return self._order[1][step]

    def draw(self, epoch: int, step: int) -> Batch:
        """Return the next batch of the epoch's order, with targets (B, D) if there are any."""
        rows = self.rows(epoch, step)
        draw = generator(self.seed, self.name, epoch, step)
        skeletons = self.data.skeletons(rows, draw)
        features = self.data.targets
        if features is None:
            return Batch(rows, skeletons)
        view = torch.randint(features.shape[1], (len(rows),), generator=draw)
        return Batch(rows, skeletons, features[rows.to(features.device), view.to(features.device)])


class Bootstrap(Passes):
    """A stage that predicts targets which move, and so can become the same for all samples."""

    config: TransferConfig | SkeletonBYOLConfig | AimCLRConfig
    ranked: ClassVar[tuple[str, ...]] = ("prediction", "target")
    _last: dict[str, Tensor] | None = None

    def watched(self, **vectors: Tensor) -> dict[str, Tensor]:
        """Return the spreads of unit vectors (N, D), ``target`` among them, and remember these."""
        self._last = {name: value.detach() for name, value in vectors.items()}
        found = {f"{name}_spread": spread(value) for name, value in self._last.items()}
        if "initial_target_spread" not in self.memory:
            self.memory["initial_target_spread"] = float(found["target_spread"])
        return found

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Return the ranks; raise CollapseError if the targets have become the same."""
        initial, share = self.memory["initial_target_spread"], self.config.collapse
        last = self._last or {}
        ranks = {f"{name}_rank": effective_rank(last[name]) for name in self.ranked if last}
        check_collapse(means["target_spread"], initial, share, epoch + 1, self.name)
        return ranks

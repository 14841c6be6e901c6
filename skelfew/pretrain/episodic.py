"""Stage ``episodic``: few-shot episodes on the base classes with cosine logits (Sec. IV-C)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.config import EpisodicConfig
from skelfew.data.episodes import episode_labels, sample_episodes
from skelfew.pretrain.admission import TrainingData
from skelfew.pretrain.stage import Batch, Step
from skelfew.seeding import generator


def episode_cosines(support: Tensor, query: Tensor, ways: int) -> Tensor:
    """Return the cosine of every query with every class of its episode, in [-1, 1].

    The class weight is the mean of the normalised support features (one rule for every K; with
    K = 1 it is the paper's W, the support feature itself, up to its length).

    Args:
        support: Features (E, N * K, D), class by class.
        query: Features (E, N * Q, D).
        ways: N.

    Returns:
        (E, N * Q, N).
    """
    unit = F.normalize(support, dim=-1)
    prototypes = unit.unflatten(1, (ways, -1)).mean(dim=2)
    return F.normalize(query, dim=-1) @ F.normalize(prototypes, dim=-1).transpose(1, 2)


class CosineEpisodes(nn.Module):
    """Encoder and scale of the cosines.

    Args:
        encoder: Maps skeletons (B, C, T, V, M) to features (B, D).
        scale: Initial factor on the cosines; the paper has none, so 1.
        learn_scale: Whether it is learned, as its logarithm.
    """

    def __init__(self, encoder: nn.Module, scale: float, learn_scale: bool):
        super().__init__()
        self.encoder = encoder
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learn_scale)

    def forward(self, skeletons: Tensor, episodes: int, ways: int, shots: int) -> Tensor:
        """Return logits (E, N * Q, N); the B clips are all supports, then all queries."""
        features = self.encoder(skeletons).float()
        supports = episodes * ways * shots
        support = features[:supports].unflatten(0, (episodes, -1))
        query = features[supports:].unflatten(0, (episodes, -1))
        return self.log_scale.exp() * episode_cosines(support, query, ways)


class Episodic:
    """Trains the encoder to classify the queries of base-class episodes.

    All clips of a step, support and query of several episodes, share one forward pass.

    Args:
        encoder: Maps skeletons to features.
        data: Base-class samples.
        config: Settings of this stage, ``ways`` resolved.
        seed: Of episodes and augmentation.
    """

    name = "episodic"

    def __init__(self, encoder: nn.Module, data: TrainingData, config: EpisodicConfig, seed: int):
        if config.ways is None:
            raise ValueError("ways must be resolved before training")
        self.data, self.config, self.seed, self.ways = data, config, seed, config.ways
        self.optimizer, self.epochs = config.optimizer, config.epochs
        self.memory: dict[str, float] = {}
        self.module = CosineEpisodes(encoder, config.scale, config.learn_scale).to(data.device)
        # Classes too small for K + Q samples cannot take part.
        each = config.shots + config.queries
        counts = data.labels.bincount(minlength=len(data.classes))
        self.rows = (counts >= each)[data.labels].nonzero().flatten()
        self._plan: tuple[int, Tensor, Tensor] | None = None

    @property
    def encoder(self) -> nn.Module:
        """The skeleton encoder."""
        return self.module.encoder

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """One rate for all."""
        return [(self.module, 1.0)]

    def _episodes(self, epoch: int) -> int:
        done = epoch * self.config.epoch_episodes
        return min(self.config.epoch_episodes, self.config.episodes - done)

    def steps(self, epoch: int) -> int:
        """Number of forward passes."""
        return -(-self._episodes(epoch) // self.config.episodes_per_step)

    def samples(self, epoch: int) -> int:
        """Supports and queries of all episodes of the epoch."""
        each = self.config.shots + self.config.queries
        return self._episodes(epoch) * self.ways * each

    def draw(self, epoch: int, step: int) -> Batch:
        """Return the clips of the next few episodes: all supports, then all queries."""
        c = self.config
        if self._plan is None or self._plan[0] != epoch:
            draw = generator(self.seed, self.name, epoch)
            support, query = sample_episodes(
                self.data.labels[self.rows],
                self.ways,
                c.shots,
                c.queries,
                self._episodes(epoch),
                draw,
            )
            self._plan = (epoch, self.rows[support], self.rows[query])
        mine = slice(step * c.episodes_per_step, (step + 1) * c.episodes_per_step)
        support, query = self._plan[1][mine], self._plan[2][mine]
        rows = torch.cat([support.flatten(), query.flatten()])
        draw = generator(self.seed, self.name, epoch, step)
        return Batch(rows, self.data.skeletons(rows, draw))

    def forward(self, batch: Batch) -> Step:
        """Return cross-entropy and accuracy of the queries."""
        c = self.config
        episodes = len(batch.rows) // (self.ways * (c.shots + c.queries))
        logits = self.module(batch.skeletons, episodes, self.ways, c.shots).flatten(0, 1)
        labels = episode_labels(self.ways, c.queries).repeat(episodes).to(logits.device)
        accuracy = (logits.argmax(dim=-1) == labels).float().mean()
        return Step(F.cross_entropy(logits, labels), {"accuracy": accuracy})

    def after_step(self) -> None:
        """Nothing to do."""

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Return the scale of the cosines."""
        return {"scale": float(self.module.log_scale.detach().exp())}

"""Stage ``episodic``: few-shot episodes on the base classes (Sec. IV-C), with any head."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.config.stages import EpisodicConfig
from skelfew.data.episodes import episode_labels, sample_episodes
from skelfew.data.joints.body_parts import body_parts
from skelfew.encoders.outputs import check_output, read
from skelfew.fewshot import build_head
from skelfew.fewshot.head import Head, HeadClassifier
from skelfew.fewshot.trained import with_part
from skelfew.io.files import Document
from skelfew.training.data import TrainingData
from skelfew.training.seeding import generator, seeded
from skelfew.training.stages.base import Batch, Stage, Step


class Episodes(nn.Module):
    """Encoder, head, and the scale of logits that are cosines, learned as its logarithm or fixed.

    The paper has no scale, so it begins at 1. Other logits have no factor.
    """

    def __init__(self, encoder: nn.Module, head: Head, scale: float, learn_scale: bool):
        super().__init__()
        self.encoder, self.head = encoder, head
        if not head.cosines:
            scale, learn_scale = 1.0, False
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learn_scale)
        self.register_load_state_dict_pre_hook(_by_names_of_today)

    def forward(
        self, skeletons: Tensor, episodes: int, ways: int, shots: int, classes: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits (E, N * Q, N) and the head's penalty, if it has one.

        The B clips are all supports, then all queries; classes (E, N) are the numbers of the
        episodes' classes.
        """
        features = read(self.encoder, skeletons, self.head.reads)
        with torch.autocast(skeletons.device.type, enabled=False):
            features = features.float()
            supports = episodes * ways * shots
            support = features[:supports].unflatten(0, (episodes, -1))
            query = features[supports:].unflatten(0, (episodes, -1))
            logits = self.head(support, query, ways, classes)
            penalty = self.head.penalty(support, query, ways)
        return self.log_scale.exp() * logits, penalty


def _by_names_of_today(module: nn.Module, state: Document, prefix: str, *_: object) -> None:
    """Rename what a checkpoint of an older version calls ``learned``: the head's only part."""
    assert isinstance(module, Episodes)
    before = prefix + "learned."
    old = {key: state.pop(key) for key in [*state] if key.startswith(before)}
    found = with_part(module.head, {key.removeprefix(before): old[key] for key in old})
    state.update({f"{prefix}head.{key}": value for key, value in found.items()})


class Episodic(Stage):
    """Trains the encoder to classify queries of base-class episodes, all in one forward pass."""

    name = "episodic"
    module: Episodes
    Config = EpisodicConfig

    def __init__(self, encoder: nn.Module, data: TrainingData, config: EpisodicConfig, seed: int):
        if config.ways is None:
            raise ValueError("ways must be resolved before training")
        self.data, self.config, self.seed, self.ways = data, config, seed, config.ways
        self.optimizer, self.epochs = config.optimizer, config.epochs
        self.numbers = data.numbers
        self.memory: dict[str, float] = {}
        with seeded(seed, self.name, "head"):
            head = build_head(config.head, config.head_settings, encoder.feature_dim)  # type: ignore[arg-type]
        check_output(head.reads, data.bank.pipeline.coordinates)
        if (known := head.knowledge(data.cache)) is not None:
            head.know(known, [*body_parts(data.bank.layout)])
        head.train()
        self.module = Episodes(encoder, head, config.scale, config.learn_scale)
        self.module.to(data.device)
        # Classes too small for K + Q samples cannot take part.
        each = config.shots + config.queries
        counts = data.labels.bincount(minlength=len(data.classes))
        self.rows = (counts >= each)[data.labels].nonzero().flatten()
        self._plan: tuple[int, Tensor, Tensor] | None = None

    @property
    def scored_by(self) -> HeadClassifier | None:
        """The head, by which the validation classes are scored; None for the paper's cosines."""
        if self.config.head == "cosine":
            return None
        return HeadClassifier(self.module.head, self.config.head)

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """One rate for all, but for the head's weights where it asks for another."""
        return [(self.module.head, self.module.head.rate), (self.module, 1.0)]

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
            numbers = (self.ways, c.shots, c.queries, self._episodes(epoch))
            support, query = sample_episodes(self.data.labels[self.rows], *numbers, draw)
            self._plan = (epoch, self.rows[support], self.rows[query])
        mine = slice(step * c.episodes_per_step, (step + 1) * c.episodes_per_step)
        support, query = self._plan[1][mine], self._plan[2][mine]
        rows = torch.cat([support.flatten(), query.flatten()])
        draw = generator(self.seed, self.name, epoch, step)
        return Batch(rows, self.data.skeletons(rows, draw))

    def forward(self, batch: Batch) -> Step:
        """Return cross-entropy, with the head's penalty, and accuracy of the queries."""
        c = self.config
        episodes = len(batch.rows) // (self.ways * (c.shots + c.queries))
        firsts = batch.rows[: episodes * self.ways * c.shots : c.shots]
        classes = self.numbers[firsts].view(episodes, self.ways).to(batch.skeletons.device)
        # Dropout, if the head has any, depends on the batch alone, so that a run can be resumed.
        device = batch.skeletons.device
        with seeded(self.seed, self.name, *batch.rows.tolist(), device=device):
            logits, penalty = self.module(batch.skeletons, episodes, self.ways, c.shots, classes)
        logits = logits.flatten(0, 1)
        labels = episode_labels(self.ways, c.queries).repeat(episodes).to(logits.device)
        accuracy = (logits.argmax(dim=-1) == labels).float().mean()
        loss, stats = F.cross_entropy(logits, labels), {"accuracy": accuracy}
        if penalty is not None:
            loss, stats = loss + penalty, {**stats, "penalty": penalty.detach()}
        return Step(loss, stats)

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Return the scale of the cosines."""
        if not self.module.head.cosines:
            return {}
        return {"scale": float(self.module.log_scale.detach().exp())}

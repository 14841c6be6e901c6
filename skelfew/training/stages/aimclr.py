"""Stage ``aimclr``: contrast of normal and extreme views with a queue of keys, without labels.

Source: Guo et al., "Contrastive Learning from Extremely Augmented Skeleton Sequences for
Self-supervised Action Recognition" (AAAI 2022) and its code, github.com/Levigty/AimCLR (MIT), read
at commits 59fe004 (network, losses) and d12da71 (attention drop). What differs from it, and what of
the row in Table VII could not be checked, is in docs/training.md.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.config.stages import AimCLRConfig
from skelfew.data.input import views
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.training.data import TrainingData
from skelfew.training.seeding import generator, seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.passes import Bootstrap

_SHEAR = 0.5
_MAIN, _OTHER = 30.0, 1.0  # largest angles, degrees


def normal_view(x: Tensor, coordinates: int, draw: torch.Generator | None) -> Tensor:
    """Return clips (B, C, T, V, M) shifted in time by a sixth at most, and sheared."""
    most = 2 * (x.shape[2] // 6)
    start = (views.uniform((len(x),), 0, 1, draw) * (most + 1)).long()
    return views.sheared(views.reflected_crop(x, start), _SHEAR, coordinates, draw)


def extreme_view(
    x: Tensor,
    pairs: tuple[tuple[int, int], ...],
    coordinates: int,
    draw: torch.Generator | None,
    time_flip: bool = False,
) -> Tensor:
    """Return normal views that are changed further, each change but the turn with chance 0.5.

    Left and right joints exchanged; turned by 30 degrees at most about one axis and 1 about the
    others; noise of 0.01; smoothed in time; one axis set to zero; played backwards (optional).
    """
    n = len(x)
    x = normal_view(x, coordinates, draw)
    x = views.swapped(x, pairs, views.chosen(n, 0.5, draw))
    main = (views.uniform((n,), 0, 1, draw) * 3).long()
    most = torch.where(torch.arange(3) == main[:, None], _MAIN, _OTHER)
    angles = torch.deg2rad(most.double() * views.uniform((n, 3), 0, 1, draw))
    x = views.turned(x, angles, coordinates)
    x = views.noisy(x, 0.01, views.chosen(n, 0.5, draw), coordinates, draw)
    sigma = views.uniform((n,), 0.1, 2, draw)
    x = views.smoothed(x, sigma, views.chosen(n, 0.5, draw), coordinates)
    axis = (views.uniform((n,), 0, 1, draw) * coordinates).long()
    x = views.without_axis(x, axis, views.chosen(n, 0.5, draw))
    return views.reversed_in_time(x, views.chosen(n, 0.5, draw)) if time_flip else x


def attention_drop(maps: Tensor, keep: float) -> Tensor:
    """Return feature maps (N, D, T, V) without the parts of most attention (EADM), rescaled.

    First whole joints whose mean attention reaches ``keep``, then single entries. Attention is
    SimAM's: sigmoid of (x - mean)^2 / (4 (variance + 1e-4)) + 0.5, over frames and joints. In the
    first release (59fe004) the mask was 1 everywhere, so nothing was dropped; this is the corrected
    one.
    """
    _, _, frames, joints = maps.shape
    square = (maps - maps.mean(dim=(2, 3), keepdim=True)).square()
    variance = square.sum(dim=(2, 3), keepdim=True) / (joints * frames - 1)
    attention = torch.sigmoid(square / (4 * (variance + 1e-4)) + 0.5)
    for mask in (attention.mean(dim=(1, 2))[:, None, None] < keep, attention < keep):
        maps = maps * mask * mask.numel() / mask.sum().clamp(min=1)
    return maps


def contrast_logits(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Return cosines of unit queries (N, D) with own keys (N, D) and a queue (K, D)."""
    own = (queries * keys).sum(dim=-1, keepdim=True)
    return torch.cat([own, queries @ queue.T], dim=1) / temperature


def positives(plain: Tensor, others: Sequence[Tensor], mining: bool) -> Tensor:
    """Return which candidates are positives (N, 1 + K): the own key and, mined, the nearest."""
    positives = torch.zeros_like(plain, dtype=torch.bool)
    positives[:, 0] = True
    for values in (plain, *others) if mining else ():
        positives.scatter_(1, values[:, 1:].argmax(dim=1, keepdim=True) + 1, True)
    return positives


def contrast_loss(logits: Tensor, positives: Tensor) -> Tensor:
    """Return the mean over the positives of -log softmax, mean over the samples."""
    chances = F.log_softmax(logits, dim=1) * positives
    return -(chances.sum(dim=1) / positives.sum(dim=1)).mean()


def agreement_loss(logits: Tensor, guide: Tensor) -> Tensor:
    """Return the cross-entropy between two softmaxes; no gradient into ``guide`` (D3M)."""
    target = guide.detach().softmax(dim=1)
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


class MomentumContrast(nn.Module):
    """Query encoder and head, their slow copies (weight ``decay``), which make keys; the queue."""

    queue: Tensor
    place: Tensor

    def __init__(self, encoder: SkeletonEncoder, projection_dim: int, queue: int, decay: float):
        super().__init__()
        width = encoder.feature_dim
        self.encoder, self.decay = encoder, decay
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection_dim)
        )
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(queue, projection_dim), dim=1))
        self.register_buffer("place", torch.zeros(1, dtype=torch.int64))

    def query(self, skeletons: Tensor) -> Tensor:
        """Return unit queries (N, projection_dim)."""
        return F.normalize(self.head(self.encoder(skeletons)).float(), dim=1)

    def dropped(self, skeletons: Tensor, keep: float) -> tuple[Tensor, Tensor]:
        """Return unit queries, plain and with ``attention_drop``, from one forward pass."""
        maps = self.encoder.forward_features(skeletons)
        thinned = attention_drop(maps.flatten(0, 1), keep).unflatten(0, maps.shape[:2])
        both = [self.head(self.encoder.pool(m, skeletons)).float() for m in (maps, thinned)]
        return F.normalize(both[0], dim=1), F.normalize(both[1], dim=1)

    @torch.no_grad()
    def key(self, skeletons: Tensor) -> Tensor:
        """Return unit keys (N, projection_dim)."""
        return F.normalize(self.key_head(self.key_encoder(skeletons)).float(), dim=1)

    @torch.no_grad()
    def update_keys(self) -> None:
        """Move the slow copies: decay x old + (1 - decay) x query; statistics are their own."""
        for slow, fast in ((self.key_encoder, self.encoder), (self.key_head, self.head)):
            for key, query in zip(slow.parameters(), fast.parameters(), strict=True):
                key.lerp_(query, 1 - self.decay)

    @torch.no_grad()
    def remember(self, keys: Tensor) -> None:
        """Put keys into the queue in place of the oldest, around its end."""
        keys = keys[-len(self.queue) :]
        where = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[where] = keys
        self.place.copy_((self.place + len(keys)) % len(self.queue))


class AimCLR(Bootstrap):
    """Trains an encoder to tell a sample's key from those of the queue, in three kinds of views."""

    name = "aimclr"
    Config = AimCLRConfig
    one_process = True  # its network is a copy of the encoder, or sees several views
    ranked = ("target",)
    config: AimCLRConfig
    module: MomentumContrast

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: AimCLRConfig, seed: int
    ):
        super().__init__(data, config, seed)
        with seeded(seed, self.name, "heads"):
            self.module = MomentumContrast(
                encoder, config.projection_dim, config.queue, config.decay
            ).to(data.device)

    def draw(self, epoch: int, step: int) -> Batch:
        """Return a normal view of a batch, an extreme one, and a normal one for the keys."""
        rows = self.rows(epoch, step)
        draw = generator(self.seed, self.name, epoch, step)
        bank = self.data.bank
        coordinates, pairs = bank.pipeline.coordinates, bank.layout.mirror
        x = self.data.skeletons(rows)
        extreme = extreme_view(x, pairs, coordinates, draw, self.config.time_flip)
        query, key = (normal_view(x, coordinates, draw) for _ in range(2))
        return Batch(rows, query, views=(extreme, key))

    def forward(self, batch: Batch) -> Step:
        """Return the loss and the spread of the keys, which the collapse monitor looks at."""
        c, module = self.config, self.module
        extreme, for_key = batch.views
        query = module.query(batch.skeletons)
        strong, thinned = module.dropped(extreme, c.keep)
        module.update_keys()
        keys = module.key(for_key)
        queue = module.queue.clone()
        plain, far, further = (
            contrast_logits(q, keys, queue, c.temperature) for q in (query, strong, thinned)
        )
        mining = self.memory.get("epochs", 0) >= round(c.mining_from * self.epochs)
        info = contrast_loss(plain, positives(plain, (far, further), mining))
        agreement = (agreement_loss(far, plain) + agreement_loss(further, plain)) / 2
        module.remember(keys)
        stats = {"contrast": info.detach(), "agreement": agreement.detach()}
        return Step(info + agreement, {**stats, **self.watched(prediction=query, target=keys)})

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Return the keys' rank; raise CollapseError if they have become the same."""
        self.memory["epochs"] = epoch + 1
        return super().end_epoch(epoch, means)

"""Stage ``classify``: base classes by cosine softmax, then statistics of them for novel ones.

The cosine softmax is that of Gidaris & Komodakis, 2018, and Chen et al., "A Closer Look at Few-shot
Classification", 2019 (Baseline++); mirrored clips as further classes are in the spirit of Lee et
al., 2020. At the end, features are whitened by the scatter within base classes, which says what
varies between performances of one action and so should not count.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.config.stages import ClassifyConfig
from skelfew.data.input.augment import mirror
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.encoders.features import encode
from skelfew.encoders.temporal import SkeletonTemporal
from skelfew.errors import SkelfewError
from skelfew.training.data import TrainingData
from skelfew.training.distributed import current
from skelfew.training.seeding import generator, seeded
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.passes import Passes


class CosineSoftmax(nn.Module):
    """An encoder, a weight vector for each class of each branch, and the cosines' temperature."""

    def __init__(self, encoder: SkeletonEncoder, classes: Sequence[int], temperature: float):
        super().__init__()
        self.encoder, self.dim = encoder, encoder.feature_dim // len(classes)
        self.weights = nn.Parameter(torch.randn(classes[0], self.dim))
        self.further = nn.ParameterList(torch.randn(n, self.dim) for n in classes[1:])
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    def forward(self, x: Tensor, other: Tensor | None = None) -> list[Tensor]:
        """Return the logits (N, classes) of each branch."""
        features = self.encoder(x) if other is None else self.encoder(x, other)
        return [
            self.log_scale.exp() * F.normalize(part, dim=-1) @ F.normalize(weights, dim=-1).T
            for part, weights in zip(
                features.float().split(self.dim, dim=-1),
                [self.weights, *self.further],
                strict=True,
            )
        ]


class Classify(Passes):
    """Trains an encoder to classify base classes by cosines, and whitens its features at the end.

    Raises:
        SkelfewError: Features of this encoder cannot be whitened, or its layout not be mirrored.
    """

    name = "classify"
    Config = ClassifyConfig
    config: ClassifyConfig

    def __init__(
        self, encoder: SkeletonEncoder, data: TrainingData, config: ClassifyConfig, seed: int
    ):
        super().__init__(data, config, seed)
        self.layout = data.bank.layout
        self.epochs = config.passes(len(data))
        self.mirrored = config.mirrored and bool(self.layout.mirror)
        if config.whiten and not isinstance(encoder, SkeletonTemporal):
            raise SkelfewError(
                "classify.whiten is for the encoder temporal; set it to 0, or --encoder temporal"
            )
        self.branches = 1 + len(encoder.further) if isinstance(encoder, SkeletonTemporal) else 1
        if self.branches > 1 and current().size > 1:
            raise SkelfewError("several branches train in one process; start without torchrun")
        count = len(data.classes)
        kinds = 2 * (1 + bool(self.layout.mirror)) if self.branches > 1 else 1 + self.mirrored
        classes = [count] * (self.branches > 1) + [count * kinds] * max(1, self.branches - 1)
        with seeded(seed, self.name, "head"):
            self.module: CosineSoftmax = CosineSoftmax(encoder, classes, config.temperature)
        self.module.to(data.device)

    def draw(self, epoch: int, step: int) -> Batch:
        """Return the next batch with the kind of each clip: half of them, at random, in a mirror.

        With several branches the clips themselves, and beside them the mirrored ones, of which
        half are reversed in time too.
        """
        batch = super().draw(epoch, step)
        x, several = batch.skeletons, self.branches > 1
        if not (several or self.mirrored):
            return batch
        draw, shown = generator(self.seed, self.name, "mirror", epoch, step), x
        kinds, turns = torch.zeros(len(x), dtype=torch.long), list[Callable[[Tensor], Tensor]]()
        turns += [partial(mirror, layout=self.layout)] if self.layout.mirror else []
        for turn in turns + [lambda x: x.flip(2)] * several:
            turned = torch.rand(len(batch.rows), generator=draw) < 0.5
            shown = torch.where(turned.to(x.device)[:, None, None, None, None], turn(shown), shown)
            kinds = 2 * kinds + turned.long()
        return Batch(batch.rows, x if several else shown, kinds, (shown,) if several else ())

    def forward(self, batch: Batch) -> Step:
        """Return the cross-entropy, summed over branches, and the accuracy of the first."""
        labels = self.data.labels[batch.rows]
        kinds = labels if batch.targets is None else labels + len(self.data.classes) * batch.targets
        truth = [labels.to(batch.skeletons.device)] * (self.branches > 1)
        truth += [kinds.to(batch.skeletons.device)] * max(1, self.branches - 1)
        logits = self.module(batch.skeletons, *batch.views)
        accuracy = (logits[0].argmax(dim=-1) == truth[0]).float().mean()
        losses = [F.cross_entropy(*pair) for pair in zip(logits, truth, strict=True)]
        return Step(torch.stack(losses).sum(), {"accuracy": accuracy})

    def end_epoch(self, epoch: int, means: dict[str, float]) -> dict[str, float]:
        """Whiten the features after the last epoch."""
        if epoch + 1 == self.epochs and self.config.whiten:
            encoder = self.encoder
            assert isinstance(encoder, SkeletonTemporal)
            features = encode(encoder, self.data.bank, shown=False)
            labels = self.data.labels
            encoder.whiten(features, labels.to(features.device), self.config.whiten)
        return {"temperature": float(torch.exp(-self.module.log_scale.detach()))}

    def bridge(self) -> tuple[nn.Module, nn.Module]:
        """Return what leaves features as they are, and the map of class texts to features.

        The encoder learns from labels alone. Beside it, a ridge regression maps the texts of the
        base classes to their mean features: towards the features, not the texts, so that few
        texts do not become the nearest of everything (Shigeto et al., 2015).
        """
        assert self.data.cache is not None
        known = self.data.cache.class_texts("unit")
        texts = torch.from_numpy(np.stack([known[c] for c in self.data.classes])).double()
        features = F.normalize(encode(self.encoder, self.data.bank, shown=False).double(), dim=-1)
        labels = self.data.labels
        sums = features.new_zeros(len(texts), features.shape[1]).index_add(0, labels, features)
        means = sums / labels.bincount(minlength=len(texts))[:, None]
        return nn.Identity(), text_map(texts, means, self.config.text_ridge)


def text_map(texts: Tensor, means: Tensor, ridge: float) -> nn.Linear:
    """Return the ridge regression from texts (K, D) to mean features (K, d), float64."""
    middle, centre = texts.mean(dim=0), means.mean(dim=0)
    x, y = texts - middle, means - centre
    gram = x @ x.T
    even = ridge * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(x)).to(gram)
    weight = y.T @ torch.linalg.solve(gram + even, x)
    linear = nn.Linear(texts.shape[1], means.shape[1])
    linear.load_state_dict({"weight": weight.float(), "bias": (centre - weight @ middle).float()})
    return linear

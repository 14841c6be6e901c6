"""The one door through which samples reach training. Novel classes do not pass.

Whatever trains gets a ``TrainingData``, and only ``admit`` makes one: it looks up the class of
every single sample in the manifest, however the samples were chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from skelfew.cache import TeacherCache
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.manifest import Manifest, Sample
from skelfew.errors import SkelfewError
from skelfew.runs.inputs import Inputs


class NovelClassError(SkelfewError):
    """A sample of a class that training must not see."""


def refuse_foreign(manifest: Manifest, ids: Sequence[str], allowed: Sequence[int]) -> None:
    """Raise NovelClassError if a sample belongs to a class that is not among ``allowed``."""
    permitted = set(allowed)
    foreign = [i for i in ids if manifest[i].class_id not in permitted]
    if foreign:
        sample = manifest[foreign[0]]
        raise NovelClassError(
            f"{len(foreign)} of {len(ids)} samples are of classes that training must not see, "
            f"first {sample.sample_id} of class {sample.class_id} ({sample.label}); "
            "the protocol's base classes alone may be trained on"
        )


@dataclass(frozen=True)
class TrainingData:
    """Samples of permitted classes, ready to be drawn from. Made by ``admit``."""

    ids: tuple[str, ...]  # sample IDs (n)
    classes: tuple[int, ...]  # the class numbers, ascending
    labels: Tensor  # index into ``classes`` of every sample, (n,) int64, on the processor
    bank: SkeletonBank  # the skeletons, in the order of ``ids``, on ``device``
    targets: Tensor | None  # teacher features (n, V, D) float32 on ``device``, or None
    device: torch.device
    # Which samples show the same performance, by different cameras, (n,) int64; all different where
    # the manifest does not say
    performances: Tensor
    # Where targets came from and a head learns of classes; None without a cache
    cache: TeacherCache | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def numbers(self) -> Tensor:
        """The class number of every sample, (n,) int64, on the processor."""
        return torch.tensor(self.classes)[self.labels]

    def with_targets(self, representation: str, target_form: str) -> "TrainingData":
        """Return the same samples with teacher features, see ``TeacherCache.targets``."""
        assert self.cache is not None
        features = self.cache.targets(self.ids, representation, target_form)  # type: ignore[arg-type]
        return replace(self, targets=torch.from_numpy(features).to(self.device))

    def skeletons(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return network input (B, C, T, V, M), augmented if a generator is given."""
        return self.bank.batch(rows, train=generator is not None, generator=generator)


def admit(
    ids: Sequence[str],
    allowed: Sequence[int],
    inputs: Inputs,
    pipeline: Pipeline,
    bodies: int,
    device: torch.device,
) -> TrainingData:
    """Read samples of ``allowed`` classes into memory; NovelClassError if one is another."""
    manifest, protocol = inputs.manifest, inputs.protocol
    if not ids:
        raise SkelfewError(f"{manifest.path or manifest.name}: no samples to train on")
    refuse_foreign(manifest, ids, [c for c in allowed if c not in set(protocol.novel)])
    numbers = [manifest[i].class_id for i in ids]
    classes = tuple(sorted(set(numbers)))
    index = {c: i for i, c in enumerate(classes)}
    return TrainingData(
        ids=tuple(ids),
        classes=classes,
        labels=torch.tensor([index[n] for n in numbers]),
        bank=SkeletonBank.from_store(inputs.store, ids, pipeline, bodies).to(device),
        targets=None,
        device=device,
        performances=_performances([manifest[i] for i in ids]),
        cache=inputs.cache,
    )


def _performances(samples: Sequence[Sample]) -> Tensor:
    """Return a number a sample, equal for what several cameras saw of one performance."""
    numbers: dict[tuple[object, ...], int] = {}
    keys = (
        (s.class_id, s.subject, s.replication, s.setup)
        if s.subject and s.view and s.replication
        else (s.sample_id,)
        for s in samples
    )
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys])

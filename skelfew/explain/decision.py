"""The way from one recording to the logits of the classes, with gradients."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from skelfew.data.input.bank import SkeletonBank
from skelfew.encoders.outputs import read
from skelfew.errors import SkelfewError
from skelfew.fewshot.head import HeadClassifier


@dataclass(frozen=True)
class NetworkInput:
    """One sample as network input, without the copies that fill slots of absent bodies."""

    values: Tensor  # its bodies (1, C, T, V, P) float64, P of them are there
    # What of it a search may change, bool of the same shape: positions of joints that are there;
    # not confidences, nor bodies and joints that are zero
    movable: Tensor
    bodies: tuple[int, ...]  # which body of the recording each of the P is
    slots: tuple[int, ...]  # which of the P is in each of the encoder's M slots (M,); -1 for none
    # Frame of the recording that each of the T shows (T,); between two if fractional
    frames: Tensor

    @classmethod
    def of(cls, bank: SkeletonBank, row: int) -> "NetworkInput":
        """Take a sample of a bank."""
        there = bank.present[row].tolist()
        bodies = tuple(i for i, present in enumerate(there) if present)
        rest = 0 if bank.pipeline.missing_body == "duplicate" else -1
        slots = tuple(bodies.index(i) if present else rest for i, present in enumerate(there))
        x = bank.batch(torch.tensor([row]), train=False).double()[..., list(bodies)]
        positions = bank.pipeline.coordinates
        nonzero = x != 0
        movable = nonzero.any(dim=3, keepdim=True).any(dim=1, keepdim=True)  # body, at that time
        movable = movable & nonzero.any(dim=2, keepdim=True).any(dim=1, keepdim=True)  # the joint
        if x.shape[1] > positions:  # a joint that was not found has no confidence
            movable = movable & nonzero.any(dim=1, keepdim=True)
        movable = movable.expand(x.shape).clone()
        movable[:, positions:] = False
        return cls(x.contiguous(), movable, bodies, slots, bank.source_frames(row))

    def filled(self, values: Tensor) -> Tensor:
        """Return network input (B, C, T, V, M) of bodies (B, C, T, V, P)."""
        absent = torch.zeros_like(values[..., 0])
        return torch.stack([absent if i < 0 else values[..., i] for i in self.slots], dim=-1)


class Decision:
    """An encoder and a classifier fitted to exemplars (N * K, C, T, V, M), in double precision."""

    def __init__(
        self,
        encoder: nn.Module,
        classifier: Any,
        exemplars: Tensor,
        ways: int,
        device: torch.device | str = "cpu",
        classes: Sequence[int] | None = None,
    ):
        if getattr(classifier, "transductive", False):
            raise SkelfewError(
                "a transductive classifier decides about all queries together, so one recording "
                "does not explain its verdict; choose another --classifier"
            )
        self._encoder = copy.deepcopy(encoder).to(device).double().eval().requires_grad_(False)
        self._classifier, self._ways, self.device = classifier, ways, device
        self._output = getattr(classifier, "reads", "pooled")
        self._classes = None if classes is None else torch.tensor(classes, device=device)[None]
        if isinstance(classifier, HeadClassifier):
            head = copy.deepcopy(classifier.head).to(device).double().eval()
            self._classifier = replace(classifier, head=head.requires_grad_(False))
        with torch.no_grad():
            parts = [self._features(x.to(device).double()) for x in exemplars.split(32)]
        self._support = torch.cat(parts)[None]

    def _features(self, x: Tensor) -> Tensor:
        return read(self._encoder, x, self._output)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits (B, N) of network input (B, C, T, V, M) float64."""
        query = self._features(x)[None]
        if isinstance(self._classifier, HeadClassifier):
            return self._classifier.head(self._support, query, self._ways, self._classes)[0]
        return self._classifier.scores(self._support, query, self._ways).logits[0]

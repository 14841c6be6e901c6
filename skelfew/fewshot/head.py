"""Base class of heads: matchers of supports and queries that train an encoder."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from skelfew.fewshot.scores import Scores
from skelfew.io.files import Document

if TYPE_CHECKING:
    from skelfew.cache import TeacherCache

_BLOCK_VALUES = 2**24  # values of queries and of their pairs with classes that are kept at once
# What texts say of parts of the body, by class number and name of the part.
Knowledge = Mapping[int, Mapping[str, float]]


class Head(nn.Module, ABC):
    """A head is made of ``(width, **settings)``; ``build_head`` makes one by its name.

    ``width`` is D, the channels of the encoder. The settings are keyword-only parameters, whose
    annotations say what they may be; what is learned are parameters and buffers as in any module.
    """

    # What it takes from the encoder, a key of ``skelfew.encoders.outputs.OUTPUTS``; below, F is the
    # shape of that
    reads: str = "pooled"
    # Whether the logits are cosines, which training multiplies by ``episodic.scale``
    cosines: bool = False
    # Whether it has weights or tables of its own, which a run must have made before it can score
    learns: ClassVar[bool] = False
    knows_classes: ClassVar[bool] = False  # whether these are about the classes of one data set
    rate: float = 1.0  # factor on the learning rate of its weights
    settings: Document  # all settings by name; set by ``build_head``

    def __init__(self, width: int = 0):
        super().__init__()
        self.settings = {}

    @abstractmethod
    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return logits (E, M, N), the larger the likelier, with gradients.

        Args:
            support: What the encoder gives of the exemplars (E, N * K, *F), class by class.
            query: Of the queries (E, M, *F).
            classes: Class number of each of the N, (E, N); for heads with ``knows_classes``.
        """

    def penalty(self, support: Tensor, query: Tensor, ways: int) -> Tensor | None:
        """Return what training adds to the cross-entropy, a scalar; None for nothing.

        The queries are class by class here, as many of each.
        """
        return None

    @classmethod
    def knowledge(cls, cache: "TeacherCache | None") -> Knowledge | None:
        """Return what the head must know of classes, as a cache has it; None if it needs nothing.

        Raises:
            SkelfewError: There is no cache, or it does not have it.
        """
        return None

    def know(self, known: Knowledge, parts: Sequence[str]) -> None:
        """Take what ``knowledge`` returned, for an encoder of these parts of the body."""


@dataclass(frozen=True)
class HeadClassifier:
    """A head as a classifier: no gradients, queries in blocks that fit into memory."""

    head: Head  # one that learns is of use after ``skelfew.fewshot.trained.bind`` only
    name: str
    # Settings that were asked for by name, so that they win over those of a run
    given: tuple[str, ...] = ()

    @property
    def settings(self) -> Document:
        """The head's settings."""
        return self.head.settings

    @property
    def reads(self) -> str:
        """Name of the encoder output that the head reads."""
        return self.head.reads

    def scores(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Scores:
        """Return the logits of queries (E, M, *F), (E, M, N)."""
        size = len(query) * (ways + 1) * query[0, 0].numel()
        with torch.no_grad():
            parts = [
                self.head(support, part, ways, classes)
                for part in query.split(max(1, _BLOCK_VALUES // size), dim=1)
            ]
        return Scores.untuned(torch.cat(parts, dim=1))

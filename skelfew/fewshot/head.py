"""What a head is: a matcher of supports and queries that an encoder can be trained through."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skelfew.fewshot.scores import Scores

_BLOCK_VALUES = 2**24  # values of queries and of their pairs with classes that are kept at once


class Head(ABC):
    """A frozen dataclass of settings; what it learns, if anything, is a module of its own.

    Attributes:
        reads: What it takes from the encoder, a key of ``skelfew.encoders.outputs.OUTPUTS``; below,
            F stands for the shape of that.
        learns: Whether it has weights or tables of its own, which a run must have made before it
            can score.
        needs_relevance: Whether it needs the relevance of parts of the body to classes, which the
            class texts of a cache give, and the numbers of an episode's classes.
        rate: Factor on their learning rate.
    """

    reads: ClassVar[str] = "pooled"
    learns: ClassVar[bool] = False
    needs_relevance: ClassVar[bool] = False
    rate: float = 1.0

    @property
    def cosines(self) -> bool:
        """Whether the logits are cosines, which training multiplies by ``episodic.scale``."""
        return False

    def module(self, width: int) -> nn.Module | None:
        """Return new weights for encoders of ``width`` channels; None if nothing is learned."""
        return None

    @abstractmethod
    def logits(
        self,
        support: Tensor,
        query: Tensor,
        ways: int,
        learned: nn.Module | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        """Return logits (E, M, N), the larger the likelier, with gradients.

        Args:
            support: What the encoder gives of the exemplars (E, N * K, *F), class by class.
            query: Of the queries (E, M, *F).
            ways: N.
            learned: What ``module`` made.
            classes: Class number of each of the N, (E, N); most heads do not ask.
        """

    def penalty(
        self, support: Tensor, query: Tensor, ways: int, learned: nn.Module | None = None
    ) -> Tensor | None:
        """Return what training adds to the cross-entropy, a scalar; None for nothing.

        The queries are class by class here, as many of each.
        """
        return None


@dataclass(frozen=True)
class HeadClassifier:
    """A head as a classifier: no gradients, queries in blocks that fit into memory.

    Attributes:
        head: The head.
        learned: Its trained weights; None if it has none, or before a run is known.
        given: Settings that were asked for by name, so that they win over those of a run.
    """

    head: Head
    learned: nn.Module | None = None
    given: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The head's settings."""
        return asdict(self.head)  # type: ignore[call-overload]

    @property
    def reads(self) -> str:
        """What the head takes from the encoder."""
        return self.head.reads

    def scores(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Scores:
        """Return the logits of queries (E, M, *F), (E, M, N)."""
        size = len(query) * (ways + 1) * query[0, 0].numel()
        with torch.no_grad():
            parts = [
                self.head.logits(support, part, ways, self.learned, classes)
                for part in query.split(max(1, _BLOCK_VALUES // size), dim=1)
            ]
        return Scores.untuned(torch.cat(parts, dim=1))

"""What is scored and what comes out: features of samples, and what a classifier reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.evaluation.answers import Answers
from skelfew.evaluation.statistics import Estimate
from skelfew.fewshot import Classifier
from skelfew.fewshot.dtw import DTW
from skelfew.io.files import Document

_MOST_PAIRED = 4096  # samples whose similarities to each other are kept


@dataclass(frozen=True)
class Features:
    """Features (n, *F) float32 of n samples of a data set, their IDs and class numbers (n,)."""

    values: Tensor
    ids: tuple[str, ...]
    labels: Tensor
    _row: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _pairs: dict[DTW, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._row.update({sample_id: i for i, sample_id in enumerate(self.ids)})
        if not self.values.isfinite().all():
            bad = int((~self.values.flatten(1).isfinite().all(dim=1)).nonzero()[0])
            raise SkelfewError(
                f"the features of sample {self.ids[bad]} are not finite; the encoder or the "
                "skeleton is broken"
            )

    def rows(self, ids: Sequence[str]) -> Tensor:
        """Return the positions of samples."""
        return torch.tensor([self._row[i] for i in ids])

    def pair(self, classifier: Classifier, comparisons: int) -> None:
        """Keep all similarities by ``dtw`` if that is less work than so many comparisons."""
        n = len(self.ids)
        fits = isinstance(classifier, DTW) and n <= _MOST_PAIRED and 2 * comparisons > n * n
        if isinstance(classifier, DTW) and fits and classifier not in self._pairs:
            self._pairs[classifier] = classifier.of_pairs(self.values)

    def paired(self, classifier: Classifier) -> Tensor | None:
        """Return the similarities (n, n) that ``pair`` has kept."""
        return self._pairs.get(classifier) if isinstance(classifier, DTW) else None


@dataclass(frozen=True)
class Result:
    """Scores of one classifier on one split."""

    micro: Estimate  # share of all queries classified correctly; the field's "accuracy"
    macro: Estimate  # mean over classes of their accuracies
    classes: tuple[int, ...]
    per_class: tuple[float, ...]  # accuracy of each, NaN without queries
    # Counts (N, N), row = true class; summed over draws, None for episodes
    confusion: np.ndarray | None
    chance: float
    queries: int  # number of queries, in one draw or one episode
    changed: int  # how many predictions fine-tuning changed, in all
    # Sample IDs by class for fixed exemplars, else empty
    exemplars: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    # The queries by true class and by the class that they were taken for, right ones too; each
    # once, however many draws agree. None for episodes.
    answers: Answers | None = None
    draws: tuple[float, ...] = ()  # of random draws, the share of each that is classified correctly

    def to_dict(self, names: Mapping[int, str]) -> Document:
        """Return plain values for JSON; ``names`` are the classes' names."""
        return {
            "micro": self.micro.to_dict(),
            "macro": self.macro.to_dict(),
            "chance": self.chance,
            "queries": self.queries,
            "changed_by_tuning": self.changed,
            "classes": [
                {"class_id": c, "name": names.get(c, ""), "accuracy": None if a != a else a}
                for c, a in zip(self.classes, self.per_class, strict=True)
            ],
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "exemplars": {str(c): list(ids) for c, ids in self.exemplars.items()},
            "answers": None if self.answers is None else self.answers.to_dict(),
            "draws": [round(share, 6) for share in self.draws],
        }

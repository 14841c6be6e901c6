"""Few-shot classifiers on features, a file each; all episodes of a batch at once.

A classifier is a frozen dataclass of its settings with one method,

    scores(support, query, ways) -> Scores

support (E, N * K, D), class by class, and query (E, M, D) of E independent episodes. To add one,
write its module and add a line to CLASSIFIERS.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Protocol

from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.fewshot.cosine import CosineClassifier
from skelfew.fewshot.linear import LinearClassifier
from skelfew.fewshot.nearest import NearestNeighbour, NearestPrototype
from skelfew.fewshot.scores import Scores

__all__ = ["CLASSIFIERS", "Classifier", "Scores", "build_classifier"]


class Classifier(Protocol):
    """What evaluate needs of a classifier."""

    def scores(self, support: Tensor, query: Tensor, ways: int) -> Scores:
        """Return the logits of the queries, (E, M, N)."""
        ...


# The first is what a score is quoted with; "cosine-paper" is the classifier as printed.
CLASSIFIERS: dict[str, Classifier] = {
    "cosine": CosineClassifier(),
    "cosine-paper": CosineClassifier(
        scale=1.0, rule="mean_raw", tune_steps=20, entropy=1.0, entropy_on="support"
    ),
    "linear": LinearClassifier(),
    "nearest": NearestNeighbour(),
    "prototype": NearestPrototype(),
}


def build_classifier(name: str, settings: Mapping[str, object] | None = None) -> Classifier:
    """Return a classifier with some of its settings changed.

    Args:
        name: Key of ``CLASSIFIERS``.
        settings: By field name; those that this classifier does not have are left out.

    Raises:
        SkelfewError: No such classifier, or an impossible value.
    """
    if name not in CLASSIFIERS:
        raise SkelfewError(f"no classifier {name!r}; there are {', '.join(CLASSIFIERS)}")
    classifier = CLASSIFIERS[name]
    known = {f.name for f in fields(classifier)}  # type: ignore[arg-type]
    changed = {k: v for k, v in (settings or {}).items() if k in known}
    return replace(classifier, **changed)  # type: ignore[type-var]

"""Few-shot classifiers on features, a file each; all episodes of a batch at once.

A classifier is a frozen dataclass of its settings with one method,

    scores(support, query, ways, classes) -> Scores

support (E, N * K, D), class by class, and query (E, M, D) of E independent episodes; classes
(E, N), if given, are their class numbers, which hardly any needs. To add one, write its module and
add a line to CLASSIFIERS.

A head (``skelfew.fewshot.head``) is one that the episodic stage can train through as well; to add
one, write its module and add a line to HEADS and its name to ``skelfew.config.HEADS``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Protocol

from torch import Tensor

from skelfew.config.fields import override_value
from skelfew.errors import SkelfewError
from skelfew.fewshot.apsr import APSR
from skelfew.fewshot.cosine import CosineClassifier, CosineHead
from skelfew.fewshot.dastm import DASTM
from skelfew.fewshot.dtw import DTW
from skelfew.fewshot.feat import FEAT
from skelfew.fewshot.head import Head, HeadClassifier
from skelfew.fewshot.jeanie import JEANIE
from skelfew.fewshot.linear import LinearClassifier
from skelfew.fewshot.nearest import NearestNeighbour, NearestPrototype
from skelfew.fewshot.protonet import ProtoNet
from skelfew.fewshot.scores import Scores
from skelfew.fewshot.smam import SMAM
from skelfew.fewshot.softdtw import SoftDTW
from skelfew.fewshot.subspace import Subspace

__all__ = [
    "CLASSIFIERS",
    "HEADS",
    "Classifier",
    "Head",
    "HeadClassifier",
    "Scores",
    "build_classifier",
    "build_head",
]


class Classifier(Protocol):
    """What evaluate needs of a classifier."""

    def scores(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Scores:
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
    "dtw": DTW(),
}

# The first is what the paper trains with, and is scored by the classifier of that name.
HEADS: dict[str, Head] = {
    "cosine": CosineHead(),
    "protonet": ProtoNet(),
    "feat": FEAT(),
    "subspace": Subspace(),
    "soft-dtw": SoftDTW(),
    "dastm": DASTM(),
    "smam": SMAM(),
    "jeanie": JEANIE(),
    "apsr": APSR(),
}


def build_classifier(name: str, settings: Mapping[str, object] | None = None) -> Classifier:
    """Return a classifier with some of its settings changed.

    Args:
        name: Key of ``CLASSIFIERS``, or of ``HEADS``.
        settings: Values or their text by field name; those that this classifier does not have are
            left out.

    Raises:
        SkelfewError: No such classifier, or an impossible value.
    """
    if name not in CLASSIFIERS and name in HEADS:
        known = {f.name for f in fields(HEADS[name])}  # type: ignore[arg-type]
        changed = {k: v for k, v in (settings or {}).items() if k in known}
        return HeadClassifier(build_head(name, changed), given=tuple(changed))
    if name not in CLASSIFIERS:
        known_names = ", ".join(dict.fromkeys([*CLASSIFIERS, *HEADS]))
        raise SkelfewError(f"no classifier {name!r}; there are {known_names}")
    classifier = CLASSIFIERS[name]
    known = {f.name for f in fields(classifier)}  # type: ignore[arg-type]
    for key, value in (settings or {}).items():
        if key in known:
            classifier = override_value(classifier, [key], value, key)
    return classifier


def build_head(name: str, settings: Mapping[str, object] | Iterable[str] = ()) -> Head:
    """Return a head with some of its settings changed.

    Args:
        name: Key of ``HEADS``.
        settings: Values or their text by field name, or ``KEY=VALUE`` each.

    Raises:
        SkelfewError: No such head or setting, or an impossible value.
    """
    if name not in HEADS:
        raise SkelfewError(f"no head {name!r}; there are {', '.join(HEADS)}")
    head = HEADS[name]
    if not isinstance(settings, Mapping):
        settings = dict(pair.split("=", 1) for pair in settings)
    known = [f.name for f in fields(head)]  # type: ignore[arg-type]
    for key, value in settings.items():
        if key not in known:
            has = f"its settings are {', '.join(known)}" if known else "it has no settings"
            raise SkelfewError(f"head {name!r} has no setting {key!r}; {has}")
        head = override_value(head, [key], value, f"{name}.{key}")
    return head

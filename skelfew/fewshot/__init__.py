"""Few-shot classifiers and heads, a file each; all episodes of a batch at once.

A classifier is a frozen dataclass of its settings with one method,

    scores(support, query, ways, classes) -> Scores

support (E, N * K, D), class by class, and query (E, M, D) of E independent episodes; classes
(E, N), if given, are their class numbers, which hardly any needs. To add one, write its module and
add a line to CLASSIFIERS.

A head (``skelfew.fewshot.head``) is one that the episodic stage can train through as well; to add
one, write its module and add a line to HEADS.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from skelfew.errors import SkelfewError
from skelfew.fields import filled, parameters
from skelfew.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from skelfew.fewshot.head import Head
    from skelfew.fewshot.scores import Scores

__all__ = ["CLASSIFIERS", "HEADS", "POOLED", "Classifier", "build_classifier", "build_head",
           "pooled_beside"]  # fmt: skip

# The first is what a score is quoted with; "cosine-paper" is the classifier as printed.
CLASSIFIERS = Registry(
    "classifier",
    None,
    {
        "cosine": "skelfew.fewshot.cosine:CosineClassifier",
        "cosine-paper": "skelfew.fewshot.cosine:PrintedCosineClassifier",
        "linear": "skelfew.fewshot.linear:LinearClassifier",
        "nearest": "skelfew.fewshot.nearest:NearestNeighbour",
        "prototype": "skelfew.fewshot.nearest:NearestPrototype",
        "dtw": "skelfew.fewshot.dtw:DTW",
    },
)
# Those of one feature a clip: what "all" means, and what every table of runs is scored by.
POOLED = tuple(name for name in CLASSIFIERS if name != "dtw")
# The first is what the paper trains with, and is scored by the classifier of that name.
HEADS = Registry(
    "head",
    "skelfew.heads",
    {
        "cosine": "skelfew.fewshot.cosine:CosineHead",
        "protonet": "skelfew.fewshot.protonet:ProtoNet",
        "feat": "skelfew.fewshot.feat:FEAT",
        "subspace": "skelfew.fewshot.subspace:Subspace",
        "soft-dtw": "skelfew.fewshot.softdtw:SoftDTW",
        "dastm": "skelfew.fewshot.dastm:DASTM",
        "smam": "skelfew.fewshot.smam:SMAM",
        "jeanie": "skelfew.fewshot.jeanie:JEANIE",
        "apsr": "skelfew.fewshot.apsr:APSR",
    },
)


def pooled_beside(name: str) -> tuple[str, ...]:
    """Return the classifiers that a table scores beside a row's; for ``dtw`` the cosine alone."""
    return POOLED if name != "dtw" else POOLED[:1]


def scored_by() -> list[str]:
    """Return all names by which a score can be made: classifiers, and heads without the first."""
    return [*CLASSIFIERS, *(name for name in HEADS if name not in CLASSIFIERS)]


class Classifier(Protocol):
    """Interface of a few-shot classifier."""

    def scores(
        self, support: "Tensor", query: "Tensor", ways: int, classes: "Tensor | None" = None
    ) -> "Scores":
        """Return the logits of the queries, (E, M, N)."""
        ...


def build_classifier(name: str, settings: Mapping[str, object] | None = None) -> Classifier:
    """Return a classifier (of ``CLASSIFIERS`` or ``HEADS``) with those settings that it has.

    Raises SkelfewError: no such classifier, or an impossible value.
    """
    given = settings or {}
    if name not in CLASSIFIERS and name in HEADS:
        from torch.random import fork_rng

        from skelfew.fewshot.head import HeadClassifier

        changed = {k: v for k, v in given.items() if k in settings_known(name)}
        with fork_rng(devices=[]):  # its first weights are of no use
            return HeadClassifier(build_head(name, changed), name, given=tuple(changed))
    if name not in CLASSIFIERS:
        raise SkelfewError(f"no classifier {name!r}; there are {', '.join(scored_by())}")
    build = CLASSIFIERS.load(name)
    changed = {k: v for k, v in given.items() if k in settings_known(name)}
    return build(**filled(build, changed, name))


def build_head(
    name: str, settings: Mapping[str, object] | Iterable[str] = (), width: int = 8
) -> "Head":
    """Return a new head for ``width`` channels, with settings (also ``KEY=VALUE``) changed."""
    if not isinstance(settings, Mapping):
        settings = dict(pair.split("=", 1) for pair in settings)
    build = HEADS.load(name)
    values = filled(build, settings, f"head {name!r}")
    head: Head = build(width, **values)
    head.settings = values
    return head


def settings_known(name: str) -> list[str]:
    """Return the names of the settings of a classifier or a head."""
    return [*parameters((CLASSIFIERS if name in CLASSIFIERS else HEADS).load(name))]

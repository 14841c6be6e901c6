"""Scoring few-shot classifiers on features: fixed exemplars, random draws, random episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from skelfew.data.episodes import episode_labels, sample_episodes
from skelfew.data.protocols.protocol import Protocol
from skelfew.errors import SkelfewError
from skelfew.evaluation.answers import Answers
from skelfew.evaluation.results import Features, Result
from skelfew.evaluation.statistics import (
    Estimate,
    bootstrap,
    confusion_matrix,
    per_class,
    student_interval,
)
from skelfew.fewshot import Classifier, build_classifier
from skelfew.fewshot.dtw import DTW

# Query values of the episodes scored together: about a processor's cache, and more for sequences,
# whose alignment has many small steps.
_BLOCK_VALUES, _SEQUENCE_VALUES = 2**21, 2**22


def score_exemplars(
    features: Features,
    protocol: Protocol,
    classifier: Classifier,
    shots: int,
    exclude: Sequence[str] = (),
    seed: int = 0,
) -> Result:
    """Score all queries of a protocol, but the sets of ``exclude``, against its fixed exemplars."""
    exemplars = protocol.exemplars(shots)
    support = features.rows([i for c in protocol.novel for i in exemplars[c]])
    query = features.rows(protocol.queries(shots, exclude))
    answers = Answers()
    confusion, changed = _score_all(features, protocol.novel, classifier, support, query, answers)
    estimates = bootstrap(confusion, seed=seed)
    return _result(protocol.novel, confusion, changed, answers, estimates, exemplars)


def score_texts(
    features: Features, classes: Sequence[int], vectors: Tensor, seed: int = 0
) -> Result:
    """Score samples (n, P) of some classes by their cosine with one vector a class, (C, P)."""
    classes = tuple(classes)
    query = torch.isin(features.labels, torch.tensor(classes)).nonzero().flatten()
    rule = build_classifier("cosine")
    logits = rule.scores(vectors[None], features.values[query][None], len(classes)).logits[0]
    predicted, answers = logits.argmax(dim=-1).numpy(), Answers()
    confusion = _count(features, classes, query, predicted, answers)
    return _result(classes, confusion, 0, answers, bootstrap(confusion, seed=seed))


def score_draws(
    features: Features,
    classes: Sequence[int],
    classifier: Classifier,
    shots: int,
    draws: int,
    seed: int,
    groups: Sequence[str] | None = None,
) -> Result:
    """Score all other samples against K random exemplars a class, several times.

    With ``groups`` of the samples, K a class are drawn in each group, for its other samples alone.
    Raises SkelfewError: a class has no more than K samples (in a group).
    """
    classes = tuple(classes)
    generator = torch.Generator().manual_seed(seed)
    parts = _members(features, classes, shots, groups)
    total, changed, micro, macro = np.zeros((len(classes),) * 2, dtype=np.int64), 0, [], []
    answers = Answers()
    features.pair(classifier, draws * len(classes) * shots * sum(len(m) for p in parts for m in p))
    for _ in range(draws):
        orders = [
            [rows[torch.randperm(len(rows), generator=generator)] for rows in members]
            for members in parts
        ]
        drawn, n = _score_orders(features, classes, classifier, shots, orders, answers)
        total, changed = total + drawn, changed + n
        micro.append(float(np.diag(drawn).sum() / drawn.sum()))
        macro.append(np.nanmean(per_class(drawn)))
    estimates = student_interval(micro, "draws"), student_interval(macro, "draws")
    result = _result(classes, total, changed, answers, estimates)
    return replace(result, queries=int(drawn.sum()), draws=tuple(micro))


def score_medoids(
    features: Features,
    classes: Sequence[int],
    classifier: Classifier,
    shots: int,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Result:
    """Score all other samples against the K most central ones of each class.

    That is what well-chosen exemplars would reach: all samples of a class take part in the choice.
    The first is the medoid, the one most similar to the others by the classifier's own measure;
    each further one adds most to the similarity of all to their nearest.
    """
    classes = tuple(classes)
    parts = _members(features, classes, shots, groups)
    orders = [
        [_central(features.values[rows], classifier, shots, rows) for rows in members]
        for members in parts
    ]
    answers = Answers()
    confusion, changed = _score_orders(features, classes, classifier, shots, orders, answers)
    chosen = {
        c: tuple(features.ids[i] for members in orders for i in members[place][:shots].tolist())
        for place, c in enumerate(classes)
    }
    estimates = bootstrap(confusion, seed=seed)
    return _result(classes, confusion, changed, answers, estimates, chosen)


def _central(values: Tensor, classifier: Classifier, shots: int, rows: Tensor) -> Tensor:
    """Return the rows of one class, the K most central first."""
    alone = torch.arange(len(rows))
    alike = classifier.scores(values[None], values[None], len(rows), alone[None]).logits[0]
    nearest, chosen = torch.full_like(alike[:, :1], -torch.inf), list[int]()
    for _ in range(shots):
        gain = torch.maximum(nearest, alike).sum(dim=0)
        gain[chosen] = -torch.inf
        chosen.append(int(gain.argmax()))
        nearest = torch.maximum(nearest, alike[:, chosen[-1:]])
    others = [i for i in range(len(rows)) if i not in chosen]
    return rows[torch.tensor(chosen + others)]


def _score_orders(
    features: Features,
    classes: Sequence[int],
    classifier: Classifier,
    shots: int,
    orders: Sequence[Sequence[Tensor]],
    answers: Answers,
) -> tuple[np.ndarray, int]:
    """Score each group's samples, listed class by class, against the first K of each class."""
    total, changed = np.zeros((len(classes),) * 2, dtype=np.int64), 0
    for members in orders:
        support = torch.cat([rows[:shots] for rows in members])
        query = torch.cat([rows[shots:] for rows in members])
        confusion, n = _score_all(features, classes, classifier, support, query, answers)
        total, changed = total + confusion, changed + n
    return total, changed


def _members(
    features: Features, classes: Sequence[int], shots: int, groups: Sequence[str] | None
) -> list[list[Tensor]]:
    """Return the positions of each class's samples, group by group."""
    owners = [""] * len(features.ids) if groups is None else list(groups)
    parts = []
    for name in sorted(set(owners)):
        inside = torch.tensor([owner == name for owner in owners])
        part = [((features.labels == c) & inside).nonzero().flatten() for c in classes]
        for class_id, rows in zip(classes, part, strict=True):
            if len(rows) <= shots:
                where = f" in {name}" if name else ""
                raise SkelfewError(
                    f"class {class_id} has {len(rows)} samples{where}; {shots} exemplars leave no "
                    "query"
                )
        parts.append(part)
    return parts


def score_episodes(
    features: Features,
    classes: Sequence[int],
    classifier: Classifier,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    seed: int,
) -> Result:
    """Score random N-way K-shot episodes of the given classes, many at a time."""
    classes = tuple(classes)
    of = torch.isin(features.labels, torch.tensor(classes)).nonzero().flatten()
    labels = features.labels[of]
    generator = torch.Generator().manual_seed(seed)
    support, query = sample_episodes(labels, ways, shots, queries, episodes, generator)
    correct, changed = episode_hits(features.values[of], support, query, ways, classifier, labels)
    hits = torch.zeros(max(classes) + 1, dtype=torch.float64)
    tries = hits.clone()
    asked = labels[query].flatten()
    hits.index_add_(0, asked, correct.flatten().double())
    tries.index_add_(0, asked, torch.ones(len(asked), dtype=torch.float64))
    micro = student_interval(correct.double().mean(dim=1).numpy(), "episodes")
    return Result(
        micro=micro,
        macro=micro,  # every class of an episode has as many queries
        classes=classes,
        per_class=tuple(float(hits[c] / tries[c]) for c in classes),
        confusion=None,
        chance=1 / ways,
        queries=query.shape[1],
        changed=changed,
    )


def episode_hits(
    values: Tensor,
    support: Tensor,
    query: Tensor,
    ways: int,
    classifier: Classifier,
    labels: Tensor | None = None,
) -> tuple[Tensor, int]:
    """Return which queries (E, N * Q) are classified correctly, and how many fine-tuning changed.

    ``support`` and ``query`` are rows of the features (n, *F), class by class, ``labels`` their
    classes.
    """
    truth = episode_labels(ways, query.shape[1] // ways).to(values.device)
    most = _BLOCK_VALUES if values.ndim == 2 else _SEQUENCE_VALUES
    block = max(1, most // (query.shape[1] * values[0].numel()))
    hits, changed = [], 0
    for s, q in zip(support.split(block), query.split(block), strict=True):
        classes = None if labels is None else labels[s[:, :: s.shape[1] // ways]]
        scores = classifier.scores(_take(values, s), _take(values, q), ways, classes)
        hits.append(scores.logits.argmax(dim=-1) == truth)
        changed += int(scores.changed.sum())
    return torch.cat(hits), changed


def _take(values: Tensor, rows: Tensor) -> Tensor:
    return values.index_select(0, rows.flatten()).view(*rows.shape, *values.shape[1:])


def _score_all(
    features: Features,
    classes: Sequence[int],
    classifier: Classifier,
    support: Tensor,
    query: Tensor,
    answers: Answers,
) -> tuple[np.ndarray, int]:
    """Confusion matrix of one episode that has all queries, and changes by fine-tuning."""
    values, alike = features.values, features.paired(classifier)
    if alike is not None:
        assert isinstance(classifier, DTW)
        scores = classifier.to_classes(alike[query][None, :, support], len(classes))
    else:
        numbers = torch.tensor(classes, device=values.device)[None]
        given = values[support][None], values[query][None]
        scores = classifier.scores(*given, len(classes), numbers)
    predicted = scores.logits[0].argmax(dim=-1).cpu().numpy()
    return _count(features, classes, query, predicted, answers), int(scores.changed.sum())


def _count(
    features: Features,
    classes: Sequence[int],
    query: Tensor,
    predicted: np.ndarray,
    answers: Answers,
) -> np.ndarray:
    """Return the confusion matrix of queries, and add them to ``answers``."""
    position = {c: i for i, c in enumerate(classes)}
    labels: list[int] = features.labels[query].tolist()
    ids = [features.ids[i] for i in query.tolist()]
    answers.add(ids, labels, [classes[i] for i in predicted.tolist()])
    return confusion_matrix(np.array([position[c] for c in labels]), predicted, len(classes))


def _result(
    classes: Sequence[int],
    confusion: np.ndarray,
    changed: int,
    answers: Answers,
    estimates: tuple[Estimate, Estimate],
    exemplars: Mapping[int, tuple[str, ...]] | None = None,
) -> Result:
    return Result(
        *estimates,
        tuple(classes),
        tuple(per_class(confusion).tolist()),
        confusion,
        1 / len(classes),
        int(confusion.sum()),
        changed,
        exemplars or {},
        answers,
    )

"""From a run, an encoder or raw skeletons to a result document: what skelfew-eval does."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from skelfew.config import InputConfig
from skelfew.data.manifest import Manifest
from skelfew.data.protocols.protocol import Protocol, load_protocol, split_names
from skelfew.errors import SkelfewError
from skelfew.evaluation.answers import FORMAT, FORMAT_VERSION, TEXTS, UNTRAINED, Mode, Scored
from skelfew.evaluation.results import Features, Result
from skelfew.evaluation.scoring import (
    score_draws,
    score_episodes,
    score_exemplars,
    score_medoids,
    score_texts,
)
from skelfew.evaluation.statistics import Estimate, student_interval
from skelfew.evaluation.subjects import Subject, run_subject
from skelfew.fewshot import Classifier, build_classifier
from skelfew.fewshot.trained import bind, settings_of
from skelfew.io.files import Document
from skelfew.runs.folder import Run, environment


@dataclass(frozen=True)
class EvaluationPlan:
    """Settings of an evaluation."""

    # By the name that the table shows; none: each subject's own, or zero shots
    classifiers: dict[str, Classifier]
    shots: int = 1  # K; 0 compares with the texts of the classes
    protocol: str | None = None  # name or file; None for the subject's or the data set's own
    # One split, ``all``, or None: the subject's own, all for one without training
    split: str | None = None
    # ``exemplars`` of the protocol, ``draws`` of random ones with all other samples as queries,
    # ``medoids``, the most central ones, or ``episodes``; None for exemplars if the protocol has
    # any
    mode: Mode | None = None
    draws: int = 10
    episodes: int | None = None  # how many episodes; None for the protocol's number, else 1000
    ways: int | None = None  # N of episodes; None for the protocol's, else 5 at most
    queries: int | None = None  # Q of episodes; None for the protocol's, else 15
    exclude: tuple[str, ...] = ()  # sets of queries that the protocol allows to leave out
    seed: int = 0  # of draws, episodes and bootstrap
    # Give the mean over several runs, usually a split each, instead of a row each
    average: bool = False
    classes: Scored = "novel"  # ``novel`` or ``validation``: which classes are scored
    # Column of the manifest: draws and medoids compare a query with exemplars of the same view,
    # performer, ... only.
    within: Literal["view", "subject", "replication", "setup"] | None = None

    def scored(self, protocol: Protocol) -> tuple[int, ...]:
        """Return the class numbers that are compared."""
        return protocol.novel if self.classes == "novel" else protocol.validation


def evaluate(subjects: Sequence[Subject], plan: EvaluationPlan) -> Document:
    """Evaluate subjects with one plan and return the result document (docs/evaluation.md).

    Every subject has a row for each classifier; raw skeletons are scored on the splits that the
    others have.
    """
    manifest = subjects[0].manifest
    for subject in subjects:
        if subject.manifest.sha256 != manifest.sha256:
            raise SkelfewError(
                f"{subjects[0].name} is evaluated on {manifest.name}, {subject.name} on "
                f"{subject.manifest.name}: compare runs on one data set at a time"
            )
    learned = [s for s in subjects if s.name not in UNTRAINED]
    tasks: list[tuple[Subject, Protocol]] = []
    for subject in learned:
        tasks += [(subject, p) for p in protocols_of(subject, plan)]
    compared = {p.split: p for _, p in tasks}
    for subject in subjects:
        if subject.name in UNTRAINED:
            chosen = list(compared.values()) or protocols_of(subject, plan)
            tasks += [(subject, p) for p in chosen]
    first = tasks[0][1]
    if any(p.sha256 != first.sha256 for _, p in tasks):
        names = sorted({p.name for _, p in tasks})
        raise SkelfewError(
            f"runs of different protocols cannot be compared ({', '.join(names)}); evaluate "
            "them one by one, or name one protocol with --protocol"
        )
    mode: Mode = plan.mode or ("exemplars" if first.has_exemplars else "episodes")
    if plan.shots == 0:
        mode = TEXTS
    elif plan.classes != "novel" and mode == "exemplars":
        raise SkelfewError(
            f"{first.path}: lists exemplars of novel classes only; score {plan.classes} classes "
            "with --mode draws or episodes"
        )
    if plan.exclude and mode != "exemplars":
        raise SkelfewError(
            f"leaving out {', '.join(plan.exclude)} is for --mode exemplars, not for {mode}"
        )
    if plan.within and mode not in ("draws", "medoids"):
        raise SkelfewError(
            f"exemplars within a {plan.within} are drawn: give --mode draws or medoids, not {mode}"
        )
    results: dict[tuple[str, str], list[tuple[Subject, Protocol, Result]]] = {}
    scored: dict[tuple[str, str], Classifier | None] = {}
    for subject, protocol in tasks:
        features: dict[str, Features] = {}
        for name, classifier in _classifiers(subject, plan).items():
            classifier = bind(classifier, subject.head, manifest.name)
            output = getattr(classifier, "reads", "pooled")
            if output not in features:
                features[output] = class_features(subject, plan.scored(protocol), output)
            result = score(subject, features[output], protocol, classifier, plan, mode)
            label = subject.name
            if plan.average and label not in UNTRAINED:
                label = f"{len(learned)} runs"
            scored.setdefault((label, name), classifier)
            row = results.setdefault((label, name), [])
            row.append((subject, protocol, result))
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "versions": environment()["versions"],
        "data": {
            "dataset": manifest.name,
            "manifest_sha256": manifest.sha256,
            "skeletons_digest": subjects[0].store.attrs.get("digest"),
        },
        "protocol": {
            "name": first.name,
            "path": str(first.path),
            "sha256": first.sha256,
            "splits": list(dict.fromkeys(p.split for _, p in tasks if p.split)),
            "source": first.source,
            "notes": list(first.notes),
        },
        "mode": mode,
        "shots": plan.shots,
        "classes": plan.classes,
        "seed": plan.seed,
        "excluded_queries": list(plan.exclude) if mode == "exemplars" else [],
        "within": plan.within,
        "teacher_untrained": _untrained(subjects),
        "subjects": [{"name": s.name, **s.about, "notes": list(s.notes)} for s in subjects],
        "notes": _notes(subjects, tasks, plan, mode, results),
        "rows": [
            _row(kind, name, scored[kind, name], row, manifest)
            for (kind, name), row in results.items()
        ],
    }


def _classifiers(subject: Subject, plan: EvaluationPlan) -> dict[str, Classifier | None]:
    if plan.shots == 0:
        return {TEXTS: None}
    if subject.rule is not None:
        return {subject.classifier: subject.rule}
    return {**plan.classifiers} or {subject.classifier: build_classifier(subject.classifier)}


def evaluate_runs(
    *runs: str | Path,
    shots: int = 1,
    classifiers: Sequence[str] = ("cosine",),
    device: str = "cpu",
    **plan: Any,
) -> Document:
    """Score the encoders of finished runs, as skelfew-eval does, and return its document.

    Args:
        runs: Run folders, on one data set.
        shots: K exemplars of each class, 1 or more.
        classifiers: Keys of ``skelfew.fewshot.CLASSIFIERS`` or ``HEADS``.
        plan: Further attributes of ``EvaluationPlan``: ``mode``, ``draws``, ``split``, ``seed`` ...

    Raises:
        SkelfewError: A run that is not finished, or that has seen a class that is scored.
    """
    chosen = {name: build_classifier(name) for name in classifiers}
    asked = EvaluationPlan(chosen, shots=shots, **plan)
    subjects = [run_subject(Run.open(r), InputConfig(), device, asked.protocol) for r in runs]
    return evaluate(subjects, asked)


def protocols_of(subject: Subject, plan: EvaluationPlan) -> list[Protocol]:
    """Return the protocol of a subject, one entry a split, after checking what it has seen."""
    name = plan.protocol or subject.own_protocol
    manifest = subject.manifest
    first = load_protocol(name, manifest)
    splits: list[str | None]
    if plan.split == "all" and first.split:
        splits = list(split_names(first.path, manifest))
    elif plan.split not in (None, "all"):
        splits = [plan.split]
    elif not first.split:
        splits = [None]
    elif subject.split and (plan.protocol is None or _same(plan.protocol, subject.protocol)):
        splits = [subject.split]
    else:
        splits = list(split_names(first.path, manifest))
    protocols = [load_protocol(first.path, manifest, split) for split in splits]
    for protocol in protocols:
        if not plan.scored(protocol):
            raise SkelfewError(f"{protocol.path}: has no {plan.classes} classes to score")
        check_unseen(subject, protocol, plan)
    return protocols


def check_unseen(subject: Subject, protocol: Protocol, plan: EvaluationPlan) -> None:
    """Raise SkelfewError if a subject was trained on a class that is scored."""
    seen = sorted(set(subject.trained_on or ()) & set(plan.scored(protocol)))
    if seen:
        split = f" in split {protocol.split}" if protocol.split else ""
        own = f"; its own split is {subject.split}" if subject.split else ""
        raise SkelfewError(
            f"{subject.name} was trained on class {', '.join(map(str, seen[:5]))}"
            f"{', ...' if len(seen) > 5 else ''}, {plan.classes}{split} of {protocol.name}"
            f"{own}; a score would mean nothing. Train with this protocol and split first"
        )


def _same(one: str | None, other: str | None) -> bool:
    return Path(one or "").stem == Path(other or "").stem


def _untrained(subjects: Sequence[Subject]) -> bool | None:
    """Whether an untrained teacher took part; None if no teacher did."""
    teachers = [t for s in subjects if (t := s.about.get("metadata", {}).get("teacher"))]
    return any(t.get("trained") is False for t in teachers) if teachers else None


def class_features(subject: Subject, classes: Sequence[int], output: str = "pooled") -> Features:
    """Return an output of the encoder for all samples of some classes."""
    samples = subject.manifest.subset(classes)
    ids = tuple(samples.ids)
    if absent := [i for i in ids if i not in subject.store]:
        raise SkelfewError(
            f"{subject.store.path}: {len(absent)} of {len(ids)} samples have no skeleton, first "
            f"{absent[0]}; run skelfew-prepare {subject.manifest.name} again"
        )
    labels = torch.tensor([s.class_id for s in samples])
    values = subject.features(ids) if output == "pooled" else subject.features(ids, output)
    return Features(values, ids, labels)


def score(
    subject: Subject,
    features: Features,
    protocol: Protocol,
    classifier: Classifier | None,
    plan: EvaluationPlan,
    mode: Mode,
) -> Result:
    """Score features of the classes of a plan; by class texts where there is no classifier."""
    if classifier is None:
        if subject.texts is None:
            raise SkelfewError(f"{subject.name}: nothing there can be compared with texts")
        return score_texts(
            features, classes := plan.scored(protocol), subject.texts(classes), plan.seed
        )
    if mode == "exemplars":
        return score_exemplars(features, protocol, classifier, plan.shots, plan.exclude, plan.seed)
    classes = plan.scored(protocol)
    groups = _groups(subject.manifest, features.ids, plan.within) if plan.within else None
    if mode == "medoids":
        return score_medoids(features, classes, classifier, plan.shots, plan.seed, groups)
    if mode == "draws":
        return score_draws(features, classes, classifier, plan.shots, plan.draws, plan.seed, groups)
    fixed = protocol.episodes
    return score_episodes(
        features,
        classes,
        classifier,
        plan.ways or fixed.get("ways") or min(5, len(classes)),
        plan.shots,
        plan.queries or fixed.get("queries", 15),
        plan.episodes or fixed.get("episodes", 1000) * fixed.get("repeats", 1),
        plan.seed,
    )


def _groups(manifest: Manifest, ids: Sequence[str], column: str) -> list[str]:
    """Return which view, performer, ... each sample is of, in words."""
    values = [str(getattr(manifest[i], column)) for i in ids]
    if unknown := [i for i, value in zip(ids, values, strict=True) if not value]:
        raise SkelfewError(
            f"{manifest.name}: the {column} of {len(unknown)} samples is not known, first "
            f"{unknown[0]}; exemplars cannot be drawn within it"
        )
    return [f"{column} {value}" for value in values]


def _row(
    kind: str,
    name: str,
    classifier: Classifier | None,
    row: Sequence[tuple[Subject, Protocol, Result]],
    manifest: Manifest,
) -> Document:
    micro, macro = row[0][2].micro, row[0][2].macro
    if len(row) > 1:
        of = "splits" if len({p.split for _, p, _ in row}) == len(row) else "runs"
        micro = student_interval([r.micro.value for _, _, r in row], of)
        macro = student_interval([r.macro.value for _, _, r in row], of)
    return {
        "features": kind,
        "classifier": name,
        "settings": row[0][0].about[TEXTS] if classifier is None else settings_of(classifier),
        "transductive": bool(getattr(classifier, "transductive", False)),
        "micro": micro.to_dict(),
        "macro": macro.to_dict(),
        "results": [
            {
                "subject": subject.name,
                "split": protocol.split,
                "novel": list(protocol.novel),
                **result.to_dict(manifest.classes),
            }
            for subject, protocol, result in row
        ],
    }


def _notes(
    subjects: Sequence[Subject],
    tasks: Sequence[tuple[Subject, Protocol]],
    plan: EvaluationPlan,
    mode: Mode,
    results: dict[tuple[str, str], list[tuple[Subject, Protocol, Result]]],
) -> list[str]:
    """Return the notes that belong to the numbers."""
    notes = list(dict.fromkeys(note for s in subjects for note in s.notes))
    protocol = tasks[0][1]
    if mode == "exemplars":
        key = " without ".join([str(plan.shots), *plan.exclude])
        expected = protocol.expected_queries.get(key)
        got = next(iter(results.values()))[0][2].queries
        if expected is not None and expected != got:
            notes.append(
                f"{got:,} queries, but the complete data set has {expected:,}: not comparable "
                "with published numbers"
            )
    if mode == "medoids":
        notes.append("exemplars were chosen with all labels: an upper bound, no result")
    if plan.within:
        notes.append(f"queries are compared with exemplars of the same {plan.within} only")
    for name, classifier in plan.classifiers.items():
        if getattr(classifier, "transductive", False):
            notes.append(f"{name} is transductive: it looks at all queries before it decides")
    return notes


def estimate(values: Document) -> Estimate:
    """Read an estimate back from a document."""
    return Estimate(**values)

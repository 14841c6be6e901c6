"""One unit: train or go on training, score, and say what came out."""

import os
import platform
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout

from skelfew.data.protocols.protocol import Protocol
from skelfew.evaluation.answers import TEXTS, Mode, Scored
from skelfew.evaluation.document import EvaluationPlan, check_unseen, class_features
from skelfew.evaluation.document import score as evaluated
from skelfew.evaluation.results import Features, Result
from skelfew.evaluation.subjects import Subject, raw_subject, run_subject
from skelfew.evaluation.zeroshot import text_subject
from skelfew.fewshot import Classifier, build_classifier, pooled_beside
from skelfew.fewshot.trained import bind
from skelfew.io.files import Document
from skelfew.io.paths import below
from skelfew.reproduce.units import Unit
from skelfew.runs.folder import Run, environment
from skelfew.training.run import resume, train

_PATIENCE = 3.0  # seconds to wait for another process that does the same unit
_LARGE = ("*.safetensors", "features")


class Busy(Exception):
    """Another process is doing this unit."""


def do(unit: Unit, folder: Path, keep: bool = False) -> Document:
    """Run a unit to its end and return its record; ``keep`` leaves weights and features in its
    folder.

    Raises SkelfewError: training or scoring went wrong; Busy: another process is at it;
    Interrupted: SIGINT or SIGTERM came, the run's state is saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(below(folder, f".{unit.name}.lock"), timeout=_PATIENCE):
            return _do(unit, folder, keep)
    except Timeout:
        raise Busy(unit.name) from None


def _do(unit: Unit, folder: Path, keep: bool) -> Document:
    began, cpu = time.time(), time.process_time()
    inputs = unit.case.open()
    path = below(folder, unit.name, links=True)
    training: Document = {}
    texts: Subject | None = None
    if unit.config is None:
        form = "aligned" if unit.features == "aligned" else "joints"
        subject = raw_subject(inputs.manifest, inputs.store, form)
    else:
        resumed = (path / "config.json").is_file()
        if resumed:
            resume(path, threads=unit.config.threads)
        else:
            shutil.rmtree(path, ignore_errors=True)  # killed before there was anything in it
            train(unit.config, run_path=path)
        run = Run.open(path)
        subject = run_subject(run, unit.config.inputs, unit.config.device, unit.config.protocol)
        if 0 in unit.shots:
            c = unit.config
            texts = text_subject(run, c.inputs, c.device, c.protocol)
        training = _training(run, resumed)
    scores, about = score(unit, subject, inputs.protocol, texts)
    if unit.config is not None and not keep:
        for pattern in _LARGE:
            for item in path.glob(pattern):
                shutil.rmtree(item) if item.is_dir() else item.unlink()
    machine = environment()
    return {
        "key": unit.key,
        "rows": list(unit.rows),
        "dataset": unit.dataset,
        "protocol": inputs.protocol.name,
        "split": unit.split,
        "seed": unit.seed,
        "classes": unit.classes,
        "scores": scores,
        **about,
        "samples": unit.samples,
        "speed_key": list(unit.speed_key),
        **training,
        "settings": _changed(unit),
        "preset": unit.config.preset if unit.config else None,
        "seconds": round(time.time() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {
            "host": platform.node(),
            "processor": machine["processor"],
            "cores": os.cpu_count(),
            "gpus": machine["gpus"],
            "device": unit.config.device if unit.config else "cpu",
        },
        "versions": machine["versions"],
        "commit": machine["git_commit"],
    }


def _changed(unit: Unit) -> Document | None:
    """Return the changes from the preset, without paths."""
    if unit.config is None:
        return None
    return {
        key: new
        for key, (_, new) in unit.config.changed().items()
        if not key.startswith(("inputs.", "protocol", "device", "threads"))
    }


def _training(run: Run, resumed: bool) -> Document:
    rows = run.rows()
    last = {row["stage"]: row for row in rows}
    seconds: dict[str, float] = {}
    for row in rows:
        seconds[row["stage"]] = seconds.get(row["stage"], 0.0) + row["seconds"]
    return {
        "resumed": resumed,
        "train_seconds": {stage: round(s, 1) for stage, s in seconds.items()},
        "last_epochs": {
            stage: {
                k: row[k]
                for k in ("epoch", "loss", "accuracy", "target_spread", "validation_accuracy")
                if k in row
            }
            for stage, row in last.items()
        },
    }


def score(
    unit: Unit, subject: Subject, protocol: Protocol, texts: Subject | None = None
) -> tuple[Document, Document]:
    """Return {classes: {shots: {classifier: {mode: accuracy}}}} and what it rests on.

    Novel classes are scored by the protocol's exemplars and by random draws, validation classes by
    random draws; with ``unit.classes`` validation the novel ones are not touched. Zero shots have
    ``TEXTS`` for classifier and mode and are scored on the subject ``texts``.
    """
    scores: Document = {}
    about: Document = {}
    check_unseen(subject, protocol, _plan(unit, unit.classes))
    if unit.classes == "novel":
        scores["novel"] = _scores(unit, subject, texts, protocol, "novel")
        about["chance"] = 1 / len(protocol.novel)
        about["novel_classes"] = len(protocol.novel)
    if protocol.validation and (len(protocol.validation) > 1 or unit.classes == "validation"):
        scores["validation"] = _scores(unit, subject, texts, protocol, "validation")
        about["validation_chance"] = 1 / len(protocol.validation)
    return scores, about


def _plan(unit: Unit, classes: Scored, shots: int = 1) -> EvaluationPlan:
    return EvaluationPlan({}, shots, draws=unit.draws, seed=unit.seed, classes=classes)


def _scores(
    unit: Unit, subject: Subject, texts: Subject | None, protocol: Protocol, which: Scored
) -> Document:
    """Score the ``novel`` or the ``validation`` classes."""
    classes = _plan(unit, which).scored(protocol)
    pooled = class_features(subject, classes)
    scored: dict[str, tuple[Classifier, Features]] = {
        name: (build_classifier(name), pooled) for name in pooled_beside(unit.head)
    }
    if unit.head:
        head = bind(build_classifier(unit.head), subject.head, subject.manifest.name)
        features = (
            pooled if head.reads == "pooled" else class_features(subject, classes, head.reads)
        )
        scored[unit.head] = (head, features)
    modes: list[Mode] = ["draws"]
    if which == "novel" and protocol.has_exemplars:
        modes.append("exemplars")
    table: Document = {}
    for shots in unit.shots:
        cells, plan = table.setdefault(str(shots), {}), _plan(unit, which, shots)
        if shots == 0:
            assert texts is not None
            of_texts = class_features(texts, classes)
            cells[TEXTS] = {
                TEXTS: _numbers(evaluated(texts, of_texts, protocol, None, plan, TEXTS))
            }
            continue
        for name, (classifier, features) in scored.items():
            cells[name] = {
                mode: _numbers(evaluated(subject, features, protocol, classifier, plan, mode))
                for mode in modes
            }
    return table


def _numbers(result: Result) -> dict[str, float | int]:
    return {
        "micro": round(result.micro.value, 6),
        "macro": round(result.macro.value, 6),
        "queries": result.queries,
        "tuned": result.changed,
    }

"""The contents of a run folder, read and checked once: settings, curves, scores, pictures."""

import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skelfew.evaluation.answers import FORMAT, FORMAT_VERSION, UNTRAINED
from skelfew.evaluation.statistics import Estimate
from skelfew.io.budget import ReadBudget, json_bytes
from skelfew.io.files import Document, Values, brief, file_sha256, read_bytes
from skelfew.runs.folder import Run, RunError, read_json

_NEED = "score the run again with skelfew-eval, or remove the file"


@dataclass(frozen=True)
class Score:
    """One row of a result of skelfew-eval, its splits put together.

    Attributes:
        dataset, protocol, mode, shots, classes, classifier: What was scored, and how.
    """

    path: Path
    features: str  # run, ``raw skeletons``, or how many runs are averaged
    dataset: str
    protocol: str
    splits: tuple[str, ...]  # of the protocol; empty if it has none
    mode: str
    shots: int
    classes: str
    classifier: str
    transductive: bool  # whether the classifier looked at the queries first
    micro: Estimate  # share of all queries that were classified correctly
    macro: Estimate
    chance: float
    queries: int  # in one split, draw or episode; of several splits the fewest
    names: Mapping[int, str]
    accuracies: Mapping[int, float]  # of each class, mean over the splits that ask for it
    # Counts by (true class, taken for); None for episodes
    confusion: Mapping[tuple[int, int], int] | None
    # Sample IDs by the same; None where the result does not keep them
    answers: Mapping[tuple[int, int], tuple[str, ...]] | None
    exemplars: Mapping[int, tuple[str, ...]]
    # More of the result: created, command, data, protocol, excluded_queries, teacher_untrained,
    # notes on this score, and the classifier's settings
    document: Values = field(repr=False)

    @property
    def ways(self) -> int:
        """Classes that a query is compared with, its own included."""
        return round(1 / self.chance)

    @property
    def test(self) -> str:
        """Return the settings in a few words."""
        name = {"exemplars": "", "texts": ", texts alone"}.get(self.mode, f", {self.mode}")
        classes = "" if self.classes == "novel" else f", {self.classes} classes"
        if len(self.splits) > 1:
            split = f", {len(self.splits)} splits"
        else:
            split = f", split {self.splits[0]}" if self.splits else ""
        return f"{self.dataset}, {self.ways}-way {self.shots}-shot{name}{split}{classes}"

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for two scores of the same thing, of which the newer one counts."""
        settings = tuple(sorted((k, repr(v)) for k, v in self.document["settings"].items()))
        excluded = tuple(self.document["excluded_queries"])
        return (self.features, self.test, self.protocol, self.splits, excluded, self.classifier,
                settings)  # fmt: skip


@dataclass(frozen=True)
class RunFacts:
    """A run folder."""

    run: Run
    changed: Values  # settings that differ from the preset: dotted name to [preset, run]
    inputs: Values  # manifest, skeletons, protocol and cache with their digests, as written
    sessions: tuple[Values, ...]  # of training: command, machine, versions
    metrics: tuple[Values, ...]
    scores: tuple[Score, ...]  # of this run, and of raw skeletons where they were scored beside it
    pictures: tuple[Path, ...]

    @property
    def shown(self) -> Score | None:
        """The score whose classes and mistakes are looked at.

        One with answers if there is any, with the protocol's exemplars, of few shots, the newest.
        """
        own = [score for score in self.scores if score.features == self.run.name]
        return max(
            own,
            key=lambda s: (
                s.answers is not None,
                s.confusion is not None,
                s.mode == "exemplars",
                s.classes == "novel",
                -s.shots,
                s.document["created"],
            ),
            default=None,
        )


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Return the runs at ``paths``, each a run folder or a folder of them."""
    runs: list[Run] = []
    for path in paths:
        inside = []
        if path.is_dir() and not (path / "config.json").is_file():
            inside = sorted(config.parent for config in path.glob("*/config.json"))
        runs += [Run.open(folder) for folder in inside or [path]]
    return list({run.path.resolve(): run for run in runs}.values())


def read_run(run: Run) -> RunFacts:
    """Read a run folder; raise RunError naming a file that is not as it should be."""
    run.recorded()  # raises if it cannot be read
    changed = read_json(run.path / "config.json").get("changed_from_preset")
    inputs = _optional(run.path / "inputs.json")
    sessions = _optional(run.path / "environment.json").get("sessions", [])
    newest: dict[tuple[Any, ...], Score] = {}
    budget = ReadBudget(run.path, 0, RunError)
    for path in sorted((run.path / "results").glob("*.json")):
        budget.hold(json_bytes(read_bytes(path)), "its results")
        for score in read_scores(path, run):
            before = newest.get(score.key)
            if before is None or before.document["created"] <= score.document["created"]:
                newest[score.key] = score
    found = (p for p in sorted((run.path / "explain").glob("**/*")) if p.is_file())
    return RunFacts(
        run,
        changed if isinstance(changed, dict) else {},
        inputs,
        tuple(s for s in sessions if isinstance(s, dict)) if isinstance(sessions, list) else (),
        tuple(run.rows()),
        tuple(sorted(newest.values(), key=lambda s: (s.test, s.features != run.name))),
        tuple(p for p in found if p.suffix.lower() in (".png", ".svg")),
    )


def _optional(path: Path) -> Document:
    return read_json(path) if path.is_file() else {}


def read_scores(path: Path, run: Run) -> list[Score]:
    """Return the rows of a result file that are about a run, or about raw skeletons.

    A run whose folder was renamed since is known by its encoder.
    """
    document = read_json(path)
    if document.get("format") != FORMAT:
        raise RunError(f"{path}: not a result of skelfew-eval; {_NEED}")
    version = document.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise RunError(
            f"{path}: format version {version!r}, this skelfew reads up to {FORMAT_VERSION}; "
            "upgrade skelfew to read it"
        )
    try:
        subjects = document["subjects"]
        learned = [str(s["name"]) for s in subjects if s["name"] not in UNTRAINED]
        mean = f"{len(learned)} runs"
        called = {**{name: name for name in UNTRAINED}, mean: mean}
        if run.name in learned:
            called[run.name] = run.name
        elif run.finished:
            digest = file_sha256(run.encoder)
            called |= {s["name"]: run.name for s in subjects if s.get("encoder_sha256") == digest}
        means = [row for row in document["rows"] if row["features"] == mean]
        rows = [*document["rows"], *_own(means, set(called) - {*UNTRAINED, mean})]
        return [
            _score(path, document, row, called[row["features"]])
            for row in rows
            if row["features"] in called
        ]
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else brief(error)
        raise RunError(f"{path}: not a whole result of skelfew-eval ({what}); {_NEED}") from None


def _own(rows: Iterable[Values], subjects: Container[str]) -> Iterator[Document]:
    """Return the values of single runs, usually of a split each, behind rows that are means."""
    for row in rows:
        for result in row["results"]:
            if result["subject"] in subjects:
                numbers = {"micro": result["micro"], "macro": result["macro"]}
                yield {**row, **numbers, "features": result["subject"], "results": [result]}


def _score(path: Path, document: Values, row: Values, name: str) -> Score:
    results = row["results"]
    chance = _finite(results[0]["chance"])
    if not 0 < chance <= 1:
        raise ValueError(f"chance is {chance}")
    names: dict[int, str] = {}
    values: dict[int, list[float]] = {}
    exemplars: dict[int, tuple[str, ...]] = {}
    confusion: Counter[tuple[int, int]] | None = Counter()
    answers: dict[tuple[int, int], tuple[str, ...]] | None = {}
    for result in results:
        numbers = [int(entry["class_id"]) for entry in result["classes"]]
        for number, entry in zip(numbers, result["classes"], strict=True):
            names[number] = str(entry["name"])
            if entry["accuracy"] is not None:
                values.setdefault(number, []).append(_finite(entry["accuracy"]))
        for number, ids in result["exemplars"].items():
            exemplars.setdefault(int(number), tuple(map(str, ids)))
        if result["confusion"] is None or confusion is None:
            confusion = None
        else:
            for true, counts in zip(numbers, result["confusion"], strict=True):
                confusion.update({(true, t): int(c) for t, c in zip(numbers, counts, strict=True)})
        cells = result.get("answers")  # absent in results of earlier versions
        if cells is None or answers is None:
            answers = None
            continue
        for one, taken in cells.items():
            for other, ids in taken.items():
                place = int(one), int(other)
                answers[place] = tuple(dict.fromkeys((*answers.get(place, ()), *map(str, ids))))
    return Score(
        path=path,
        features=name,
        dataset=str(document["data"]["dataset"]),
        protocol=str(document["protocol"]["name"]),
        splits=tuple(dict.fromkeys(str(r["split"]) for r in results if r["split"])),
        mode=str(document["mode"]),
        shots=int(document["shots"]),
        classes=str(document["classes"]),
        classifier=str(row["classifier"]),
        transductive=bool(row["transductive"]),
        micro=_estimate(row["micro"]),
        macro=_estimate(row["macro"]),
        chance=chance,
        queries=min(int(result["queries"]) for result in results),
        names=names,
        accuracies={number: sum(v) / len(v) for number, v in values.items()},
        confusion=confusion,
        answers=answers,
        exemplars=exemplars,
        document={
            "created": str(document["created"]),
            "command": document.get("command"),
            "data": dict(document["data"]),
            "protocol": dict(document["protocol"]),
            "excluded_queries": [str(name) for name in document.get("excluded_queries", [])],
            "teacher_untrained": document.get("teacher_untrained"),
            "notes": _notes(document, row),
            "settings": dict(row["settings"]),
        },
    )


def _notes(document: Values, row: Values) -> list[str]:
    """Return what a result notes on this row: on all of it, on its subjects, on its classifier."""
    others = {str(other["classifier"]) for other in document["rows"]} - {str(row["classifier"])}
    about = {result["subject"] for result in row["results"]}
    own: set[str] = set()
    foreign: set[str] = set()
    for subject in document["subjects"]:
        (own if subject["name"] in about else foreign).update(map(str, subject.get("notes", ())))
    notes = dict.fromkeys(str(note) for note in document.get("notes", []))
    return [
        note
        for note in notes
        if (note in own or note not in foreign)
        and not any(note.startswith(f"{name} is transductive:") for name in others)
    ]


def _estimate(values: Values) -> Estimate:
    low, high = (None if values[k] is None else _finite(values[k]) for k in ("low", "high"))
    return Estimate(_finite(values["value"]), low, high, str(values["of"]), int(values["count"]))


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no accuracy")
    return number

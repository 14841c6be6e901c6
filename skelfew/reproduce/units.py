"""Requests, units of work, and the rows that they serve."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from skelfew.config import InputConfig, TrainConfig
from skelfew.evaluation.answers import Scored
from skelfew.io.files import Document
from skelfew.reproduce.rows import FileRule, Row, Table

if TYPE_CHECKING:
    from skelfew.runs.inputs import Inputs


@dataclass(frozen=True)
class RunPlace:
    """On what a row is run: data, protocol, split and seed; attributes as of ``TrainConfig``."""

    inputs: InputConfig
    protocol: str | None = None
    split: str | None = None
    train_on_validation: bool = False
    seed: int = 0

    def open(self) -> "Inputs":
        """Open data, protocol and caches."""
        from skelfew.runs.inputs import find_inputs

        return find_inputs(self.inputs, self.protocol, self.split, not self.train_on_validation)


@dataclass(frozen=True)
class Unit:
    """One training and its scores; several rows may read from it.

    Attributes:
        key: Digest of everything that determines the numbers.
        rows: Keys of the rows, first the one that names the folder.
        classifiers: By which each of them is scored.
        split: Name of the split, "" if the protocol has one only.
        config: What is trained, resolved; None for raw skeletons.
        case: Where data, protocol and cache are.
        classes: ``novel`` or ``validation``: which classes are scored.
        shots: K, all scored; 0 by class texts.
        samples: Clips that each stage passes through the encoder.
        head: Head that is scored besides ``skelfew.fewshot.CLASSIFIERS``, "" for none.
        features: ``encoder``, or what is scored without one: ``raw`` or ``aligned`` skeletons.
    """

    key: str
    rows: tuple[str, ...]
    classifiers: tuple[str, ...]
    dataset: str
    split: str
    seed: int
    config: TrainConfig | None
    case: RunPlace
    classes: Scored
    shots: tuple[int, ...]
    draws: int
    samples: dict[str, int] = field(default_factory=dict)
    head: str = ""
    features: str = "encoder"

    def beside(self, first: "Unit | None") -> "Unit":
        """Return this unit; where an equal one came before, that one for the rows of both."""
        if first is None:
            return self
        rows, classifiers = first.rows + self.rows, first.classifiers + self.classifiers
        return replace(first, rows=rows, classifiers=classifiers)

    @property
    def name(self) -> str:
        """Name of its folder; the key is left out if it is of an outline."""
        unit = f"split{self.split}" if self.split else f"seed{self.seed}"
        key = "" if self.key.startswith("~") else f"-{self.key[:8]}"
        return f"{self.rows[0]}-{self.dataset}-{unit}{key}"

    @property
    def unit(self) -> str:
        """Name of its seed or split: ``seed 3`` or ``split 3``."""
        return f"split {self.split}" if self.split else f"seed {self.seed}"

    @property
    def speed_key(self) -> tuple[object, ...]:
        """The settings on which the time of a clip depends."""
        c = self.config
        if c is None:
            return ()
        head = () if c.episodic.head == "cosine" else (c.episodic.head,)
        own = (value for value in c.encoder.own.values() if value is not None)
        return (c.encoder.name, c.encoder.width, c.data.frames, *c.stages, *head, *own)

    @property
    def total(self) -> int:
        """All clips that training passes through the encoder."""
        return sum(self.samples.values())


@dataclass(frozen=True)
class Request:
    """Table, rows, data and budget to be run.

    Attributes:
        name: How the user named it, a file perhaps.
        budget: Name of one of the table's budgets.
        rows: Keys; empty for all.
        count: Number of seeds or splits; None for the table's seeds, or all splits.
        classes: ``novel`` or ``validation``.
        caches: Paths by cache key, where they are not the table's.
        inits: Likewise of weights to start from.
        settings: Overrides of all rows, e.g. from the command line.
        device: See ``TrainConfig``.
    """

    table: Table
    name: str
    dataset: str
    budget: str
    rows: tuple[str, ...] = ()
    count: int | None = None
    classes: Scored = "novel"
    caches: dict[str, str] = field(default_factory=dict)
    inits: dict[str, str] = field(default_factory=dict)
    settings: Document = field(default_factory=dict)
    device: str = "auto"
    threads: int = 1

    def cache_places(self, row: Row) -> list[str]:
        """Return where the caches of a row are looked for."""
        return [self._place(key, self.table.caches, self.caches) for key in row.caches]

    def init_place(self, row: Row) -> str | None:
        """Return where the weights that a row starts from are looked for, None for random ones."""
        return self._place(row.init, self.table.inits, self.inits) if row.init else None

    def _place(self, key: str, rules: Mapping[str, FileRule], given: Mapping[str, str]) -> str:
        return given.get(key) or rules[key].path.format(dataset=self.dataset)

    def wanted(self) -> list[Row]:
        """Return the rows asked for, those that cannot run among them."""
        rows = self.table.rows_for(self.dataset)
        if not self.rows:
            return rows
        keys = {self.table.row(key).key for key in self.rows}
        return [row for row in rows if row.key in keys]


@dataclass(frozen=True)
class Work:
    """The units of a request.

    Attributes:
        units: To be run, in this order.
        by_row: Keys of the units of each row, in the order of seeds or splits.
        absent: Why a row does not run, by row key.
        over: ``seeds`` or ``splits``.
    """

    units: list[Unit]
    by_row: dict[str, list[str]]
    absent: dict[str, str]
    over: str
    protocol: str
    count: int

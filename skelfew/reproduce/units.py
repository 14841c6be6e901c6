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
    """One training and its scores; several rows may read from it."""

    key: str  # digest of everything that determines the numbers
    rows: tuple[str, ...]  # keys of the rows, first the one that names the folder
    classifiers: tuple[str, ...]  # by which each of them is scored
    dataset: str
    split: str  # name of the split, "" if the protocol has one only
    seed: int
    config: TrainConfig | None  # what is trained, resolved; None for raw skeletons
    case: RunPlace  # where data, protocol and cache are
    classes: Scored  # ``novel`` or ``validation``: which classes are scored
    shots: tuple[int, ...]  # K, all scored; 0 by class texts
    draws: int
    # Clips that each stage passes through the encoder
    samples: dict[str, int] = field(default_factory=dict)
    head: str = ""  # head that is scored besides ``skelfew.fewshot.CLASSIFIERS``, "" for none
    # ``encoder``, or what is scored without one: ``raw`` or ``aligned`` skeletons
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
    """Table, rows, data and budget to be run."""

    table: Table
    name: str  # how the user named it, a file perhaps
    dataset: str
    budget: str  # name of one of the table's budgets
    rows: tuple[str, ...] = ()  # keys; empty for all
    count: int | None = None  # number of seeds or splits; None for the table's seeds, or all splits
    classes: Scored = "novel"  # ``novel`` or ``validation``
    # Paths by cache key, where they are not the table's
    caches: dict[str, str] = field(default_factory=dict)
    inits: dict[str, str] = field(default_factory=dict)  # likewise of weights to start from
    # Overrides of all rows, e.g. from the command line.
    settings: Document = field(default_factory=dict)
    device: str = "auto"  # see ``TrainConfig``
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
    """The units of a request."""

    units: list[Unit]  # to be run, in this order
    by_row: dict[str, list[str]]  # keys of the units of each row, in the order of seeds or splits
    absent: dict[str, str]  # why a row does not run, by row key
    over: str  # ``seeds`` or ``splits``
    protocol: str
    count: int

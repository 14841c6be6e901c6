"""A table of runs as data: its rows, budgets and files. Standard library only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from skelfew.config import learns_from_teacher
from skelfew.errors import SkelfewError
from skelfew.io.files import Values
from skelfew.reproduce.quotes import PaperNumber
from skelfew.training.stages import STAGES

RAW_KEY = "raw"
# Settings that change where or how fast something is computed, but not what.
NO_MATTER = (
    "inputs.", "protocol", "device", "threads", "compile", "checkpoint_minutes", "preset",
)  # fmt: skip


class TableError(SkelfewError):
    """A table that does not exist or whose file does not hold; the message names it."""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    key: str  # short name, unique in the table
    label: str
    stages: tuple[str, ...] = ()  # of training; empty where nothing is trained
    # Keys of ``Table.caches``, joined by sample ID where there are several
    caches: tuple[str, ...] = ()
    # Key of ``Table.inits``: weights that the encoder starts from; "" for random ones
    init: str = ""
    shots: tuple[int, ...] = ()  # K; empty for the table's
    settings: Values = field(default_factory=dict)
    share: Mapping[str, float] = field(default_factory=dict)  # weight of each stage in the budget
    preset: str | None = None  # preset that the settings start from; None for the table's
    # By which the row is scored; a key of ``skelfew.fewshot.CLASSIFIERS`` or, mostly with
    # ``episodic.head`` set to it, of ``HEADS``
    classifier: str = "cosine"
    # Numbers of the paper, by data set and shots
    quoted: Mapping[str, Mapping[str, PaperNumber]] = field(default_factory=dict)
    missing: str = ""  # why the row cannot run at all, "" if it can
    datasets: tuple[str, ...] = ()  # data sets that it is for; empty for all of the table
    # ``encoder``, or without any training ``aligned`` or ``raw`` joint positions
    features: str = "encoder"
    # Whether the table names the classifier; others follow the budget, see ``Table.at``
    fixed: bool = True

    @property
    def knows_texts(self) -> bool:
        """Whether training leaves a way from skeletons to class texts, which 0 shots need."""
        maps = bool(self.caches) and "classify" in self.stages  # beside what labels train
        return maps or any(learns_from_teacher(stage) for stage in self.stages)


@dataclass(frozen=True)
class Contrast:
    """Two rows to compare, pair by pair: what ``a`` is above ``b``."""

    a: str
    b: str
    says: str = ""


@dataclass(frozen=True)
class Budget:
    """Amount of training."""

    # Clips that every row passes through the encoder, all stages together; None leaves epochs and
    # episodes as preset and settings have them
    samples: int | None = None
    # Preset of its own, for a budget at full size; such a budget takes nothing from the settings
    # that the table's small budgets have in common
    preset: str | None = None
    settings: Values = field(default_factory=dict)  # overrides that belong to the budget
    by_dataset: Mapping[str, int] = field(default_factory=dict)  # ``samples`` of single data sets
    # Weights of stages, where they are not the table's
    share: Mapping[str, float] = field(default_factory=dict)

    def total(self, dataset: str) -> int | None:
        """Return the clips for a data set."""
        return self.by_dataset.get(dataset, self.samples)


@dataclass(frozen=True)
class FileRule:
    """Path of a cache or of initial weights; ``{dataset}`` is filled in."""

    path: str  # the place, unless the command line names another one
    make: str  # the command that puts it there


@dataclass(frozen=True)
class DatasetRule:
    """Settings of a data set in a table."""

    protocol: str | None = None
    validation_protocol: str | None = None
    settings: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table: what is asked, its rows, and what is compared."""

    id: str
    title: str
    question: str
    paper: str  # where the paper has it
    preset: str
    seeds: int  # how many, unless asked otherwise
    shots: tuple[int, ...]  # K, each scored on the same training; 0 only on rows that know texts
    draws: int  # random draws of exemplars beside the protocol's
    common: Values  # settings of all rows in budgets without a preset of their own
    share: Mapping[str, float]  # weights of the stages in the budget, where a row has none
    budgets: Mapping[str, Budget]  # by name; the first is the default
    datasets: Mapping[str, DatasetRule]  # by name; the first is the default
    caches: Mapping[str, FileRule]
    inits: Mapping[str, FileRule]  # weights to start from, by key
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]

    def row(self, key: str) -> Row:
        """Return a row; raise TableError listing what there is."""
        for row in self.rows:
            if row.key == key:
                return row
        raise TableError(f"table {self.id} has no row {key!r}; there are {_few(self.rows)}")

    def rows_for(self, dataset: str) -> list[Row]:
        """Return the rows that are meant for a data set."""
        return [r for r in self.rows if not r.datasets or dataset in r.datasets]

    def shots_of(self, row: Row) -> tuple[int, ...]:
        """Return the shots that a row is scored with."""
        return tuple(k for k in row.shots or self.shots if k > 0 or row.knows_texts)

    def at(self, budget: str) -> "Table":
        """Return the table as a budget has it.

        With the paper's preset, rows that name no classifier are scored by the one that the paper
        fine-tunes, ``cosine-paper``.
        """
        spent = self.budgets.get(budget)
        if spent is None or spent.preset != "paper":
            return self
        rows = (r if r.fixed else replace(r, classifier="cosine-paper") for r in self.rows)
        return replace(self, rows=tuple(rows))

    def budget(self, name: str | None) -> tuple[str, Budget]:
        """Return a budget with its name, the first one for None."""
        name = name or next(iter(self.budgets))
        if name not in self.budgets:
            known = ", ".join(self.budgets)
            raise TableError(f"table {self.id} has no budget {name!r}; there are {known}")
        return name, self.budgets[name]


def idle(stages: Sequence[str]) -> tuple[str, ...]:
    """Return how the names of settings begin that take no part in a run of these stages."""
    return tuple(f"{stage}." for stage in STAGES if stage not in stages)


def _few(rows: Iterable[Row]) -> str:
    return ", ".join(row.key for row in rows)

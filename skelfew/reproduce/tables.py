"""Tables as data: a TOML file each below skelfew/reproduce/tables/. Standard library only.

docs/reproduce.md describes every key.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from skelfew.config import TrainConfig, learns_from_teacher, override, preset
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values, brief, read_text, shown
from skelfew.reproduce.inherit import inherited, repeated
from skelfew.reproduce.quotes import PaperNumber, paper_numbers
from skelfew.training.stages import STAGES

FOLDER = Path(__file__).with_name("tables")
RAW_KEY = "raw"
_TABLE_KEYS = {
    "title", "question", "paper", "preset", "seeds", "shots", "draws", "common", "share",
    "budget", "dataset", "caches", "inits", "rows", "contrasts",
    "like", "class_counts",
}  # fmt: skip
_ROW_KEYS = {
    "key", "label", "stages", "cache", "init", "shots", "set", "share", "preset", "classifier",
    "paper", "quoted", "missing", "base_classes", "samples_per_class", "datasets", "features",
}  # fmt: skip


class TableError(SkelfewError):
    """A table that does not exist or whose file does not hold; the message names it."""


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        key: Short name, unique in the table.
        label: What the printed table says.
        stages: Of training; empty where nothing is trained.
        caches: Keys of ``Table.caches``, joined by sample ID where there are several.
        init: Key of ``Table.inits``: weights that the encoder starts from; "" for random ones.
        shots: K; empty for the table's.
        settings: Overrides by dotted name.
        share: Weight of each stage in the budget.
        preset: Preset that the settings start from; None for the table's.
        classifier: By which the row is scored; a key of ``skelfew.fewshot.CLASSIFIERS`` or, mostly
            with ``episodic.head`` set to it, of ``HEADS``.
        quoted: Numbers of the paper, by data set and shots.
        missing: Why the row cannot run at all, "" if it can.
        datasets: Data sets that it is for; empty for all of the table.
        features: ``encoder``, or without any training ``aligned`` or ``raw`` joint positions.
    """

    key: str
    label: str
    stages: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    init: str = ""
    shots: tuple[int, ...] = ()
    settings: Values = field(default_factory=dict)
    share: Mapping[str, float] = field(default_factory=dict)
    preset: str | None = None
    classifier: str = "cosine"
    quoted: Mapping[str, Mapping[str, PaperNumber]] = field(default_factory=dict)
    missing: str = ""
    datasets: tuple[str, ...] = ()
    features: str = "encoder"

    @property
    def knows_texts(self) -> bool:
        """Whether training leaves a way from skeletons to class texts, which 0 shots need."""
        return any(learns_from_teacher(stage) for stage in self.stages)


@dataclass(frozen=True)
class Contrast:
    """Two rows to compare, pair by pair: what ``a`` is above ``b``."""

    a: str
    b: str
    says: str = ""


@dataclass(frozen=True)
class Budget:
    """Amount of training.

    Attributes:
        samples: Clips that every row passes through the encoder, all stages together; None leaves
            epochs and episodes as preset and settings have them.
        preset: Preset of its own, for a budget at full size; such a budget takes nothing from the
            settings that the table's small budgets have in common.
        settings: Overrides that belong to the budget.
        by_dataset: ``samples`` of single data sets.
        share: Weights of stages, where they are not the table's.
    """

    samples: int | None = None
    preset: str | None = None
    settings: Values = field(default_factory=dict)
    by_dataset: Mapping[str, int] = field(default_factory=dict)
    share: Mapping[str, float] = field(default_factory=dict)

    def total(self, dataset: str) -> int | None:
        """Return the clips for a data set."""
        return self.by_dataset.get(dataset, self.samples)


@dataclass(frozen=True)
class FileRule:
    """Path of a cache or of initial weights; ``{dataset}`` is filled in.

    Attributes:
        path: The place, unless the command line names another one.
        make: The command that puts it there.
    """

    path: str
    make: str


@dataclass(frozen=True)
class DatasetRule:
    """Settings of a data set in a table."""

    protocol: str | None = None
    validation_protocol: str | None = None
    settings: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table: what is asked, its rows, and what is compared.

    Attributes:
        id: Name of the file.
        title: One line.
        question: What the rows answer.
        paper: Where the paper has it.
        preset: That settings start from.
        seeds: How many, unless asked otherwise.
        shots: K, each scored on the same training; 0 only on rows that know texts.
        draws: Random draws of exemplars beside the protocol's.
        common: Settings of all rows in budgets without a preset of their own.
        share: Weights of the stages in the budget, where a row has none.
        budgets: By name; the first is the default.
        datasets: By name; the first is the default.
        caches: By key.
        inits: Weights to start from, by key.
        rows: In the order of printing.
        contrasts: In the order of printing.
    """

    id: str
    title: str
    question: str
    paper: str
    preset: str
    seeds: int
    shots: tuple[int, ...]
    draws: int
    common: Values
    share: Mapping[str, float]
    budgets: Mapping[str, Budget]
    datasets: Mapping[str, DatasetRule]
    caches: Mapping[str, FileRule]
    inits: Mapping[str, FileRule]
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

    def start(self, row: Row, dataset: str, budget: str) -> TrainConfig:
        """Return the settings of a row in a budget; later layers win."""
        spent = self.budgets[budget]
        config = override(preset(row.preset or spent.preset or self.preset), "stages", row.stages)
        for values in (
            {} if spent.preset else self.common,
            self.datasets[dataset].settings,
            spent.settings,
            row.settings,
        ):
            for key, value in values.items():
                config = override(config, key, value)
        return replace(config, encoder=config.encoder.checked(shared=True))

    def budget(self, name: str | None) -> tuple[str, Budget]:
        """Return a budget with its name, the first one for None."""
        name = name or next(iter(self.budgets))
        if name not in self.budgets:
            known = ", ".join(self.budgets)
            raise TableError(f"table {self.id} has no budget {name!r}; there are {known}")
        return name, self.budgets[name]


def list_tables() -> dict[str, Path]:
    """Return the tables that come with the package, in the paper's order: {id: file}."""
    paths = sorted(FOLDER.glob("*.toml"), key=lambda path: table_order(path.stem))
    return {path.stem: path for path in paths}


def table_order(name: str) -> tuple[int, str]:
    """Return what sorts tables as the paper has them: I to XII, figures, then our own."""
    numbers = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]
    return (numbers.index(name) if name in numbers else 12 + (not name.startswith("fig")), name)


def load_table(name: str | Path, dataset: str | None = None, budget: str | None = None) -> Table:
    """Read a table by name or from a .toml file of your own and check all that can be checked.

    First, before anything large is imported, that it has this ``dataset`` and this ``budget``.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = _shipped(str(name))
    document = _read(path)
    try:
        if "like" in document:
            document = inherited(document, _read(_shipped(str(document["like"]))))
        for what, wanted in (("data set", dataset), ("budget", budget)):
            known = document.get(what.replace(" ", ""), {})
            if wanted is not None and wanted not in known:
                raise TableError(
                    f"table {path.stem} has no {what} {shown(wanted)}; there are "
                    f"{', '.join(known) or 'none'}"
                )
        return _table(path, repeated(document))
    except KeyError as error:
        raise TableError(f"{path}: {error.args[0]} is missing") from None
    except SkelfewError:
        raise
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        raise TableError(f"{path}: a value is not of its kind ({brief(error)})") from None


def _shipped(name: str) -> Path:
    known = list_tables()
    if name not in known:
        raise TableError(
            f"no table {name}; there are {', '.join(known)}, or give a .toml file of your own"
        )
    return known[name]


def _read(path: Path) -> Document:
    try:
        return tomllib.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(f"{path}: cannot be read as a table ({brief(error)})") from None


def _table(path: Path, document: Values) -> Table:
    _known(path, "the table", document, _TABLE_KEYS)
    rows = [_row(path, row) for row in document["rows"]]
    if not any(row.features == "raw" for row in rows):
        rows.append(Row(RAW_KEY, "raw skeletons, nothing learned", features="raw"))
    table = Table(
        id=path.stem,
        title=document["title"],
        question=document["question"],
        paper=document.get("paper", ""),
        preset=document.get("preset", "recommended"),
        seeds=int(document.get("seeds", 5)),
        shots=_shots(path, "the table", document.get("shots", [1])),
        draws=int(document.get("draws", 10)),
        common=document.get("common", {}),
        share=document.get("share", {}),
        budgets={k: _budget(path, k, b) for k, b in document["budget"].items()},
        datasets={k: _dataset(path, k, d) for k, d in document["dataset"].items()},
        caches=_files(document.get("caches", {})),
        inits=_files(document.get("inits", {})),
        rows=tuple(rows),
        contrasts=tuple(Contrast(**c) for c in document.get("contrasts", [])),
    )
    keys = [row.key for row in rows]
    if twice := sorted({k for k in keys if keys.count(k) > 1}):
        raise TableError(f"{path}: row {twice[0]!r} is there twice")
    for contrast in table.contrasts:
        table.row(contrast.a), table.row(contrast.b)
    for name, budget in table.budgets.items():
        _check_share(f"{path}: budget {name!r}", budget.share)
    for row in rows:
        _check_row(path, table, row)
    return table


def _row(path: Path, row: Values) -> Row:
    where = f"row {row.get('key', '?')!r}"
    _known(path, where, row, _ROW_KEYS)
    settings = dict(row.get("set", {}))
    for key in ("base_classes", "samples_per_class"):
        if key in row:
            settings[f"data.{key}"] = row[key]
    paper = row.get("paper", "")
    quoted = paper_numbers(path.stem, *([paper] if isinstance(paper, str) else paper))
    for dataset, numbers in row.get("quoted", {}).items():
        quoted[dataset] = {str(k): PaperNumber(float(value)) for k, value in numbers.items()}
    return Row(
        key=row["key"],
        label=row["label"],
        stages=tuple(row.get("stages", ())),
        caches=_names(row.get("cache", "none")),
        init=row.get("init", ""),
        shots=_shots(path, where, row["shots"]) if "shots" in row else (),
        settings=settings,
        share=row.get("share", {}),
        preset=row.get("preset"),
        classifier=row.get("classifier", "cosine"),
        quoted=quoted,
        missing=row.get("missing", ""),
        datasets=tuple(row.get("datasets", ())),
        features=row.get("features", "encoder"),
    )


def _budget(path: Path, name: str, budget: Values) -> Budget:
    _known(path, f"budget {name!r}", budget, {"samples", "preset", "set", "datasets", "share"})
    return Budget(
        budget.get("samples"),
        budget.get("preset"),
        budget.get("set", {}),
        budget.get("datasets", {}),
        budget.get("share", {}),
    )


def _dataset(path: Path, name: str, rule: Values) -> DatasetRule:
    _known(path, f"dataset {name!r}", rule, {"protocol", "validation_protocol", "set"})
    return DatasetRule(rule.get("protocol"), rule.get("validation_protocol"), rule.get("set", {}))


def _files(rules: Mapping[str, Values]) -> dict[str, FileRule]:
    return {key: FileRule(rule["path"], rule["make"]) for key, rule in rules.items()}


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return one name or a list of names as a tuple; none for ``none``."""
    return tuple(name for name in ([given] if isinstance(given, str) else given) if name != "none")


def _shots(path: Path, where: str, given: object) -> tuple[int, ...]:
    if not isinstance(given, list) or not given or any(type(k) is not int or k < 0 for k in given):
        raise TableError(
            f"{path}: {where} has shots = {given}; it takes a list of whole numbers, 0 for texts"
        )
    return tuple(given)


def _check_row(path: Path, table: Table, row: Row) -> None:
    where = f"{path}: row {row.key!r}"
    if not table.shots_of(row) or (0 in row.shots and not row.knows_texts):
        able = ", ".join(stage for stage in STAGES if learns_from_teacher(stage))
        raise TableError(f"{where}: 0 shots need one of the stages {able}")
    if row.missing or row.features != "encoder":
        return
    for what, keys, files in (
        ("cache", row.caches, table.caches),
        ("init", [row.init] if row.init else [], table.inits),
    ):
        if unknown := [key for key in keys if key not in files]:
            known = ", ".join(files) or "none"
            raise TableError(f"{where} wants {what} {unknown[0]!r}; the table has {known}")
    if not row.caches and (needy := [s for s in row.stages if learns_from_teacher(s)]):
        raise TableError(f"{where}: the stage {needy[0]} needs a cache")
    _check_share(where, row.share)
    for budget in table.budgets:
        try:
            table.start(row, next(iter(table.datasets)), budget)
        except SkelfewError as error:
            raise TableError(f"{where}, budget {budget!r}: {error}") from None


def _check_share(where: str, share: Mapping[str, float]) -> None:
    if strange := sorted(set(share) - set(STAGES)):
        raise TableError(f"{where} gives a share to {strange[0]!r}, which is no stage")


def _known(path: Path, where: str, given: Values, known: Iterable[str]) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise TableError(
            f"{path}: {where} has a key {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )


def _few(rows: Iterable[Row]) -> str:
    return ", ".join(row.key for row in rows)

"""Tables as data: a TOML file each below skelfew/reproduce/tables/. Standard library only.

docs/reproduce.md describes every key.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from skelfew.config import learns_from_teacher
from skelfew.errors import SkelfewError
from skelfew.io.files import Document, Values, brief, duplicates, read_toml, shown
from skelfew.reproduce.budget import start
from skelfew.reproduce.inherit import inherited, repeated
from skelfew.reproduce.quotes import PaperNumber, paper_numbers
from skelfew.reproduce.rows import (
    RAW_KEY,
    Budget,
    Contrast,
    DatasetRule,
    FileRule,
    Row,
    Table,
    TableError,
)
from skelfew.training.stages import STAGES

FOLDER = Path(__file__).with_name("tables")
_TABLE_KEYS = {
    "title", "question", "paper", "preset", "seeds", "shots", "draws", "common", "share",
    "budget", "dataset", "caches", "inits", "rows", "contrasts",
    "like", "class_counts",
}  # fmt: skip
_ROW_KEYS = {
    "key", "label", "stages", "cache", "init", "shots", "set", "share", "preset", "classifier",
    "paper", "quoted", "missing", "base_classes", "samples_per_class", "datasets", "features",
}  # fmt: skip


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
        return read_toml(path)
    except (OSError, ValueError) as error:
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
    if twice := duplicates(row.key for row in rows):
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
        fixed="classifier" in row or "metric" in row.get("stages", ()),
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
        raise TableError(f"{where}: 0 shots need one of the stages {able}, or classify and a cache")
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
            config = start(table, row, next(iter(table.datasets)), budget)
            if path.parent != FOLDER:  # a test looks at ours, which takes a while
                config.encoder.checked(shared=True)
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

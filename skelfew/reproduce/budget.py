"""Settings of a row, with epochs and episodes that spend the table's budget."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from skelfew.config import TrainConfig, override, preset
from skelfew.reproduce.rows import NO_MATTER, Row, Table, idle

if TYPE_CHECKING:
    from skelfew.reproduce.units import Request, RunPlace

# What the paper's preset leaves to the data set; frames are those of CTR-GCN's preparation.
_FROM_DATA = ("data.bodies", "data.missing_body", "episodic.ways")
_FRAMES = {"nw-ucla": 52}


def start(table: Table, row: Row, dataset: str, budget: str) -> TrainConfig:
    """Return the settings of a row in a budget; those of its encoder are unchecked."""
    spent = table.budgets[budget]
    config = override(preset(row.preset or spent.preset or table.preset), "stages", row.stages)
    for values in (
        {} if spent.preset else table.common,
        table.datasets[dataset].settings,
        spent.settings,
        row.settings,
    ):
        for key, value in values.items():
            config = override(config, key, value)
    return config


def layered(request: "Request", row: Row, where: "RunPlace") -> TrainConfig:
    """Return the settings of a row; later layers win."""
    config = start(request.table, row, request.dataset, request.budget)
    for key, value in request.settings.items():
        config = override(config, key, value)
    return replace(
        config,
        encoder=config.encoder.checked(shared=True),
        inputs=replace(where.inputs, init=config.inputs.init or where.inputs.init),
        protocol=where.protocol,
        split=where.split,
        seed=where.seed,
        device=request.device,
        threads=request.threads,
    )


def within(
    request: "Request", row: Row, config: TrainConfig, count: int
) -> tuple[TrainConfig, dict[str, int]]:
    """Return the settings with the budget spent on ``count`` base samples, and the clips."""
    budget = request.table.budgets[request.budget]
    if (total := budget.total(request.dataset)) is not None:
        given = {**request.table.share, **budget.share, **row.share}
        config = spend(config, total, count, {s: given.get(s, 1.0) for s in row.stages})
    return config, spent(config, count)


def spend(
    config: TrainConfig, total: int, base_samples: int, share: dict[str, float]
) -> TrainConfig:
    """Return ``config`` with epochs and episodes that pass ``total`` clips through the encoder, in
    all.

    A stage that sees every base sample gets whole epochs, at least one; episodes take what is left,
    so that rows with other stages differ by less than an episode. A stage that makes several views
    of a sample counts each that passes through the encoder that is trained; passes of a slow copy,
    which has no gradient, are not counted.
    """
    left = total
    for stage in (s for s in config.stages if s != "episodic"):
        part = total * share[stage] / sum(share.values())
        clips = base_samples * views(config, stage)
        epochs = max(1, round(part / clips))
        config = override(config, f"{stage}.epochs", epochs)
        if stage == "classify":
            config = override(config, "classify.clips", 1)
        left -= epochs * clips
    if "episodic" in config.stages:
        config = override(config, "episodic.episodes", max(1, round(left / _episode(config))))
    return config


def spent(config: TrainConfig, base_samples: int) -> dict[str, int]:
    """Return the clips that each stage passes through the encoder."""
    return {
        stage: config.episodic.episodes * _episode(config)
        if stage == "episodic"
        else _passes(config, stage, base_samples) * base_samples * views(config, stage)
        for stage in config.stages
    }


def _passes(config: TrainConfig, stage: str, base_samples: int) -> int:
    if stage == "classify":
        return config.classify.passes(base_samples)
    return int(getattr(config, stage).epochs)


def views(config: TrainConfig, stage: str) -> int:
    """Return how many clips a stage makes of a sample."""
    return int(getattr(getattr(config, stage), "views", 1))


def _episode(config: TrainConfig) -> int:
    assert config.episodic.ways is not None
    return config.episodic.ways * (config.episodic.shots + config.episodic.queries)


def trained_alike(
    config: TrainConfig, dataset: str, classifier: str, table: Table, row: Row
) -> bool:
    """Whether a run has the encoder, preset and settings of a row in the paper's own budget.

    Settings of stages and encoders that take no part are not compared, nor those that the paper's
    preset leaves to the data set.
    """
    if "paper" not in table.budgets or tuple(row.stages) != tuple(config.stages):
        return False
    if len({r.classifier for r in table.rows}) > 1 and row.classifier != classifier:
        return False
    # Rows of ours, which quote nothing, may have other teachers.
    if len({r.caches for r in table.rows if r.caches and r.quoted}) > 1:
        places = [table.caches[key].path.format(dataset=dataset) for key in row.caches]
        used = [config.inputs.cache, *config.inputs.more_caches] if config.inputs.cache else []
        if [Path(place).stem for place in places] != [Path(place or "").stem for place in used]:
            return False
    wanted = start(table, row, dataset, "paper")
    if wanted.encoder.name != config.encoder.name:
        return False
    if config.encoder.own:
        wanted = replace(wanted, encoder=wanted.encoder.checked(shared=True))
    theirs, ours = wanted.flat(), config.flat()
    theirs["data.frames"] = theirs["data.frames"] or _FRAMES.get(dataset, 64)
    if theirs.get("transfer.representation") == "auto":
        theirs["transfer.representation"] = "f_v+f_t"
    ignored = (*NO_MATTER, *idle(config.stages), "seed", "split", *_FROM_DATA)
    return config.preset == theirs["preset"] and all(
        ours[key] == value for key, value in theirs.items() if not key.startswith(ignored)
    )

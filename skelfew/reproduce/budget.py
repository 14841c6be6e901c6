"""Settings of a row, with epochs and episodes that spend the table's budget."""

from dataclasses import replace

from skelfew.config import TrainConfig, override
from skelfew.reproduce.rows import Row
from skelfew.reproduce.units import Request, RunPlace
from skelfew.runs.inputs import Inputs
from skelfew.training.resolve import resolve


def layered(request: Request, row: Row, where: RunPlace) -> TrainConfig:
    """Return the settings of a row; later layers win."""
    config = request.table.start(row, request.dataset, request.budget)
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


def within_budget(
    request: Request, row: Row, config: TrainConfig, inputs: Inputs
) -> tuple[TrainConfig, dict[str, int]]:
    """Return the settings resolved, with the budget spent, and the clips of each stage."""
    resolved = resolve(config, inputs)
    config = resolved.config
    if config.data.base_classes == len(inputs.protocol.base):
        config = override(config, "data.base_classes", None)  # all: the same unit as without
    failed = set(inputs.cache.failed) if inputs.cache is not None else set()
    count = sum(i not in failed for i in resolved.samples)
    budget = request.table.budgets[request.budget]
    total = budget.total(request.dataset)
    if total is not None:
        given = {**request.table.share, **budget.share, **row.share}
        share = {stage: given.get(stage, 1.0) for stage in row.stages}
        config = spend(config, total, count, share)
    return config, spent(config, count)


def spend(
    config: TrainConfig, total: int, base_samples: int, share: dict[str, float]
) -> TrainConfig:
    """Return ``config`` with epochs and episodes that pass ``total`` clips through the encoder.

    A stage that sees every base sample gets whole epochs, at least one; episodes take what is
    left, so that rows with other stages differ by less than an episode.

    A stage that makes several views of a sample counts each that passes through the encoder that
    is trained; passes of a slow copy, which has no gradient, are not counted.

    Args:
        config: Resolved.
        total: Clips, all stages together.
        base_samples: Clips of an epoch.
        share: Weight of each stage.
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

"""Cost of a clip on this machine: a few steps of a unit's own training."""

import contextlib
import os
import tempfile
from pathlib import Path

from skelfew.config import override
from skelfew.reproduce.budget import views
from skelfew.reproduce.units import Unit
from skelfew.runs.folder import Run
from skelfew.training.run import train

_EPISODES = 4


def seconds_of(unit: Unit) -> float:
    """Return the seconds that the training of a unit takes, from two short epochs of each stage.

    The second epoch of each counts, so that what happens once does not; scoring is left out.
    """
    if unit.config is None:
        return 0.0
    config = unit.config
    each = config.episodic.shots + config.episodic.queries
    config = override(config, "data.samples_per_class", each)
    for stage in config.stages:
        if stage == "episodic":
            config = override(config, "episodic.episodes", 2 * _EPISODES)
            config = override(config, "episodic.epoch_episodes", _EPISODES)
        else:
            config = override(config, f"{stage}.epochs", 2)
            config = override(config, f"{stage}.optimizer.warmup", 0.0)
            if hasattr(getattr(config, stage), "collapse"):
                config = override(config, f"{stage}.collapse", 0.0)
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w", encoding="utf-8") as quiet,
        contextlib.redirect_stderr(quiet),
    ):
        path = train(config, run_path=Path(folder) / "run")
        last = {row["stage"]: row for row in Run.open(path).rows()}
    return sum(
        clips / views(config, stage) * last[stage]["seconds"] / last[stage]["samples"]
        for stage, clips in unit.samples.items()
    )

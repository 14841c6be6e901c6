"""Pre-training strategies beside the transfer: their losses, and runs on a small world."""

import importlib
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_runs import assert_same_weights, config, numbers
from small_world import BASE, DIM

from skelfew.config import ConfigError, TrainConfig, learns_from_teacher, override
from skelfew.encoders.checkpoints import read_metadata
from skelfew.errors import SkelfewError
from skelfew.reproduce.budget import spend, spent
from skelfew.reproduce.tables import TableError, load_table
from skelfew.runs.folder import Run
from skelfew.training.data import TrainingData
from skelfew.training.loop import Interrupted, NotFiniteError, StageLoop, StopRequest
from skelfew.training.resolve import open_inputs, resolve
from skelfew.training.run import make_stage, prepare, resume, train
from skelfew.training.stages import STAGES
from skelfew.training.stages.byol import CrossModalBYOL, byol_loss
from skelfew.training.stages.collapse import CollapseError
from skelfew.training.stages.direct import Direct, regression_loss
from skelfew.training.stages.mixed import Mixed

# Stages of this file: made small, as SMALL of test_training makes the others.
SMALL: dict[str, dict[str, Any]] = {
    "direct": {"hidden_dim": 32},
    "infonce": {"hidden_dim": 32},
    "mixed": {"hidden_dim": 32, "projection_dim": 16},
    "skeleton_byol": {"hidden_dim": 32, "projection_dim": 16},
    "aimclr": {"projection_dim": 16, "queue": 32},
}


def small(cache: Path, stage: str, **changes: Any) -> TrainConfig:
    """``changes`` are settings of the stage."""
    settings = {"epochs": 2, "batch": 8, **SMALL[stage], **changes}
    # The encoder with fewer operations, and three batches an epoch.
    built = config(cache, stages=stage, encoder__name="agcn", data__samples_per_class=6)
    for key, value in settings.items():
        built = override(built, f"{stage}.{key.replace('__', '.')}", value)
    return built


def started(settings: TrainConfig) -> tuple[Any, TrainingData]:
    """Return the run's first stage and its data."""
    resolved = resolve(override(settings, "device", "cpu"), open_inputs(settings))
    stage: Any = make_stage(settings.stages[0], resolved, prepare(resolved))
    return stage, stage.data


# Losses


def test_regression_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(6, 5, generator=draw) for _ in range(2))
    torch.testing.assert_close(
        regression_loss(a, b, "cosine"), 2 - 2 * F.cosine_similarity(a, b, dim=-1)
    )
    torch.testing.assert_close(regression_loss(3 * a, b, "cosine"), regression_loss(a, b, "cosine"))
    torch.testing.assert_close(regression_loss(a, b, "l2"), torch.cdist(a, b).diagonal() ** 2)


@pytest.mark.parametrize("head", ["mlp", "linear"])
@pytest.mark.parametrize("loss", ["cosine", "l2"])
def test_direct_predicts_the_feature_of_the_sample(world: Path, head: str, loss: str) -> None:
    stage, data = started(small(world, "direct", head=head, loss=loss, representation="f_v"))
    assert isinstance(stage, Direct)
    batch = stage.draw(0, 0)
    assert data.targets is not None
    assert torch.equal(batch.targets, data.targets[batch.rows, 0])
    stage.module.eval()
    step = stage.forward(batch)
    prediction = stage.module(batch.skeletons)
    assert prediction.shape == (len(batch.rows), DIM)
    torch.testing.assert_close(
        step.loss, regression_loss(prediction, batch.targets, loss).mean(), rtol=1e-5, atol=1e-6
    )
    step.loss.backward()
    assert all(p.grad is not None for p in stage.module.parameters())


def test_mixed_is_the_mean_of_both_losses(world: Path) -> None:
    stage, data = started(small(world, "mixed", decay=0.5))
    assert isinstance(stage, Mixed)
    assert isinstance(stage.module, CrossModalBYOL)
    batch = stage.draw(0, 0)
    stage.module.eval()
    step = stage.forward(batch)
    features = stage.encoder(batch.skeletons)
    transfer = byol_loss(*stage.module(batch.skeletons, batch.targets)).mean()
    entropy = F.cross_entropy(stage.classifier(features), data.labels[batch.rows])
    torch.testing.assert_close(step.loss, (transfer + entropy) / 2, rtol=1e-5, atol=1e-6)
    assert stage.classifier.out_features == len(BASE)
    # The classifier is in the checkpoint and learns; the target follows the online projector.
    assert "classifier.weight" in stage.module.state_dict()
    step.loss.backward()
    assert stage.classifier.weight.grad.abs().sum() > 0
    before = stage.module.target_projector[0].weight.clone()
    with torch.no_grad():
        stage.module.projector[0].weight.add_(1)
    stage.after_step()
    torch.testing.assert_close(stage.module.target_projector[0].weight, before + 0.5)


@pytest.mark.parametrize(("weight", "idle"), [(1.0, "classifier"), (0.0, "predictor")])
def test_mixed_at_its_ends(world: Path, weight: float, idle: str) -> None:
    stage, _ = started(small(world, "mixed", weight=weight))
    stage.forward(stage.draw(0, 0)).loss.backward()
    grads = [p.grad for p in getattr(stage.module, idle).parameters()]
    assert all(g is None or not g.any() for g in grads)
    with pytest.raises(ConfigError, match=r"weight is 1\.5"):
        small(world, "mixed", weight=1.5)


# Runs


@pytest.mark.parametrize("stage", SMALL)
def test_a_run_learns_and_goes_on_after_any_step(world: Path, tmp_path: Path, stage: str) -> None:
    """A run that is interrupted in the middle of its second epoch ends like one that is not."""
    settings = small(world, stage, optimizer__warmup=0, optimizer__lr=0.01)
    whole = train(settings, tmp_path)
    rows = numbers(whole)
    assert [(row["stage"], row["epoch"]) for row in rows] == [(stage, 1), (stage, 2)]
    if stage != "aimclr":  # whose queue fills with keys that are harder to tell from one's own
        assert rows[1]["loss"] < rows[0]["loss"]
    stopped = tmp_path / "stopped"
    interrupt(settings, stage, after=4, path=stopped)
    assert len(numbers(stopped)) == 1
    resume(stopped)
    assert numbers(stopped) == numbers(whole)
    assert_same_weights(stopped, whole)
    about = read_metadata(whole / "encoder.safetensors")
    assert about["stages"] == [stage]
    assert (about["teacher"] is None) != learns_from_teacher(stage)
    assert about.get("unverified", []) == [stage] * bool(STAGES.load(stage).unverified)
    assert ("UNVERIFIED: a reconstruction" in (whole / "log.txt").read_text()) == (
        bool(STAGES.load(stage).unverified)
    )


def interrupt(settings: TrainConfig, stage: str, after: int, path: Path) -> None:
    """Train until the stage has done ``after`` steps, then ask it to stop by a signal."""
    module, name = STAGES[stage].split(":")
    kind: Any = getattr(importlib.import_module(module), name)

    class Stopped(kind):  # type: ignore[misc]
        done = 0

        def after_step(self) -> None:
            super().after_step()
            Stopped.done += 1
            if Stopped.done == after:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setitem(globals(), "_Stopped", Stopped)
        patch.setitem(STAGES, stage, f"{__name__}:_Stopped")
        train(settings, run_path=path)


@pytest.mark.parametrize("stage", SMALL)
def test_broken_inputs_are_named(world: Path, tmp_path: Path, stage: str) -> None:
    settings = small(world, stage, batch=24)
    built, data = started(settings)
    row, message = 7, f"the skeletons of {data.ids[7]} hold NaN"
    if data.targets is not None:
        data.targets[row] = torch.nan
        message = f"the teacher features of {data.ids[row]} hold NaN"
    else:
        start, frames = int(data.bank._start[row, 0]), int(data.bank.frames[row])
        data.bank._rows[start : start + frames] = torch.nan
    loop = StageLoop(Run(tmp_path), built, 0, StopRequest())
    with pytest.raises(NotFiniteError, match=message):
        loop.run()


@pytest.mark.parametrize("stage", SMALL)
def test_collapse_ends_the_run(world: Path, tmp_path: Path, stage: str) -> None:
    # A threshold above what any spread can reach acts as a collapse.
    with pytest.raises(CollapseError, match=f"{stage} collapsed in epoch 1"):
        train(small(world, stage, collapse=50.0), run_path=tmp_path / "run")
    assert "collapsed" in (tmp_path / "run" / "log.txt").read_text()
    assert not (tmp_path / "run" / "encoder.safetensors").exists()


def test_constant_predictions_are_a_collapse(world: Path, tmp_path: Path) -> None:
    # A rate of next to nothing on a projector of zeros: everybody gets the same prediction.
    settings = small(world, "direct", head="linear", optimizer__lr=1e-12)
    stage, _ = started(settings)
    torch.nn.init.zeros_(stage.module[1].weight)
    (tmp_path / "config.json").write_text("{}")
    loop = StageLoop(Run(tmp_path), stage, 0, StopRequest())
    with pytest.raises(CollapseError, match=r"spread of the predictions is 0\.0000.*--set direct"):
        loop.run()


def test_stages_have_targets_of_their_own(world: Path, tmp_path: Path) -> None:
    """A run may regress to f_v first and then transfer from f_t."""
    first = small(world, "direct", representation="f_v", epochs=1)
    settings = override(override(first, "stages", "direct,transfer"), "transfer.epochs", 1)
    run = train(override(settings, "transfer.representation", "f_t"), tmp_path)
    assert numbers(run)[:1] == numbers(train(first, tmp_path))
    assert read_metadata(run / "encoder.direct.safetensors")["teacher"]["representation"] == "f_v"
    assert read_metadata(run / "encoder.safetensors")["teacher"]["representation"] == "f_t"


def test_both_views_of_a_sample_count_in_a_budget() -> None:
    share = {"skeleton_byol": 1.0, "episodic": 1.0}
    base = override(TrainConfig(), "stages", "skeleton_byol,episodic")
    settings = spend(override(base, "episodic.ways", 2), 2400, 100, share)
    assert settings.skeleton_byol.epochs == 6  # half of 2,400 in twos
    assert spent(settings, 100) == {"skeleton_byol": 1200, "episodic": 1200}


def test_table_vii_has_a_row_for_every_strategy() -> None:
    table = load_table("VII")
    assert [row.key for row in table.rows if row.missing] == []
    # Metric learning belongs to two rows of Table V, cosine softmax to the preset laptop.
    missing = {"metric", "classify"}
    assert {stage for row in table.rows for stage in row.stages} == set(STAGES) - missing


def test_f_v_of_a_cache_without_it_is_refused(world: Path) -> None:
    settings = small(world, "infonce", representation="f_v")
    inputs = open_inputs(settings)
    assert inputs.cache is not None
    text_only = replace(inputs, cache=replace(inputs.cache, video=None))
    with pytest.raises(SkelfewError, match=r"no representation f_v, .* there is f_t"):
        resolve(settings, text_only)
    auto = resolve(override(settings, "infonce.representation", "auto"), text_only)
    assert auto.config.infonce.representation == "f_t"


# Bad input


@pytest.mark.parametrize("stage", [s for s in SMALL if learns_from_teacher(s)])
def test_a_cache_is_needed(world: Path, stage: str) -> None:
    root = world.parent.parent
    settings = override(small(world, stage), "inputs.cache", None)
    settings = override(settings, "inputs.manifest", str(root / "manifests" / "tiny.csv"))
    settings = override(settings, "inputs.store", str(root / "data" / "tiny.h5"))
    with pytest.raises(SkelfewError, match=f"the {stage} stage needs a teacher cache"):
        train(settings)
    table = 'title = "x"\nquestion = "x"\n[budget.b]\n[dataset.d]\n[[rows]]\nkey = "r"\n'
    path = world.parent / "needy.toml"
    path.write_text(table + f'label = "r"\nstages = ["{stage}"]\n')
    with pytest.raises(TableError, match=f"the stage {stage} needs a cache"):
        load_table(path)


def test_an_unknown_strategy_lists_what_there_is(world: Path) -> None:
    with pytest.raises(ConfigError, match=f"no stage 'regression'; there are {', '.join(STAGES)}"):
        config(world, stages="regression")

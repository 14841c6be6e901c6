"""Training runs on a small world: what they leave, what they refuse, how they go on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import assert_same_weights, config, numbers
from small_world import BASE, NOVEL, VALIDATION, make_world

from skelfew.config import TrainConfig, override
from skelfew.data.input.pipeline import Pipeline
from skelfew.encoders.checkpoints import load_encoder, read_metadata
from skelfew.errors import SkelfewError
from skelfew.fewshot import build_classifier
from skelfew.fewshot.cosine import episode_cosines
from skelfew.runs.folder import Run, newest_run
from skelfew.training.data import NovelClassError, TrainingData, admit, refuse_foreign
from skelfew.training.loop import NotFiniteError, StageLoop, StopRequest
from skelfew.training.resolve import open_inputs
from skelfew.training.run import resume, train
from skelfew.training.stages import STAGES
from skelfew.training.stages.collapse import CollapseError
from skelfew.training.stages.episodic import Episodic
from skelfew.training.stages.transfer import Transfer


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of both stages as they are. Leave it."""
    return train(config(world), tmp_path_factory.mktemp("a") / "runs")


def test_a_run_leaves_what_it_should(run: Path) -> None:
    assert newest_run(run.parent).path == run
    assert run.name.startswith("tiny-20")
    assert {p.name for p in run.iterdir()} == {
        "config.json",
        "environment.json",
        "inputs.json",
        "metrics.jsonl",
        "log.txt",
        "checkpoint.safetensors",
        "bridge.transfer.safetensors",
        "encoder.transfer.safetensors",
        "encoder.episodic.safetensors",
        "encoder.safetensors",
    }
    rows = numbers(run)
    assert [(r["stage"], r["epoch"]) for r in rows] == [
        ("transfer", 1),
        ("transfer", 2),
        ("episodic", 1),
        ("episodic", 2),
    ]
    assert {
        "loss", "lr", "target_spread", "prediction_spread", "target_rank", "theta_norm",
        "validation_accuracy",
    } <= set(rows[0])  # fmt: skip
    resolved = json.loads((run / "config.json").read_text())
    assert resolved["episodic"]["ways"] == len(NOVEL)
    assert resolved["data"] == {
        "frames": 8, "stream": "joint", "missing_body": "duplicate", "bodies": 1,
        "base_classes": None, "samples_per_class": None, "subset_seed": 0,
        "root": "first", "facing": "recorded", "size": "recorded", "kind": None,
    }  # fmt: skip
    inputs = json.loads((run / "inputs.json").read_text())
    assert set(inputs) == {"manifest", "skeletons", "protocol", "cache"}
    assert len(inputs["cache"]["digest"]) == len(inputs["manifest"]["sha256"]) == 64


def test_the_encoder_says_what_it_is(run: Path) -> None:
    about = read_metadata(run / "encoder.safetensors")
    assert (about["dataset"], about["base"], about["novel"]) == ("tiny", list(BASE), list(NOVEL))
    assert about["stages"] == ["transfer", "episodic"]
    assert about["teacher"]["trained"] is False
    assert Pipeline(**about["pipeline"]).length == 8
    assert "UNTRAINED" in (run / "log.txt").read_text()
    first = read_metadata(run / "encoder.transfer.safetensors")
    assert first["stages"] == ["transfer"]


def test_same_seed_same_numbers_other_seed_others(world: Path, tmp_path: Path) -> None:
    runs = [train(config(world, seed=s), tmp_path) for s in (3, 3, 4)]
    assert numbers(runs[0]) == numbers(runs[1]) != numbers(runs[2])
    assert_same_weights(runs[0], runs[1])


# Novel classes


def base_data(settings: TrainConfig) -> TrainingData:
    inputs = open_inputs(settings)
    ids = inputs.manifest.subset(BASE).ids
    return admit(ids, BASE, inputs, Pipeline(length=8), 1, torch.device("cpu"))


def test_ids_of_novel_classes_do_not_pass_the_door(world: Path) -> None:
    inputs = open_inputs(config(world))
    everything = inputs.manifest.ids
    base = inputs.manifest.subset(BASE).ids
    refuse_foreign(inputs.manifest, base, BASE)
    door = (inputs, Pipeline(length=8), 1, torch.device("cpu"))
    assert len(admit(base, BASE, *door)) == len(base)
    for ids, allowed in (
        (everything, BASE),
        ([*base, "c7n3"], BASE),
        (["c8n0"], NOVEL),  # also when somebody says that they are allowed
        (["c5n0"], BASE),
    ):
        with pytest.raises(NovelClassError, match="must not see"):
            admit(ids, allowed, *door)


def test_nothing_of_the_novel_classes_can_change_the_encoder(tmp_path: Path) -> None:
    runs = []
    for name, scale in (("one", 1.0), ("other", -37.0)):
        cache = make_world(tmp_path / name, novel_scale=scale)
        runs.append(train(config(cache, stages="transfer,traditional,episodic"), tmp_path / "runs"))
    assert_same_weights(*runs)
    assert numbers(runs[0]) == numbers(runs[1])


def test_novel_classes_need_not_be_in_the_cache(tmp_path: Path) -> None:
    pending = tuple(f"c{c}n{i}" for c in NOVEL for i in range(10))
    train(config(make_world(tmp_path, pending=pending), stages="transfer"), tmp_path / "runs")


def test_validation_classes_are_held_out_unless_asked_for(world: Path, tmp_path: Path) -> None:
    held_out = train(config(world, stages="episodic"), tmp_path)
    assert read_metadata(held_out / "encoder.safetensors")["base"] == list(BASE)
    asked = train(config(world, stages="episodic", train_on_validation=True), tmp_path)
    assert read_metadata(asked / "encoder.safetensors")["base"] == [*BASE, *VALIDATION]
    assert "validation_accuracy" not in numbers(asked)[0]


def test_an_initial_encoder_that_knows_the_novel_classes_is_refused(
    world: Path, tmp_path: Path
) -> None:
    document = json.loads((world.parent.parent / "manifests/protocols/tiny.json").read_text())
    document |= {"base": [*NOVEL, 3, 4], "novel": [1, 2], "exemplars": {}}
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    wrong = train(config(world, stages="episodic", protocol=str(other)), tmp_path)
    start = {"stages": "episodic", "inputs__init": str(wrong / "encoder.safetensors")}
    with pytest.raises(NovelClassError, match=r"was trained on classes that are novel here, .*7"):
        train(config(world, **start), tmp_path)
    second = train(config(world, protocol=str(other), **start), tmp_path)
    assert read_metadata(second / "encoder.safetensors")["init"] == start["inputs__init"]


# Settings


@pytest.mark.parametrize(
    "width_align", ["pad", "teacher_reduce", "skip_mismatched", "student_adapter", "encoder_512"]
)
def test_width_alignment(tmp_path: Path, world: Path, width_align: str) -> None:
    # The encoder gives 32 features, the teacher 24; a teacher must be wider to be reduced.
    changes = {"transfer__width_align": width_align, "stages": "transfer", "transfer__epochs": 1}
    if width_align == "teacher_reduce":
        with pytest.raises(SkelfewError, match="teacher wider than the encoder"):
            train(config(world, **changes), tmp_path)
        return
    run = train(config(world, **changes), tmp_path)
    dim = load_encoder(run / "encoder.safetensors")[0].feature_dim
    assert dim == (24 if width_align == "encoder_512" else 32)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lars"])
def test_other_optimisers_and_no_predictor(world: Path, tmp_path: Path, optimizer: str) -> None:
    changes = {"transfer__optimizer__name": optimizer, "transfer__predictor": False}
    changes["transfer__epochs"] = 1
    rows = numbers(train(config(world, stages="transfer", **changes), tmp_path))
    assert all(0 <= row["loss"] <= 4 for row in rows)


def test_bfloat16_and_masked_bodies(world: Path, tmp_path: Path) -> None:
    changes = {"precision": "bfloat16", "encoder__body_pool": "masked_mean"}
    changes |= {"data__missing_body": "mask", "data__stream": "bone", "data__bodies": 2}
    run = train(config(world, **changes), tmp_path)
    assert read_metadata(run / "encoder.safetensors")["encoder"]["bodies"] == 2


def test_episodes_share_a_forward_pass(world: Path) -> None:
    settings = config(world, episodic__episodes_per_step=3, episodic__episodes=4)
    settings = override(override(settings, "episodic.epoch_episodes", 4), "episodic.ways", 2)
    data = base_data(settings)

    class Mean(torch.nn.Module):
        feature_dim = 45

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.std(dim=2).flatten(1)

    stage = Episodic(Mean(), data, settings.episodic, seed=0)
    assert [stage.steps(0), stage.samples(0)] == [2, 4 * 2 * 6]
    first, last = stage.draw(0, 0), stage.draw(0, 1)
    assert [len(first.rows), len(last.rows)] == [3 * 2 * 6, 2 * 6]
    # Every query has a support of its own class at the place that its label says.
    support = data.labels[first.rows[: 3 * 2]].view(3, 2)
    query = data.labels[first.rows[3 * 2 :]].view(3, 2, 5)
    assert torch.equal(query, support[..., None].expand(3, 2, 5))
    assert float(stage.forward(first).stats["accuracy"]) > 0.7
    assert torch.equal(stage.draw(0, 0).skeletons, first.skeletons)


@pytest.mark.parametrize("shots", [1, 4])
def test_episode_cosines_are_those_of_the_classifier(shots: int) -> None:
    draw = torch.Generator().manual_seed(0)
    support = torch.randn(6, 3 * shots, 8, generator=draw)
    query = torch.randn(6, 9, 8, generator=draw)
    expected = build_classifier("cosine").scores(support, query, 3).logits / 10
    torch.testing.assert_close(episode_cosines(support, query, 3), expected)


def test_selection_by_validation(world: Path, tmp_path: Path) -> None:
    changes = {"stages": "episodic", "select": "validation", "episodic__episodes": 12}
    changes |= {"episodic__optimizer__lr": 0.5, "episodic__optimizer__schedule": "constant"}
    run = train(config(world, **changes), tmp_path)
    accuracies = [row["validation_accuracy"] for row in numbers(run)]
    best = accuracies.index(max(accuracies)) + 1
    assert f"took epoch {best}, " in (run / "log.txt").read_text()
    # As the rate is constant, a run that ends with that epoch is the same.
    changes |= {"select": "last", "episodic__episodes": 2 * best}
    assert_same_weights(run, train(config(world, **changes), tmp_path))
    with pytest.raises(SkelfewError, match="no validation classes to select by"):
        train(config(world, select="validation", train_on_validation=True), tmp_path)


def test_traditional_learns_the_base_classes(world: Path, tmp_path: Path) -> None:
    changes = {"traditional__epochs": 15, "traditional__optimizer__warmup": 0}
    rows = numbers(train(config(world, stages="traditional", **changes), tmp_path))
    assert rows[0]["accuracy"] < 0.5 < 0.65 < rows[-1]["accuracy"]


# What goes wrong


def test_collapse_ends_the_run(world: Path, tmp_path: Path) -> None:
    # A threshold above the first spread acts as a collapse; test_byol has a real one.
    with pytest.raises(CollapseError, match="epoch 1"):
        train(config(world, transfer__collapse=5.0), run_path=tmp_path / "run")
    assert [row["epoch"] for row in numbers(tmp_path / "run")] == [1]
    assert "collapsed" in (tmp_path / "run" / "log.txt").read_text()
    assert not (tmp_path / "run" / "encoder.safetensors").exists()


def test_divergence_names_the_samples(world: Path, tmp_path: Path) -> None:
    changes = {"traditional__optimizer__lr": 1e30, "traditional__optimizer__warmup": 0}
    with pytest.raises(NotFiniteError, match=r"training diverged: .*samples c\dn\d"):
        train(config(world, stages="traditional", **changes), tmp_path)


def test_broken_targets_are_named(world: Path, tmp_path: Path) -> None:
    settings = config(world)
    data = base_data(settings).with_targets("f_v+f_t", "unit")
    assert data.targets is not None
    data.targets[data.ids.index("c2n7")] = torch.nan

    class Encoder(torch.nn.Linear):
        feature_dim = 24

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.flatten(1))

    encoder: Any = Encoder(3 * 8 * 15, 24)
    stage = Transfer(encoder, data, replace(settings.transfer, batch=40), seed=0)
    loop = StageLoop(Run(tmp_path), stage, 0, StopRequest())
    with pytest.raises(NotFiniteError, match="the teacher features of c2n7 hold NaN"):
        loop.run()


def test_weights_that_are_no_numbers_end_the_run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the last step, which no further loss would tell."""

    class Broken(Transfer):
        def after_step(self) -> None:
            super().after_step()
            with torch.no_grad():
                next(iter(self.encoder.parameters())).fill_(torch.inf)

    monkeypatch.setitem(STAGES, "transfer", f"{__name__}:_Broken")
    monkeypatch.setitem(globals(), "_Broken", Broken)
    once = config(world, stages="transfer", transfer__epochs=1, transfer__batch=40)
    with pytest.raises(NotFiniteError, match=r"weight is not finite after epoch 1.*samples c\dn\d"):
        train(once, run_path=tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_failed_samples_are_left_out_and_pending_ones_are_an_error(tmp_path: Path) -> None:
    cache = make_world(tmp_path / "failed", failed=("c1n0", "c3n4", "c7n0"))
    run = train(config(cache, stages="transfer"), tmp_path)
    assert "2 of 40 base samples are left out" in (run / "log.txt").read_text()
    assert numbers(run)[0]["samples"] == 38
    cache = make_world(tmp_path / "pending", pending=("c2n2",))
    with pytest.raises(SkelfewError, match=r"1 of 40 samples.*c2n2.*skelfew-extract tiny again"):
        train(config(cache, stages="transfer"), tmp_path)


def test_inputs_that_do_not_belong_together(tmp_path: Path) -> None:
    cache = make_world(tmp_path / "one")
    root = tmp_path / "one"
    with pytest.raises(SkelfewError, match="a cache of tiny, but --dataset is ntu60"):
        train(config(cache, inputs__dataset="ntu60"))
    with pytest.raises(SkelfewError, match=r"no manifests/tiny\.csv in .*--manifest.*skelfew-prep"):
        (root / "manifests" / "tiny.csv").rename(root / "moved.csv")
        train(config(cache))
    text = (root / "moved.csv").read_text().replace("action 1", "wave")
    (root / "manifests" / "tiny.csv").write_text(text)
    with pytest.raises(SkelfewError, match=r"[0-9a-f]{64}.*[0-9a-f]{64}.*skelfew-prepare tiny"):
        train(config(cache))
    moved = tmp_path / "two"
    make_world(moved, novel_scale=2.0)
    (root / "moved.csv").rename(root / "manifests" / "tiny.csv")
    run = train(config(cache, stages="transfer", transfer__epochs=1), tmp_path / "runs")
    (run / "encoder.safetensors").unlink()
    (moved / "data" / "tiny.h5").replace(root / "data" / "tiny.h5")
    with pytest.raises(SkelfewError, match="the skeletons has changed since the run began"):
        resume(run)


def test_impossible_episodes_and_devices(world: Path) -> None:
    with pytest.raises(SkelfewError, match="9-way episodes with 6 samples a class"):
        train(config(world, episodic__ways=9))
    with pytest.raises(SkelfewError, match="0 of 4 base classes have 91 samples"):
        train(config(world, episodic__queries=90))
    with pytest.raises(SkelfewError, match="device 'warp' cannot be used"):
        train(config(world, device="warp"))


# Going on


def test_long_work_on_a_processor_names_what_is_faster(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(world, stages="traditional", traditional__batch=8)
    assert "this processor" not in (train(settings, tmp_path) / "log.txt").read_text()
    monkeypatch.setattr("skelfew.training.loop.LONG_HOURS", 0.0)
    log = (train(settings, tmp_path / "long") / "log.txt").read_text()
    assert "note: traditional takes about 0 hours on this processor; --preset laptop" in log

"""Stage metric: the loss of pytorch-metric-learning, its batches, and runs on a small world."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_runs import assert_same_weights, config, numbers
from small_world import BASE
from test_strategies import interrupt, started

from skelfew.config import ConfigError, TrainConfig, override
from skelfew.encoders.checkpoints import read_metadata
from skelfew.errors import SkelfewError
from skelfew.evaluation.subjects import run_subject
from skelfew.runs.folder import Run
from skelfew.training.run import resume, train
from skelfew.training.stages.metric import Metric, grouped, objectives


def small(cache: Path, **changes: Any) -> TrainConfig:
    """SL-DML on a small image; ``changes`` are settings of the stage."""
    built = config(cache, stages="metric", encoder__name="resnet18", data__samples_per_class=6)
    fixed = {"encoder.image_size": 32, "encoder.embedding": 16}
    stage = {"epochs": 2, "batch": 8, "per_class": 2, **changes}
    for key, value in {**fixed, **{f"metric.{k}": v for k, v in stage.items()}}.items():
        built = override(built, key, value)
    return built


def test_the_loss_is_half_triplets_half_classes(world: Path) -> None:
    stage, data = started(small(world, margin=0.3))
    assert isinstance(stage, Metric)
    batch = stage.draw(0, 0)
    stage.module.eval()
    step = stage.forward(batch)
    features, labels = stage.encoder(batch.skeletons), data.labels[batch.rows]
    unit = F.normalize(features, dim=1)
    assert unit.shape[1] == 16
    loss, miner = objectives(small(world, margin=0.3).metric)
    anchor, positive, other, negative = miner(features, labels)
    assert (labels[anchor] == labels[positive]).all() and (labels[other] != labels[negative]).all()
    # Every mined triplet, written out; those within the margin count.
    apart = torch.cdist(unit, unit)
    found = [
        apart[a, p] - apart[a, n] + 0.3
        for a, p in zip(anchor.tolist(), positive.tolist(), strict=True)
        for b, n in zip(other.tolist(), negative.tolist(), strict=True)
        if a == b
    ]
    violated = torch.stack([f for f in found if f > 0])
    torch.testing.assert_close(
        loss(features, labels, (anchor, positive, other, negative)), violated.mean()
    )
    entropy = F.cross_entropy(stage.module(batch.skeletons), labels)
    torch.testing.assert_close(step.loss, (violated.mean() + entropy) / 2, rtol=1e-5, atol=1e-6)
    assert stage.module[1].out_features == len(BASE)
    step.loss.backward()
    assert all(p.grad is not None for p in stage.module.parameters())


def test_batches_hold_several_of_a_class() -> None:
    labels = torch.tensor([c for c, n in enumerate((8, 12, 5, 7)) for _ in range(n)])
    draw = torch.Generator().manual_seed(0)
    order = grouped(labels, 4, draw)
    assert sorted(order.tolist()) == list(range(len(labels)))
    runs = labels[order].tolist()
    lengths, begin = [], 0
    for i in range(1, len(runs) + 1):
        if i == len(runs) or runs[i] != runs[begin]:
            lengths.append((runs[begin], i - begin))
            begin = i
    assert all(n % 4 == 0 for c, n in lengths if c in (0, 1))
    assert sum(n for c, n in lengths if c == 2) == 5 and len(lengths) > 4
    assert not torch.equal(grouped(labels, 4, draw), order)


def test_a_run_learns_and_goes_on(world: Path, tmp_path: Path) -> None:
    settings = small(world, epochs=3)
    whole = train(settings, tmp_path)
    rows = numbers(whole)
    assert [row["samples"] for row in rows] == [6 * len(BASE)] * 3
    assert rows[2]["loss"] < rows[0]["loss"]
    stopped = tmp_path / "stopped"
    interrupt(settings, "metric", after=4, path=stopped)
    resume(stopped)
    assert numbers(stopped) == rows
    assert_same_weights(stopped, whole)
    about = read_metadata(whole / "encoder.safetensors")
    assert about["encoder"]["embedding"] == 16 and about["teacher"] is None
    subject = run_subject(Run.open(whole), settings.inputs, "cpu", settings.protocol)
    assert subject.features(subject.manifest.ids[:3]).shape == (3, 16)


@pytest.mark.parametrize("stages", ["transfer,episodic", "aimclr", "episodic"])
def test_the_image_encoder_runs_in_other_stages(world: Path, tmp_path: Path, stages: str) -> None:
    settings = replace(small(world), stages=tuple(stages.split(",")), select="validation")
    for key, value in {
        "encoder.embedding": None,
        "encoder.image": "skeleton-dml",
        "transfer.epochs": 1,
        "aimclr.epochs": 1,
        "aimclr.batch": 12,
        "aimclr.queue": 16,
        "transfer.width_align": "encoder_512",
        "episodic.head": "protonet",
    }.items():
        settings = override(settings, key, value)
    run = train(settings, tmp_path)
    about = read_metadata(run / "encoder.safetensors")["encoder"]
    assert about["image"] == "skeleton-dml"
    assert about.get("feature_dim") == (24 if stages.startswith("transfer") else None)
    assert all("validation_accuracy" in row for row in numbers(run))


def test_bad_settings(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value, message in (
        ("per_class", 9, r"per_class is 9; it must lie in 2 to the batch, 8"),
        ("triplet_weight", 1.5, r"triplet_weight is 1\.5"),
        ("margin", -1, r"margin is -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            small(world, **{key: value})
    with pytest.raises(ConfigError, match="image is 'photo'; expected sl-dml, skeleton-dml"):
        override(small(world), "encoder.image", "photo").encoder.checked()
    for name in [n for n in sys.modules if n.startswith("pytorch_metric_learning")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    with pytest.raises(SkelfewError, match=r"pip install 'skelfew\[metric\]'"):
        started(small(world))

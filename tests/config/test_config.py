"""Configurations: presets, overriding by dotted name, JSON, and what is refused."""

import json
import subprocess
import sys

import pytest

from skelfew.config import PRESETS, ConfigError, TrainConfig, override, preset
from skelfew.training.stages.episodic import EpisodicConfig


def test_paper_preset_has_the_printed_numbers() -> None:
    paper = preset("paper")
    t = paper.transfer
    assert (t.optimizer.name, t.optimizer.lr, t.optimizer.weight_decay) == ("adam", 0.1, 0.01)
    assert (t.batch, t.epochs, t.decay, t.predictor_lr) == (128, 100, 0.99, 10.0)
    assert (t.hidden_dim, t.projection_dim, t.representation) == (4096, 256, "auto")
    assert not t.output_bias and not paper.skeleton_byol.output_bias
    e = paper.episodic
    assert (e.optimizer.name, e.optimizer.lr, e.optimizer.weight_decay) == ("sgd", 1e-3, 1e-4)
    assert (e.optimizer.schedule, e.scale, e.learn_scale) == ("cosine", 1.0, False)
    assert (paper.encoder.name, paper.data.stream) == ("agcn", "joint")


def test_recommended_is_the_default() -> None:
    assert preset("recommended") == TrainConfig()
    with pytest.raises(ConfigError, match="no preset 'best'; there are recommended, paper"):
        preset("best")


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name: str) -> None:
    config = override(preset(name), "episodic.ways", "7")
    config = override(config, "stages", "traditional,episodic")
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_key_in_json_is_refused() -> None:
    values = TrainConfig().to_dict()
    values["transfer"]["temperature"] = 0.1
    with pytest.raises(ConfigError, match=r"unknown setting 'transfer.temperature'"):
        TrainConfig.from_dict(values)


def test_override_converts_text() -> None:
    config = TrainConfig()
    config = override(config, "transfer.optimizer.lr", "0.02")
    config = override(config, "transfer.predictor", "false")
    config = override(config, "episodic.ways", "none")
    config = override(config, "episodic.episodes", 40)
    config = override(config, "split", "3")
    assert config.transfer.optimizer.lr == 0.02
    assert config.transfer.predictor is False
    assert config.episodic == EpisodicConfig(episodes=40)
    assert config.changed() == {
        "transfer.optimizer.lr": [0.001, 0.02],
        "transfer.predictor": [True, False],
        "episodic.episodes": [10000, 40],
        "split": [None, "3"],
    }


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("transfer", "1", "is a group of settings"),
        ("transfer.epoch", "1", "'epoch' is not one of epochs"),
        ("seed.x", "1", "a single value"),
        ("transfer.epochs", "ten", "expected int"),
        ("transfer.epochs", "0", "greater than 0"),
        ("transfer.epochs", 2.5, "expected int"),
        ("transfer.decay", "1.5", r"must lie in \[0, 1\]"),
        ("transfer.batch", "1", "BatchNorm needs 2"),
        ("transfer.representation", "f_vl", "expected f_v"),
        ("transfer.predictor", "maybe", "expected bool"),
        ("transfer.optimizer.weight_decay", "-1", "must not be negative"),
        ("stages", "transfer,finetune", "no stage 'finetune'"),
        ("stages", "transfer,transfer", "each once"),
    ],
)
def test_override_refuses(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(TrainConfig(), key, value)


def test_epochs_follow_from_episodes() -> None:
    assert EpisodicConfig(episodes=400, epoch_episodes=200).epochs == 2
    assert EpisodicConfig(episodes=401, epoch_episodes=200).epochs == 3


def test_needs_the_standard_library_only() -> None:
    code = (
        "import sys, skelfew.config\n"
        "print(set(sys.modules) & {'torch', 'numpy', 'pandas', 'zarr', 'h5py', 'click'})"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"

"""Preset laptop: cosine softmax on aligned bodies, whitening, and fusion with the matcher."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from evaluation_world import make_data

from skelfew.cli.evaluate import main as evaluate
from skelfew.config import ConfigError, InputConfig, TrainConfig, override, preset
from skelfew.data.input.augment import mirror
from skelfew.data.store import SkeletonStore
from skelfew.encoders import build_encoder
from skelfew.encoders.checkpoints import WeightsError, read_metadata
from skelfew.encoders.features import fused_clips
from skelfew.encoders.temporal import SkeletonTemporal
from skelfew.errors import SkelfewError
from skelfew.fewshot.dtw import DTW
from skelfew.predict.export import Portable
from skelfew.predict.model import Model
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.recordings import Clip
from skelfew.runs.folder import Run
from skelfew.training.resolve import open_inputs, resolve
from skelfew.training.run import prepare, train
from skelfew.training.stages.classify import Classify
from skelfew.training.validation import encoders_share

SMALL = {
    "classify.mirrored": True,
    "classify.clips": 64,
    "classify.epochs": 3,
    "classify.batch": 8,
    "threads": 1,
}


def settings(**changes: object) -> TrainConfig:
    config = replace(
        preset("laptop"), device="cpu", inputs=InputConfig(dataset="tiny"), protocol="tiny"
    )
    for key, value in {**SMALL, **changes}.items():
        config = override(config, key, value)
    return config


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_data(root)
        train(settings(), run_path="runs/one")
    return root


@pytest.fixture(autouse=True)
def there(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)


def test_a_run_trains_whitens_and_is_scored_beside_no_training() -> None:
    run = Run.open("runs/one")
    rows = run.rows()
    assert len(rows) == 4, "16 base samples: 64 clips are 4 passes"
    assert rows[-1]["accuracy"] > rows[0]["accuracy"] and rows[-1]["temperature"] > 0
    about = read_metadata(run.encoder)
    assert about["fusion"] == 0.025 and about["pipeline"]["root"] == "level"
    line = ["--run", "runs/one", "--raw", "--mode", "draws", "--draws", "3", "--json"]
    rows = json.loads(CliRunner().invoke(evaluate, line).stdout)["rows"]
    assert [(r["features"], r["classifier"]) for r in rows] == [
        ("one", "dtw"), ("aligned skeletons", "dtw")
    ]  # fmt: skip
    assert all(row["micro"]["value"] > 0.8 for row in rows)
    again = CliRunner().invoke(evaluate, [*line, "--classifier", "cosine"])
    assert {r["classifier"] for r in json.loads(again.stdout)["rows"]} == {"cosine"}


def test_the_encoders_share_is_what_matching_gets_wrong_on_base_classes() -> None:
    """All right, no better than chance, and a share that is set."""
    config = settings()
    inputs = open_inputs(config)
    data = prepare(resolve(config, inputs)).data
    assert encoders_share(data, inputs.store, 0) == 0.025
    draw = torch.Generator().manual_seed(0)
    shuffled = data.labels[torch.randperm(len(data), generator=draw)]
    wrong = encoders_share(replace(data, labels=shuffled), inputs.store, 0)
    assert 0.25 < wrong <= 0.5 and wrong == encoders_share(
        replace(data, labels=shuffled), inputs.store, 0
    )
    one = replace(data, labels=torch.zeros_like(data.labels))
    assert encoders_share(one, inputs.store, 0) == 0.5, "no episode of one class"
    assert override(config, "fusion", "none").fusion is None
    assert override(config, "fusion", "0.3").fusion == 0.3
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_recognisers_and_graphs_give_what_eval_scores() -> None:
    """The same clips by the run as a model, and by its graph."""
    store = SkeletonStore(Path("data/tiny.h5"))
    clips = {
        f"c{c}": [
            Clip(f"c{c}_s{s}", store[f"c{c}_s{s}"].positions, store.joint_layout, 3)
            for s in range(1, 5)
        ]
        for c in (3, 4, 5)
    }  # fmt: skip
    model, about = Model.from_run("runs/one"), read_metadata(Run.open("runs/one").encoder)
    assert (model.compared_by, model.share) == ("dtw", about["fusion"])
    recogniser = Recogniser.learn({k: v[:2] for k, v in clips.items()}, model)
    portable = Portable(recogniser).eval()
    for name, group in clips.items():
        for clip in group[2:]:
            found = recogniser.similarities(model.features([model.fit(clip)]))[0]
            assert recogniser.predict(clip).nearest == name
            with torch.no_grad():
                _, similar = portable(torch.from_numpy(clip.positions))
            torch.testing.assert_close(similar, found, rtol=1e-4, atol=2e-5)


def test_whitened_features_have_no_scatter_within_classes_beyond_one() -> None:
    encoder = SkeletonTemporal(build_encoder("temporal", "kinect-v1", bodies=1).layout, bodies=1)
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(400)
    mix = torch.randn(128, 128, generator=draw)
    means = 5 * torch.randn(4, 128, generator=draw)
    values = means[labels] + torch.randn(1600, 128, generator=draw) @ mix
    before = values.clone()
    for _ in range(2):  # the second time there is nothing left to do
        encoder.whiten(values, labels, 0.0)
        values = (before - encoder.centre) @ encoder.whitening
        means = torch.stack([values[labels == c].mean(dim=0) for c in range(4)])
        inside = values - means[labels]
        scatter = inside.T @ inside / (1600 - 4)
        torch.testing.assert_close(scatter, torch.eye(128), atol=2e-2, rtol=0)
        torch.testing.assert_close(values.mean(dim=0), torch.zeros(128), atol=1e-2, rtol=0)


def test_sequences_and_maps_pool_to_the_features() -> None:
    encoder = build_encoder("temporal", "coco", channels=2, bodies=2, width=0.25).eval()
    assert isinstance(encoder, SkeletonTemporal)
    encoder.whiten(torch.randn(60, 32), torch.arange(60) % 3, 0.5)
    x = torch.randn(3, 2, 16, 17, 2)
    features = encoder(x)
    assert features.shape == (3, 32)
    torch.testing.assert_close(encoder.forward_sequence(x).mean(dim=(1, 2)), features)
    torch.testing.assert_close(encoder.pool(encoder.forward_features(x), x), features)


def test_branches_are_encoders_side_by_side() -> None:
    both = build_encoder("temporal", "kinect-v1", bodies=1, width=0.25, branches=2).eval()
    alone = build_encoder("temporal", "kinect-v1", bodies=1, width=0.25).eval()
    x, other = torch.randn(2, 3, 3, 16, 20, 1, generator=torch.Generator().manual_seed(0))
    weights = both.state_dict()
    assert both.config["branches"] == 2 and both.feature_dim == 2 * alone.feature_dim == 64
    for i, prefix in enumerate(("", "further.0.")):
        own = {key: weights.get(prefix + key, value) for key, value in alone.state_dict().items()}
        own |= {key: alone.state_dict()[key] for key in ("centre", "whitening")}
        alone.load_state_dict(own)
        half = slice(32 * i, 32 * (i + 1))
        torch.testing.assert_close(both(x, other)[:, half], alone((x, other)[i]))
        torch.testing.assert_close(both(x)[:, half], alone(x))
    assert preset("laptop").encoder.own == {"branches": 2}
    assert override(preset("laptop"), "encoder.name", "agcn").encoder.own == {}
    with pytest.raises(SkelfewError, match="no multiple of 3 branches"):
        build_encoder("temporal", "kinect-v1", feature_dim=64, branches=3)


def test_the_second_branch_classifies_clips_that_are_mirrored_and_reversed() -> None:
    config = settings(**{"classify.mirrored": False, "classify.batch": 16})
    data = prepare(resolve(config, open_inputs(config))).data
    encoder = build_encoder("temporal", data.bank.layout, bodies=data.bank.bodies, branches=2)
    stage = Classify(encoder, data, config.classify, 0)
    batch = stage.draw(0, 0)
    assert batch.targets is not None and set(batch.targets.tolist()) == {0, 1, 2, 3}
    for x, shown, kind in zip(batch.skeletons, batch.views[0], batch.targets, strict=True):
        expected = mirror(x[None], data.bank.layout)[0] if kind >= 2 else x
        torch.testing.assert_close(shown, expected.flip(1) if kind % 2 else expected)
    assert [len(w) for w in (stage.module.weights, *stage.module.further)] == [2, 8]
    assert stage.forward(batch).loss > 0


@pytest.mark.parametrize("width", [9, 3])  # wider than the joints of a frame, and narrower
def test_fused_similarity_is_the_weighted_mean_of_both(width: int) -> None:
    draw = torch.Generator().manual_seed(0)
    pooled = torch.randn(6, width, generator=draw)
    parts = torch.randn(6, 2, 16, 4, generator=draw)
    parts = torch.nn.functional.normalize(parts.flatten(1), dim=1).view(parts.shape)
    cosines = torch.nn.functional.cosine_similarity(pooled[:, None], pooled[None], dim=-1)
    fused = fused_clips(pooled, parts, 0.3)
    assert fused.shape == (6, 3, 16, max(width, 4))
    torch.testing.assert_close(
        DTW().of_pairs(fused), 0.3 * cosines + 0.7 * DTW().of_pairs(parts), rtol=0, atol=2e-6
    )


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    for key, value in (("fusion", 2), ("classify.whiten", -1), ("classify.clips", 0),
                       ("data.root", "no"), ("data.kind", "no")):  # fmt: skip
        with pytest.raises(ConfigError, match=key.split(".")[-1]):
            settings(**{key: value})
    with pytest.raises(SkelfewError, match=r"classify\.whiten is for the encoder temporal"):
        train(settings(**{"encoder.name": "agcn"}), run_path=tmp_path / "run")
    assert preset("paper").fusion == 0 and preset("paper").data.root == "first"
    with pytest.raises(WeightsError, match="fusion in its metadata is 7"):
        from skelfew.encoders.checkpoints import save_encoder

        encoder = build_encoder("temporal", "kinect-v1")
        save_encoder(tmp_path / "e.safetensors", encoder, {"fusion": 7.0})
        Model.from_run(tmp_path / "e.safetensors")

"""2D joints, as pose estimators give them, through preparation, training and evaluation."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from small_world import FAST

from skelfew.cli.evaluate import main as evaluate
from skelfew.cli.prepare import main as prepare
from skelfew.cli.train import main as train
from skelfew.config import InputConfig
from skelfew.encoders import build_encoder
from skelfew.encoders.checkpoints import read_metadata, save_encoder
from skelfew.encoders.features import raw_features
from skelfew.errors import SkelfewError
from skelfew.evaluation.subjects import encoder_subject, find_data

CLASSES, EACH, FRAMES = 6, 6, 12


def annotations() -> list[dict[str, object]]:
    """PYSKL annotations: the body stands, and class decides which limb swings."""
    random = np.random.default_rng(0)
    still = random.uniform(300, 700, (17, 2))
    found = []
    for class_id in range(CLASSES):
        for number in range(EACH):
            keypoint = np.repeat(still[None], FRAMES, axis=0)
            swing = 150 * np.sin(np.arange(FRAMES) / 2 + random.uniform())
            keypoint[:, 2 * class_id + 5] += swing[:, None] * [1, 0.5]
            # Anywhere in the picture, at any distance.
            keypoint = random.uniform(0.3, 1) * keypoint + random.uniform(0, 400, 2)
            keypoint += random.normal(0, 3, keypoint.shape)
            score = random.uniform(0.5, 1, (1, FRAMES, 17))
            found.append(
                {
                    "frame_dir": f"clip_{class_id}_{number}",
                    "label": class_id,
                    "total_frames": FRAMES,
                    "keypoint": keypoint[None].astype(np.float32),
                    "keypoint_score": score.astype(np.float32),
                }
            )
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "anno.pkl").write_bytes(pickle.dumps(annotations()))
    for line in ("pyskl --raw raw --workers 1", "split pyskl --novel 2 --seed 1"):
        result = CliRunner().invoke(prepare, line.split())
        assert result.exit_code == 0, result.output
    return tmp_path


def test_pyskl_keypoints_are_trained_and_evaluated(home: Path) -> None:
    line = ["--dataset=pyskl", "--stages=episodic", "--episodes=4", "--queries=3", "--run=r"]
    result = CliRunner().invoke(train, [*line, *FAST])
    assert result.exit_code == 0, result.output
    about = read_metadata("r/encoder.safetensors")
    assert about["pipeline"]["coordinates"] == 2 and about["encoder"]["channels"] == 3
    line = "--run r --raw joints --mode episodes --ways 2 --queries 5 --episodes 50 --json"
    result = CliRunner().invoke(evaluate, line.split())
    assert result.exit_code == 0, result.output
    rows = {row["features"]: row["micro"]["value"] for row in json.loads(result.stdout)["rows"]}
    assert len(rows) == 2
    manifest, store = find_data(InputConfig(dataset="pyskl"))
    features = raw_features(store, manifest.ids)
    assert features.shape == (36, 2 * 16 * 17), "x and y of one body; not the confidence"
    # The bodies lie anywhere and are of any size: without the scaling this would be chance.
    assert rows["raw skeletons"] > 0.9


def test_what_was_trained_on_others_is_refused(home: Path) -> None:
    manifest, store = find_data(InputConfig(dataset="pyskl"))
    path = home / "e.safetensors"
    save_encoder(path, build_encoder("ctrgcn", "coco", channels=2, bodies=1, width=0.125), {})
    with pytest.raises(SkelfewError, match=r"joints with 2 values, but .*pyskl.h5 has 3 a joint"):
        encoder_subject(path, manifest, store)
    metadata = {"pipeline": {"coordinates": 3}}
    save_encoder(path, build_encoder("ctrgcn", "coco", bodies=1, width=0.125), metadata)
    with pytest.raises(SkelfewError, match=r"an encoder of 3D joints, but .*pyskl.h5 holds 2D"):
        encoder_subject(path, manifest, store)

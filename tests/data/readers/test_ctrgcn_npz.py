from pathlib import Path

import numpy as np
import pytest

from skelfew.data.prepare.walk import Outputs, Prepared, prepare
from skelfew.data.readers import RawFolder
from skelfew.data.readers.ctrgcn_npz import READER
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError


def arrays(count: int = 5, classes: int = 60) -> dict[str, np.ndarray]:
    """Samples of 10, 11, ... frames padded to 300; every third has two bodies."""
    rng = np.random.default_rng(count)
    x = np.zeros((count, 300, 2, 25, 3), np.float32)
    for i in range(count):
        bodies = 2 if i % 3 == 2 else 1
        x[i, : 10 + i, :bodies] = rng.normal(size=(10 + i, bodies, 25, 3))
    y = np.eye(classes)[np.arange(count) * 7 % classes]
    return {"x": x.reshape(count, 300, 150), "y": y}


def write(path: Path, **changes: np.ndarray) -> Path:
    train, test = arrays(70), arrays(4)
    content = {
        "x_train": train["x"], "y_train": train["y"], "x_test": test["x"], "y_test": test["y"]
    }  # fmt: skip
    np.savez(path, **{**content, **changes})
    return path


def run(raw: Path, folder: Path, **options: str) -> Prepared:
    outputs = Outputs(folder / "c.csv", folder / "c.h5")
    return prepare("ctrgcn-npz", RawFolder(raw), outputs, {**READER.defaults, **options})


def test_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    path = write(tmp_path / "raw" / "NTU60_CS.npz")
    prepared = run(path, tmp_path)
    assert run(path.parent, tmp_path).digest == prepared.digest
    assert len(prepared.manifest) == 74 and prepared.dropped == []
    sample = prepared.manifest["test_00002"]
    assert (sample.class_id, sample.label) == (15, "take off jacket")
    with SkeletonStore(prepared.outputs.store) as store:
        for i in range(70):
            positions = store[f"train_{i:05}"].positions
            assert positions.shape == (2 if i % 3 == 2 else 1, 10 + i, 25, 3)
            expected = arrays(70)["x"][i, : 10 + i].reshape(-1, 2, 25, 3).transpose(1, 0, 2, 3)
            np.testing.assert_array_equal(positions, expected[: len(positions)])


def test_a_copied_second_body_is_left_out(tmp_path: Path) -> None:
    x = arrays(70)["x"].reshape(70, 300, 2, 25, 3)
    x[0, :, 1] = x[0, :, 0]
    prepared = run(write(tmp_path / "a.npz", x_train=x.reshape(70, 300, 150)), tmp_path)
    assert prepared.manifest["train_00000"].bodies == 1


def test_labels_as_numbers(tmp_path: Path) -> None:
    labels = arrays(70)["y"].argmax(axis=1)
    prepared = run(write(tmp_path / "a.npz", y_train=labels), tmp_path)
    assert [prepared.manifest[f"train_{i:05}"].class_id for i in (0, 1)] == [1, 8]


def test_a_bad_sample_is_a_dropped_row(tmp_path: Path) -> None:
    x, y = arrays(70)["x"], arrays(70)["y"].argmax(axis=1)
    x[3] = 0
    x[4, 2, 5] = np.nan
    y[5] = 120
    prepared = run(write(tmp_path / "a.npz", x_train=x, y_train=y), tmp_path)
    reasons = {d.sample_id: d.reason for d in prepared.dropped}
    assert reasons["train_00003"] == "all frames are zero"
    assert reasons["train_00004"].startswith("not finite")
    assert "label 120 is out of range" in reasons["train_00005"]
    assert len(reasons) == 3 and len(prepared.manifest) == 71


def test_damage_keeps_what_came_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    at = content.index(b"x_train.npy") + 66 * 300 * 150 * 4
    content[at] ^= 255  # a flipped byte in the last slice: the checksum of the member fails
    path.write_bytes(content)
    prepared = run(path, tmp_path)
    assert prepared.damaged == 1 and "Bad CRC" in prepared.dropped[0].reason
    assert 60 < len(prepared.manifest) < 74


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"x_train": np.zeros((70, 300, 75), np.float32)}, r"x_train has shape \(70, 300, 75\)"),
        ({"y_train": np.zeros(69, int)}, r"x_train has shape \(70, 300, 150\), expected \(69"),
        ({"y_train": np.array([None] * 70)}, "y_train is an array of object"),
        ({"x_train": np.array([[["0"] * 150]] * 70)}, "x_train is an array of <U1"),
    ],
)
def test_wrong_arrays_are_named(
    tmp_path: Path, changes: dict[str, np.ndarray], reason: str
) -> None:
    prepared = run(write(tmp_path / "a.npz", **changes), tmp_path)
    assert len(prepared.manifest) == 4
    (dropped,) = prepared.dropped
    with pytest.raises(SkelfewError, match=reason):
        raise SkelfewError(dropped.reason)


def test_what_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(SkelfewError, match="unreadable npz file"):
        run(tmp_path, tmp_path)
    write(tmp_path / "second.npz")
    with pytest.raises(SkelfewError, match="more than one npz file"):
        run(tmp_path, tmp_path)
    np.savez(tmp_path / "text.npz", x_train=np.zeros((1, 1, 150)))
    with pytest.raises(SkelfewError, match="holds x_train but no y_train"):
        run(tmp_path / "text.npz", tmp_path)

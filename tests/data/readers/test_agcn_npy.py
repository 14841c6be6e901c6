"""Arrays of 2s-AGCN with their pickles of labels."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from skelfew.data.readers import Dropped, RawFolder, Recording, load_reader
from skelfew.errors import SkelfewError

READER = load_reader("agcn-npy")


def write(folder: Path, values: np.ndarray, labels: object) -> RawFolder:
    np.save(folder / "val_data_joint.npy", values)
    (folder / "val_label.pkl").write_bytes(pickle.dumps(labels))
    return RawFolder(folder)


def test_samples_lose_their_padding(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 3, 12, 25, 2)).astype(np.float32)
    values[:, :, 8:] = 0
    values[1, ..., 1] = 0
    values[2] = 0
    names = [f"S001C001P001R001A00{i}.skeleton" for i in (1, 2, 3)]
    raw = write(tmp_path, values, (names, [0, 1, 2]))
    assert READER.detect is not None
    found = READER.detect(READER, raw, READER.defaults)
    assert (getattr(found.layout, "name", ""), found.channels) == ("kinect-v2", 3)
    first, second, third = READER.read(raw, "val_data_joint.npy", READER.defaults)
    assert isinstance(first, Recording) and isinstance(second, Recording)
    assert first.sample.sample_id == names[0].removesuffix(".skeleton")
    assert (first.sample.class_id, first.sample.label) == (1, "drink water")
    np.testing.assert_array_equal(first.skeleton.positions, values[0, :, :8].transpose(3, 1, 2, 0))
    assert second.skeleton.positions.shape == (1, 8, 25, 3)
    assert isinstance(third, Dropped) and "no body" in third.reason


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((["a"], [0, 1]), "1 names and 2 labels for 2 samples"),
        ((["a", "b"], [0, -1]), "whole numbers from 0"),
        ((["a", 1], [0, 1]), "names must be texts"),
        (["a"], "expected"),
        (abs, "it names builtins.abs, which is neither an array nor a plain container"),
    ],
)
def test_bad_labels(tmp_path: Path, labels: object, message: str) -> None:
    raw = write(tmp_path, np.ones((2, 3, 4, 25, 1), np.float32), labels)
    with pytest.raises(SkelfewError, match=message):
        list(READER.read(raw, "val_data_joint.npy", READER.defaults))


def test_an_array_without_labels_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "train_data.npy", np.ones((1, 3, 4, 25, 1)))
    with pytest.raises(SkelfewError, match=r"train_data\.npy has no train_label\.pkl beside it"):
        READER.sources(RawFolder(tmp_path), READER.defaults)

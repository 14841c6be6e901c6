import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skelfew.data.input.pipeline import Pipeline
from skelfew.data.prepare.walk import Outputs, prepare
from skelfew.data.readers import Dropped, RawFolder, Recording
from skelfew.data.readers.ucla import READER, interpolate
from skelfew.data.store import SkeletonStore

NAME = "a08_s09_e04_v02"
CONTENT = {"file_name": NAME, "label": 7, "skeletons": np.ones((3, 20, 3)).tolist()}


def read(folder: Path, content: object, name: str = NAME, **options: str) -> Recording | Dropped:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / f"{name}.json").write_text(text)
    (item,) = READER.read(RawFolder(folder), f"{name}.json", {**READER.defaults, **options})
    return item


def test_a_clip(tmp_path: Path) -> None:
    recording = read(tmp_path, CONTENT)
    assert isinstance(recording, Recording)
    sample = recording.sample
    assert (sample.sample_id, sample.class_id, sample.label) == (NAME, 7, "donning")
    assert (sample.subject, sample.replication, sample.view) == ("9", "4", "2")
    assert sample.video == "" and recording.notes == ()
    assert recording.skeleton.positions.shape == (1, 3, 20, 3)


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        ("{", NAME, "not a skeleton in JSON"),
        ({"label": 7}, NAME, "the key 'skeletons' is missing"),
        ({**CONTENT, "label": 8}, NAME, "label 8 does not fit action a08"),
        (CONTENT, "a07_s01_e01_v01", "label 7 does not fit action a07"),
        (CONTENT, "a08_s01_e01_v01b", "its name is not like"),
        ({**CONTENT, "skeletons": []}, NAME, "not a skeleton in JSON"),
        ({**CONTENT, "skeletons": np.ones((3, 25, 3)).tolist()}, NAME, "shape (3, 25, 3)"),
        ({**CONTENT, "skeletons": [[[1, 2, 3]], [[1, 2]]]}, NAME, "not a skeleton in JSON"),
        ({**CONTENT, "skeletons": [["x"]]}, NAME, "not a skeleton in JSON"),
    ],
)
def test_what_cannot_be_used_is_dropped(
    tmp_path: Path, content: object, name: str, reason: str
) -> None:
    item = read(tmp_path, content, name)
    assert isinstance(item, Dropped) and reason in item.reason


def test_joints_at_zero_are_filled_and_noted(tmp_path: Path) -> None:
    joints = np.ones((5, 20, 3)) * np.arange(1, 6)[:, None, None]
    joints[2, 4] = joints[4, 7] = 0
    recording = read(tmp_path, {**CONTENT, "skeletons": joints.tolist()})
    assert isinstance(recording, Recording)
    assert recording.notes == ("2 joints at (0, 0, 0) in frames [2, 4], interpolated",)
    positions = recording.skeleton.positions[0]
    assert positions[2, 4].tolist() == [3, 3, 3]  # between 2 and 4
    assert positions[4, 7].tolist() == [4, 4, 4]  # the last that was seen

    kept = read(tmp_path, {**CONTENT, "skeletons": joints.tolist()}, zero_joints="keep")
    assert isinstance(kept, Recording)
    np.testing.assert_array_equal(kept.skeleton.positions[0], joints)
    assert kept.notes == ("2 joints at (0, 0, 0) in frames [2, 4]",)


def test_a_joint_that_is_never_seen_stays_unknown() -> None:
    joints = np.ones((4, 20, 3), np.float32)
    joints[:, 3] = 0
    np.testing.assert_array_equal(interpolate(joints, (joints == 0).all(-1)), joints)


def test_all_real_clips_are_read(shared: Path) -> None:
    raw = RawFolder(shared / "data" / "nw-ucla" / "all_sqe.zip")
    names = READER.sources(raw, READER.defaults)
    assert len(names) == 1484
    with zipfile.ZipFile(raw.path) as archive:
        for name in names[::100]:
            (recording,) = READER.read(raw, name, READER.defaults)
            assert isinstance(recording, Recording)
            expected = np.array(json.loads(archive.read(name))["skeletons"], np.float32)
            np.testing.assert_array_equal(recording.skeleton.positions[0], expected)


def test_the_store_keeps_its_preprocessing_whatever_it_is_called(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    read(raw, {**CONTENT, "skeletons": np.random.default_rng(0).normal(size=(3, 20, 3)).tolist()})
    outputs = Outputs(tmp_path / "mine.csv", tmp_path / "mine.h5")
    prepare("nw-ucla", RawFolder(raw), outputs, READER.defaults)
    with SkeletonStore(outputs.store) as store:
        assert Pipeline.for_data(store.preprocessing, "mine") == Pipeline(kind="ucla", length=52)

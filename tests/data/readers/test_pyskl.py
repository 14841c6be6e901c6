import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelfew.data.prepare.walk import Outputs, Prepared, prepare
from skelfew.data.readers import RawFolder
from skelfew.data.readers.pyskl import READER
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError

RNG = np.random.default_rng(0)
NTU = "S001C002P003R002A0{:02}"


def flat(action: int, bodies: int = 1, frames: int = 9) -> dict[str, Any]:
    """A 2D annotation as HRNet's in PYSKL."""
    return {
        "frame_dir": NTU.format(action),
        "label": action - 1,
        "img_shape": (540, 960),
        "original_shape": (1080, 1920),
        "total_frames": frames,
        "keypoint": RNG.uniform(100, 400, (bodies, frames, 17, 2)).astype(np.float16),
        "keypoint_score": RNG.uniform(0.2, 1, (bodies, frames, 17)).astype(np.float16),
    }


def solid(action: int, bodies: int = 1, frames: int = 9) -> dict[str, Any]:
    """A 3D annotation as NTU's in PYSKL."""
    keypoint = RNG.normal(size=(bodies, frames, 25, 3)).astype(np.float32)
    return {
        "frame_dir": NTU.format(action),
        "label": action - 1,
        "total_frames": frames,
        "keypoint": keypoint,
    }


def run(folder: Path, content: object, protocol: int = 4, **options: str) -> Prepared:
    raw = folder / "raw"
    raw.mkdir(exist_ok=True)
    (raw / "anno.pkl").write_bytes(pickle.dumps(content, protocol))
    outputs = Outputs(folder / "p.csv", folder / "p.h5")
    return prepare("pyskl", RawFolder(raw), outputs, {**READER.defaults, **options})


@pytest.mark.parametrize(("least", "lost"), [("auto", 1), ("0.3", 2)])
def test_joints_of_low_confidence(tmp_path: Path, least: str, lost: int) -> None:
    annotation = flat(1)
    annotation["keypoint_score"][...] = 0.9
    annotation["keypoint_score"][0, 2, :2] = 0, 0.2
    with SkeletonStore(run(tmp_path, [annotation], min_confidence=least).outputs.store) as store:
        skeleton = store[NTU.format(1)]
    assert (~skeleton.positions.any(axis=-1)).sum() == lost
    assert np.isnan(skeleton.pixels).all(axis=-1).sum() == lost


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_2d(tmp_path: Path, protocol: int) -> None:
    annotations = [flat(1), flat(2, bodies=2)]
    split = {"xsub_train": [NTU.format(1)], "xsub_val": [NTU.format(2)]}
    prepared = run(tmp_path, {"split": split, "annotations": annotations}, protocol)
    first, second = prepared.manifest.samples
    assert (first.sample_id, first.class_id, first.label) == (NTU.format(1), 1, "drink water")
    assert (first.subject, first.view, first.setup, second.bodies) == ("3", "2", "1", 2)
    with SkeletonStore(prepared.outputs.store) as store:
        assert store.layout == "coco" and store.attrs["units"] == "pixels"
        skeleton = store[NTU.format(2)]
        expected = annotations[1]
        np.testing.assert_array_equal(skeleton.positions[..., :2], expected["keypoint"])
        np.testing.assert_array_equal(skeleton.positions[..., 2], expected["keypoint_score"])
        np.testing.assert_array_equal(skeleton.pixels, 2 * expected["keypoint"].astype(np.float32))


def test_3d(tmp_path: Path) -> None:
    annotations = [solid(1), solid(50, bodies=2)]
    annotations[1]["keypoint"][1] = 0  # an empty second body
    prepared = run(tmp_path, annotations)
    with SkeletonStore(prepared.outputs.store) as store:
        assert store.layout == "kinect-v2" and store.attrs["units"] == "metres"
        np.testing.assert_array_equal(store[NTU.format(1)].positions, annotations[0]["keypoint"])
        assert store[NTU.format(50)].positions.shape[0] == 1
        assert store[NTU.format(1)].pixels is None


def test_names_and_layout_can_be_given(tmp_path: Path) -> None:
    annotation = {**flat(2), "frame_dir": "videos/jump.avi"}
    prepared = run(tmp_path, [annotation])
    assert prepared.manifest["videos/jump.avi"].label == "class 2"
    (tmp_path / "names.txt").write_text("stand\njump\n")
    prepared = run(tmp_path, [annotation], names=str(tmp_path / "names.txt"))
    assert prepared.manifest["videos/jump.avi"].label == "jump"
    assert (
        run(tmp_path, [annotation], names="utd-mhad").manifest["videos/jump.avi"].label
        == "Swipe right"
    )
    annotation["keypoint"] = annotation["keypoint"][:, :, :15]
    with pytest.raises(SkelfewError, match="15 joints in 2D; say which layout"):
        run(tmp_path, [annotation])
    with pytest.raises(SkelfewError, match="15 joints, layout h36m has 17"):
        run(tmp_path, [annotation], layout="h36m")
    annotation["keypoint_score"] = annotation["keypoint_score"][:, :, :15]
    prepared = run(tmp_path, [annotation], layout="joints-15")
    with SkeletonStore(prepared.outputs.store) as store:
        assert store.layout == "joints-15"
    for wrong in ("nothing", "nothing.txt"):
        with pytest.raises(SkelfewError, match="nothing"):
            run(tmp_path, [annotation], names=wrong)


def test_the_two_bodies_seen_most_are_kept(tmp_path: Path) -> None:
    annotation = flat(1, bodies=4)
    annotation["keypoint"][1, 2:] = annotation["keypoint_score"][1, 2:] = 0
    annotation["keypoint"][3] = annotation["keypoint_score"][3] = 0
    prepared = run(tmp_path, [annotation])
    with SkeletonStore(prepared.outputs.store) as store:
        positions = store[NTU.format(1)].positions
        np.testing.assert_array_equal(positions[..., :2], annotation["keypoint"][[0, 2]])
    assert [n.note for n in prepared.notes] == ["3 bodies; the 2 seen in most frames are kept"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": 120}, "label 120 is out of range; there are 0 to 119"),
        ({"label": -1}, "label -1 is not a whole number"),
        ({"label": "drink"}, "label 'drink' is not a whole number"),
        ({"keypoint": np.ones((9, 17, 2))}, "keypoint has shape (9, 17, 2)"),
        ({"keypoint": None}, "keypoint has shape None"),
        ({"total_frames": 8}, "total_frames is 8, but keypoint has 9 frames"),
        ({"keypoint_score": np.ones((1, 9, 16))}, "keypoint_score has shape (1, 9, 16)"),
        ({"keypoint": np.ones((1, 9, 25, 2)), "keypoint_score": np.ones((1, 9, 25))}, "wrong sha"),
        ({"keypoint": np.full((1, 9, 17, 2), np.nan)}, "not finite"),
        ({"keypoint": np.zeros((1, 9, 17, 2)), "keypoint_score": np.zeros((1, 9, 17))}, "no body"),
    ],
)
def test_a_bad_annotation_is_a_dropped_row(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    prepared = run(tmp_path, [flat(1), {**flat(2), **change}, "text"])
    assert prepared.manifest.ids == [NTU.format(1)]
    reasons = {d.sample_id: d.reason for d in prepared.dropped}
    assert set(reasons) == {NTU.format(2), "anno:2"}
    assert reason in reasons[NTU.format(2)]


def test_duplicate_ids(tmp_path: Path) -> None:
    prepared = run(tmp_path, [flat(1), flat(1)])
    assert len(prepared.manifest) == 1 and "duplicate" in prepared.dropped[0].reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no pickle", "not a readable pickle|refused to open"),
        (pickle.dumps([flat(1)])[:-100], "not a readable pickle|refused to open"),
        (pickle.dumps({"frames": 3}), "no list of annotations"),
        (pickle.dumps([]), "none of 1 recordings"),
        (pickle.dumps([flat(1), os.system]), "refused to open this pickle: it names posix.system"),
    ],
)
def test_what_is_no_annotation_file_is_an_error(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "x.pkl").write_bytes(content)
    outputs = Outputs(tmp_path / "p.csv", tmp_path / "p.h5")
    with pytest.raises(SkelfewError, match=reason):
        prepare("pyskl", RawFolder(tmp_path), outputs, READER.defaults)

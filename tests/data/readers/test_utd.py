import io
from pathlib import Path

import numpy as np
import pytest

from skelfew.data.joints.layouts import LAYOUTS
from skelfew.data.readers import Dropped, RawFolder, Recording
from skelfew.data.readers.utd import READER, project

scipy_io = pytest.importorskip("scipy.io", reason="SciPy (extra 'prepare') is not installed")
NAME = "a3_s2_t4"
# Skeleton_joint_order.txt of the distribution, in our joint names.
ORDER = """
    head shoulder_centre spine hip_centre left_shoulder left_elbow left_wrist left_hand
    right_shoulder right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot
    right_hip right_knee right_ankle right_foot
"""


def matlab(**variables: object) -> bytes:
    file = io.BytesIO()
    scipy_io.savemat(file, variables)
    return file.getvalue()


def joints(frames: int = 5) -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 2, (20, 3, frames))


def read(folder: Path, content: bytes, name: str = NAME) -> Recording | Dropped:
    (folder / f"{name}_skeleton.mat").write_bytes(content)
    (item,) = READER.read(RawFolder(folder), f"{name}_skeleton.mat", {})
    return item


def test_joints_are_sorted_into_our_order(tmp_path: Path) -> None:
    given = joints()
    recording = read(tmp_path, matlab(d_skel=given))
    assert isinstance(recording, Recording)
    for index, name in enumerate(LAYOUTS["kinect-v1"].joints):
        expected = given[ORDER.split().index(name)].T.astype(np.float32)
        np.testing.assert_array_equal(recording.skeleton.positions[0, :, index], expected)
    sample = recording.sample
    assert (sample.sample_id, sample.class_id, sample.label) == (NAME, 3, "Wave")
    assert (sample.subject, sample.replication, sample.video) == ("2", "4", "")
    assert sample.end_frame == 0


def test_the_video_is_found(tmp_path: Path) -> None:
    (tmp_path / "depth_video").mkdir()
    (tmp_path / "depth_video" / f"{NAME}_depth.mp4").write_bytes(b"x")
    recording = read(tmp_path, matlab(d_skel=joints(7)))
    assert isinstance(recording, Recording)
    assert recording.sample.video == f"depth_video/{NAME}_depth.mp4"
    assert (recording.sample.start_frame, recording.sample.end_frame) == (0, 7)


def test_projection() -> None:
    pixels = project(np.array([[0.0, 0.0, 3.0], [1.0, 1.0, 2.7], [1.0, 1.0, 0.0]]))
    np.testing.assert_allclose(pixels[:2], [[160, 120], [260, 20]])
    assert np.isnan(pixels[2]).all()


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        (b"nothing", NAME, "not a readable MATLAB file"),
        (b"", NAME, "not a readable MATLAB file"),
        (matlab(d_skel=joints())[:-700], NAME, "not a readable MATLAB file"),
        (matlab(skel=joints()), NAME, "the variable d_skel is missing"),
        (matlab(d_skel=joints()[:15]), NAME, "d_skel is (15, 3, 5)"),
        (matlab(d_skel="words"), NAME, "expected (20, 3, frames) floats"),
        (matlab(d_skel=joints()), "a28_s1_t1", "action a28 is out of range"),
    ],
)
def test_what_cannot_be_used_is_dropped(
    tmp_path: Path, content: bytes, name: str, reason: str
) -> None:
    item = read(tmp_path, content, name)
    assert isinstance(item, Dropped) and reason in item.reason


def test_real_joints_project_onto_the_person(shared: Path) -> None:
    raw = RawFolder(shared / "data" / "utd-mhad")
    names = READER.sources(raw, {})
    assert len(names) == 861
    for name in names[::200]:
        (recording,) = READER.read(raw, name, {})
        assert isinstance(recording, Recording) and recording.skeleton.pixels is not None
        pixels = recording.skeleton.pixels
        assert ((pixels > -10) & (pixels < (330, 250))).all(), "in a 320x240 picture, or nearly"
        head, feet = pixels[0, :, 3, 1], pixels[0, :, [15, 19], 1].mean(0)
        assert (head < feet).all(), "rows count downwards"
        assert (shared / "data" / "utd-mhad" / recording.sample.video).is_file()

"""Single recordings of every format, and the errors of those that cannot be used."""

import gzip
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skelfew.data.joints.layouts import load_layout
from skelfew.errors import SkelfewError
from skelfew.predict.recordings import is_recording, read_clip, read_clips
from skelfew.predict.support import read_folder

V1, V2, COCO = (load_layout(name) for name in ("kinect-v1", "kinect-v2", "coco"))
RANDOM = np.random.default_rng(0)


def joints(frames: int = 6, count: int = 20) -> np.ndarray:
    return (RANDOM.normal(size=(frames, count, 3)) + 3).astype(np.float32).round(4)


def test_arrays_and_tables_have_the_joints_asked_for(tmp_path: Path) -> None:
    values = joints()
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", values)
    np.savetxt(tmp_path / "a.csv", values.reshape(6, -1), delimiter=",", fmt="%.4f")
    for suffix in ("npy", "npz", "csv"):
        clip = read_clip(tmp_path / f"a.{suffix}", V1)
        assert clip.layout is V1 and clip.coordinates == 3 and clip.notes == ()
        assert_allclose(clip.positions, values[None], rtol=1e-5)


def test_nw_ucla_and_keypoints_share_a_suffix(tmp_path: Path) -> None:
    values = joints()
    values[2, 5] = 0
    (tmp_path / "a.json").write_text(json.dumps({"skeletons": values.tolist(), "label": 1}))
    clip = read_clip(tmp_path / "a.json", COCO)
    assert clip.layout is V1
    assert_allclose(clip.positions[0, 2, 5], (values[1, 5] + values[3, 5]) / 2, rtol=1e-5)

    person = [value for j in range(17) for value in (100.0 + j, 50.0, 0.9)]
    people = [{"image_id": i, "keypoints": person} for i in range(3)]
    (tmp_path / "b.json").write_text(json.dumps(people))
    clip = read_clip(tmp_path / "b.json", COCO)
    assert clip.layout is COCO and clip.coordinates == 2 and clip.positions.shape == (1, 3, 17, 3)

    for i in range(3):
        path = tmp_path / "frames" / f"x_{i:04}_keypoints.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"people": [{"pose_keypoints_2d": person}]}))
    assert is_recording(tmp_path / "frames")
    assert read_clip(tmp_path / "frames", COCO).frames == 3


def test_utd_mhad(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    values = joints()
    savemat(tmp_path / "any name.mat", {"d_skel": values.transpose(1, 2, 0).astype(float)})
    clip = read_clip(tmp_path / "any name.mat", V2)
    assert clip.layout is V1
    assert_array_equal(clip.positions[0, :, 0], values[:, 3])  # the hip centre is its fourth


def test_text_is_pku_mmd_or_msr_by_its_columns(tmp_path: Path) -> None:
    values = joints(count=25)
    rows = np.concatenate([values.reshape(6, -1), np.zeros((6, 75))], axis=1)
    text = "\n".join(" ".join(f"{v:.4f}" for v in row) for row in rows)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    clip = read_clip(tmp_path / "a.txt.gz", V1)
    assert clip.layout is V2 and len(clip.positions) == 1
    assert_allclose(clip.positions[0], values, rtol=1e-5)

    values = joints()
    lines = "\n".join(" ".join(f"{v:.4f}" for v in row) for row in values.reshape(6, -1))
    (tmp_path / "b.txt").write_text(lines)
    clip = read_clip(tmp_path / "b.txt", V2)
    assert clip.layout is V1
    assert_allclose(clip.positions[0], values, rtol=1e-5)


def test_joints_in_one_point_are_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((9, 20, 3), 3.0))
    with pytest.raises(SkelfewError, match=r"a\.npy: all its joints lie in one point"):
        read_clip(tmp_path / "a.npy", V1)


def test_ntu_without_its_naming(shared: Path, tmp_path: Path) -> None:
    (original,) = (shared / "data" / "ntu").glob("*A001.skeleton")
    (tmp_path / "mine.skeleton").write_bytes(original.read_bytes())
    clip = read_clip(tmp_path / "mine.skeleton", V1)
    assert clip.layout is V2 and clip.positions.shape == (1, 103, 25, 3)


def test_files_of_several_recordings(tmp_path: Path) -> None:
    keypoint = joints(count=25)[None]
    entry = {"label": 0, "total_frames": 6, "keypoint": keypoint.astype(np.float32)}
    both = [{**entry, "frame_dir": "one"}, {**entry, "frame_dir": "two"}]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"annotations": both}))
    clips = read_clips(tmp_path / "a.pkl", V1)
    assert [c.name.rpartition(":")[2] for c in clips] == ["one", "two"]
    assert clips[0].layout is V2
    with pytest.raises(SkelfewError, match=r"a\.pkl: holds 2 recordings"):
        read_clip(tmp_path / "a.pkl", V1)

    padded = np.zeros((2, 10, 150), dtype=np.float32)
    padded[:, :6, :75] = keypoint.reshape(1, 6, 75)
    np.savez(tmp_path / "b.npz", x_test=padded, y_test=np.eye(60)[:2])
    clips = read_clips(tmp_path / "b.npz", V1)
    assert [c.positions.shape for c in clips] == [(1, 6, 25, 3)] * 2


def test_joints_that_are_not_numbers_are_interpolated_or_refused(tmp_path: Path) -> None:
    values = joints()
    values[2, 5, 1] = np.nan
    values[4] = np.inf
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(tmp_path / "a.mat", {"d_skel": values.transpose(1, 2, 0).astype(float)})
    np.save(tmp_path / "a.npy", values[:4])
    clip = read_clip(tmp_path / "a.mat", V1)
    assert clip.frames == 6 and not clip.positions[0, 4].any(), "no person is there, as before"
    assert_allclose(clip.positions[0, 2, 5], (values[1, 5] + values[3, 5]) / 2, rtol=1e-5)
    assert "NaN" in clip.notes[0]
    filled = read_clip(tmp_path / "a.npy", V1).positions[0, 2, 5]
    assert_allclose(filled, (values[1, 5] + values[3, 5]) / 2, rtol=1e-5)
    with pytest.raises(SkelfewError, match=r"a\.npy: NaN or infinity in 1 frames, first 2"):
        read_clip(tmp_path / "a.npy", V1, {"nan": "drop"})


def npy_header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npy", None, "no such recording"),
        ("empty.npy", npy_header((0, 20, 3)), r"array of shape \(0, 20, 3\)"),
        ("empty.csv", b"", "no frames"),
        ("other.npy", npy_header((1, 19, 3)) + b"\0" * 228, "the layout has 20 joints"),
        ("zero.npy", npy_header((2, 20, 3)) + b"\0" * 480, "no body in any of 2 frames"),
        ("cut.npy", npy_header((2, 20, 3)) + b"\0" * 9, "cut off"),
        ("a.skeleton", b"3\n1\n", "truncated|ends|line"),
        ("a.mat", b"nothing", "not a readable MATLAB file"),
        ("a.json", b'{"skeletons": [[1]]}', "not a skeleton of NW-UCLA"),
        ("a.json", b"{", "not JSON"),
        ("a.pkl", pickle.dumps([]), "no recording in it"),
        ("a.pkl", pickle.dumps([{"keypoint": 1}]), "no keypoint array"),
        ("a.txt", b"1 2 3", "20"),
        ("a.doc", b"1 2 3", "expected .npy"),
    ],
)
def test_what_cannot_be_used_is_one_line_that_names_the_file(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SkelfewError, match=message) as error:
        read_clips(tmp_path / name, V1)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


def test_a_single_frame_is_read_with_a_note(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", joints(1))
    assert read_clip(tmp_path / "a.npy", V1).notes == (
        "one frame only: a posture, without any motion",
    )


def test_a_folder_of_actions(tmp_path: Path) -> None:
    for name in ("wave/1.npy", "wave/2.npy", "clap/1.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, joints())
    (tmp_path / "wave" / "notes.doc").write_text("sunny")
    (tmp_path / "wave" / ".DS_Store").write_text("")
    notes: list[str] = []
    found = read_folder(tmp_path, V1, note=notes.append)
    assert {k: len(v) for k, v in found.items()} == {"clap": 1, "wave": 2}
    assert len(notes) == 1 and "notes.doc: left out" in notes[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no actions; it holds a folder for each action"),
        (("1.npy",), r"1\.npy: lies beside the folders"),
        (("Wave/1.npy", "wave/2.npy"), "'Wave' and 'wave' differ in case or spaces"),
        (("wave/a.doc",), "wave: no recording"),
    ],
)
def test_other_folders_are_explained(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SkelfewError, match=message):
        read_folder(tmp_path, V1)
    with pytest.raises(SkelfewError, match="no such folder of actions"):
        read_folder(tmp_path / "nowhere", V1)

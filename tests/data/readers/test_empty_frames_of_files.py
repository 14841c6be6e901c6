"""Empty frames in files: whatever the format, they make no difference to the network's input."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from raw_files import skeleton_text
from scipy.io import savemat

from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import load_layout
from skelfew.data.readers import RawFolder, Recording, load_reader
from skelfew.encoders.features import clip_parts, raw_pipeline
from skelfew.predict.recordings import read_clips

FRAMES = 24
Write = Callable[[Path, np.ndarray], Path]  # of a clip (M, T, V, C) into a folder


def array(order: str) -> Write:
    def write(folder: Path, clip: np.ndarray) -> Path:
        axes, values = ("mtvc", clip) if "m" in order else ("tvc", clip[0])
        np.save(folder / "a.npy", values.transpose([axes.index(a) for a in order]))
        return folder / "a.npy"

    return write


def table(separator: str) -> Write:
    def write(folder: Path, clip: np.ndarray) -> Path:
        np.savetxt(folder / "a.csv", clip[0].reshape(clip.shape[1], -1), delimiter=separator)
        return folder / "a.csv"

    return write


def people(clip: np.ndarray, frame: int) -> list[np.ndarray]:
    return [body[frame] for body in clip if body[frame].any()]


def openpose(folder: Path, clip: np.ndarray) -> Path:
    for t in range(clip.shape[1]):
        found = [{"pose_keypoints_2d": b.ravel().tolist()} for b in people(clip, t)]
        (folder / f"a_{t:012}_keypoints.json").write_text(json.dumps({"people": found}))
    return folder


def one_json(entry: Callable[[np.ndarray, int], Any]) -> Write:
    def write(folder: Path, clip: np.ndarray) -> Path:
        parts = [entry(clip, t) for t in range(clip.shape[1])]
        content: Any = [p for part in parts for p in (part if isinstance(part, list) else [part])]
        if "frame_index" in content[0]:
            content = {"data": content, "label": "a", "label_index": 0}
        (folder / "a.json").write_text(json.dumps(content))
        return folder / "a.json"

    return write


def coco_results(clip: np.ndarray, t: int) -> Any:
    return [{"image_id": t, "keypoints": b.ravel().tolist()} for b in people(clip, t)]


def alphapose(clip: np.ndarray, t: int) -> Any:
    return [{"image_id": f"{t}.jpg", "keypoints": b.ravel().tolist()} for b in people(clip, t)]


def mmpose(clip: np.ndarray, t: int) -> Any:
    found = [
        {"keypoints": b[:, :2].tolist(), "keypoint_scores": b[:, 2].tolist()}
        for b in people(clip, t)
    ]
    return {"frame_id": t + 1, "instances": found}


def kinetics(clip: np.ndarray, t: int) -> Any:
    found = [
        {"pose": b[:, :2].ravel().tolist(), "score": b[:, 2].tolist()} for b in people(clip, t)
    ]
    return {"frame_index": t + 1, "skeleton": found}


def ntu(folder: Path, clip: np.ndarray) -> Path:
    shown = [[b + 1 for b in range(len(clip)) if clip[b, t].any()] for t in range(clip.shape[1])]
    path = folder / "S001C001P001R001A001.skeleton"
    path.write_bytes(skeleton_text(shown, lambda body, t: clip[body - 1, t]))
    return path


def utd(folder: Path, clip: np.ndarray) -> Path:
    joints = clip[0][:, [3, 2, 1, 0, *range(4, 20)]].transpose(1, 2, 0).astype(float)
    savemat(folder / "a1_s1_t1_skeleton.mat", {"d_skel": joints})
    return folder / "a1_s1_t1_skeleton.mat"


def text(bodies: int, confidence: bool) -> Write:
    def write(folder: Path, clip: np.ndarray) -> Path:
        full = np.zeros((bodies, *clip.shape[1:]))
        full[: len(clip)] = clip
        if confidence:
            full = np.concatenate(
                [full, full.any(axis=(2, 3))[..., None, None] + 0 * full[..., :1]], -1
            )
        np.savetxt(folder / "a.txt", full.transpose(1, 0, 2, 3).reshape(clip.shape[1], -1))
        return folder / "a.txt"

    return write


def ucla(folder: Path, clip: np.ndarray) -> Path:
    (folder / "a.json").write_text(json.dumps({"label": 1, "skeletons": clip[0].tolist()}))
    return folder / "a.json"


def pyskl(folder: Path, clip: np.ndarray) -> Path:
    one: dict[str, Any] = {"frame_dir": "a", "label": 0, "total_frames": clip.shape[1]}
    if clip.shape[2] == 17:
        one |= {"keypoint": clip[..., :2], "keypoint_score": clip[..., 2]}
    (folder / "a.pkl").write_bytes(pickle.dumps([{"keypoint": clip, **one}]))
    return folder / "a.pkl"


def padded(clip: np.ndarray) -> np.ndarray:
    full: np.ndarray = np.zeros((2, 300, *clip.shape[2:]), np.float32)
    full[: len(clip), : clip.shape[1]] = clip
    return full


def ctrgcn(folder: Path, clip: np.ndarray) -> Path:
    x, y = padded(clip).transpose(1, 0, 2, 3).reshape(1, 300, 150), np.eye(60)[:1]
    np.savez(folder / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return folder / "a.npz"


def agcn(folder: Path, clip: np.ndarray) -> Path:
    np.save(folder / "train_data_joint.npy", padded(clip).transpose(3, 1, 2, 0)[None])
    labels = (["S001C001P001R001A001.skeleton"], [0])
    (folder / "train_label.pkl").write_bytes(pickle.dumps(labels))
    return folder


FORMATS: dict[str, tuple[Write, str, int]] = {  # with the layout, and how many bodies it holds
    **{f"npy {order}": (array(order), "kinect-v1", 1) for order in ("tvc", "ctv", "vct", "vtc")},
    **{f"npy {order}": (array(order), "kinect-v2", 2) for order in ("mtvc", "tmvc")},
    "npy pixels": (array("mtvc"), "coco", 2),
    "csv": (table(","), "kinect-v1", 1),
    "csv with spaces": (table(" "), "kinect-v1", 1),
    "openpose": (openpose, "openpose-25", 2),
    "coco results": (one_json(coco_results), "coco", 2),
    "alphapose": (one_json(alphapose), "coco", 2),
    "mmpose": (one_json(mmpose), "coco", 2),
    "kinetics": (one_json(kinetics), "openpose-18", 2),
    "ntu": (ntu, "kinect-v2", 2),
    "utd-mhad": (utd, "kinect-v1", 1),
    "pku": (text(2, False), "kinect-v2", 2),
    "msr": (text(1, True), "kinect-v1", 1),
    "nw-ucla": (ucla, "kinect-v1", 1),
    "pyskl": (pyskl, "kinect-v2", 2),
    "pyskl pixels": (pyskl, "coco", 2),
    "ctrgcn-npz": (ctrgcn, "kinect-v2", 2),
    "agcn-npy": (agcn, "kinect-v2", 2),
}


def recording(layout: str, bodies: int, pixels: bool, absent: int, lost: bool) -> np.ndarray:
    """A moving body, and a second one that enters after ``absent`` frames; some joints are lost."""
    joints, random = len(load_layout(layout)), np.random.default_rng(bodies)
    j = np.arange(joints)
    body = np.stack([0.1 * np.cos(j), 0.06 * j + 0.2, 3 + 0.1 * np.sin(j)], axis=-1)
    steps = random.normal(0, 0.01, (bodies, FRAMES, joints, 3)).cumsum(axis=1)
    clip = body + 0.8 * np.arange(bodies)[:, None, None, None] + steps
    if pixels:
        found = random.uniform(0.5, 1, clip.shape[:-1])
        found[:, 3:6, 2] *= not lost
        clip = np.concatenate([100 * clip[..., :2] + 200, found[..., None]], axis=-1)
    elif lost:
        clip[0, 3:6, 2] = clip[0, 0, 5] = 0
    clip[1:, :absent] = 0
    return clip.astype(np.float32)


def inputs(path: Path, layout: str, pixels: bool) -> list[torch.Tensor]:
    if path.is_dir() and not list(path.glob("*.json")):
        reader, raw = load_reader("agcn-npy"), RawFolder(path)
        (item,) = reader.read(raw, reader.sources(raw, reader.defaults)[0], reader.defaults)
        assert isinstance(item, Recording)
        positions = item.skeleton.positions
    else:
        positions = read_clips(path, load_layout(layout))[0].positions
    k, found = 2 if pixels else 3, []
    for pipeline in (Pipeline(coordinates=k), Pipeline("ucla", 52, coordinates=k), raw_pipeline(k)):
        bank = SkeletonBank.from_clips({"a": positions}, load_layout(layout), pipeline)
        found.append(bank.batch(torch.tensor([0]), train=False))
    aligned = raw_pipeline(k, aligned=True)
    bank = SkeletonBank.from_clips({"a": positions}, load_layout(layout), aligned)
    return [*found, clip_parts(bank)]


@pytest.mark.parametrize("name", FORMATS)
def test_empty_frames_before_inside_and_after(tmp_path: Path, name: str) -> None:
    write, layout, most = FORMATS[name]
    pixels = layout.startswith(("coco", "openpose"))
    for bodies, absent, lost in ((1, 0, False), (1, 0, True), (2, 0, False), (2, 18, True)):
        if bodies > most:
            continue
        clip, expected = recording(layout, bodies, pixels, absent, lost), None
        for before, inside, after in ((0, 0, 0), (80, 0, 3), (0, 6, 0), (9, 40, 80)):
            blank = [clip[:, :1].repeat(n, axis=1) * 0 for n in (before, inside, after)]
            parts = [blank[0], clip[:, :10], blank[1], clip[:, 10:], blank[2]]
            place = tmp_path / f"{bodies}{absent}{lost}-{before}-{inside}-{after}"
            place.mkdir()
            found = inputs(write(place, np.concatenate(parts, axis=1)), layout, pixels)
            expected = expected or found
            assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))

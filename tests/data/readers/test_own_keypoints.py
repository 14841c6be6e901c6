"""Keypoints as pose estimators write them, end to end through the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_world import csv_text, flat, rows_of, run, solid, stored

from skelfew.data.manifest import Manifest
from skelfew.data.store import SkeletonStore


def people(frame: np.ndarray, key: str = "pose_keypoints_2d") -> dict[str, Any]:
    return {"version": 1.3, "people": [{"person_id": [-1], key: frame.ravel().tolist()}]}


def write_openpose(folder: Path, joints: np.ndarray) -> None:
    folder.mkdir()
    for t, frame in enumerate(joints):
        (folder / f"clip7_{t:012}_keypoints.json").write_text(json.dumps(people(frame)))


def write_pictures(folder: Path, joints: np.ndarray) -> None:
    """MMPose on a folder of pictures: a list of instances a file."""
    folder.mkdir()
    for t, frame in enumerate(joints):
        instance = {"keypoints": frame[:, :2].tolist(), "keypoint_scores": frame[:, 2].tolist()}
        (folder / f"{t + 1}.json").write_text(json.dumps([instance]))


def alphapose(joints: np.ndarray) -> list[dict[str, Any]]:
    entries = [
        {"image_id": f"{t}.jpg", "keypoints": f.ravel().tolist(), "score": 2.5, "category_id": 1}
        for t, f in enumerate(joints)
    ]
    return entries[::-1]


def coco(joints: np.ndarray) -> dict[str, Any]:
    images = [{"id": 900 - t, "file_name": f"img{t:04}.jpg"} for t in range(len(joints))]
    found = [
        {"image_id": 900 - t, "keypoints": frame.ravel().tolist()} for t, frame in enumerate(joints)
    ]
    return {"images": images, "annotations": found}


def mmpose(joints: np.ndarray) -> dict[str, Any]:
    entries = [
        {
            "frame_id": t,
            "instances": [
                {"keypoints": f[:, :2].tolist(), "keypoint_scores": f[:, 2].tolist(), "bbox": []}
            ],
        }
        for t, f in enumerate(joints)
    ]
    return {"meta_info": {}, "instance_info": entries}


def test_keypoints_of_pose_estimators_give_the_same_joints(home: Path) -> None:
    joints = flat(12)  # two-digit frame numbers: they are not sorted as text
    mine = home / "mine"
    write_openpose(mine / "a", joints)
    write_pictures(mine / "b", joints)
    (mine / "c.json").write_text(json.dumps(alphapose(joints)))
    (mine / "d.json").write_text(json.dumps(coco(joints)))
    (mine / "e.json").write_text(json.dumps(mmpose(joints)))
    (mine / "f").mkdir()
    (mine / "f" / "alphapose-results.json").write_text(json.dumps(alphapose(joints)))
    (mine / "g.csv").write_text(csv_text(joints, "xyc"))
    np.savez(mine / "h.npz", keypoints=joints[..., :2], keypoint_scores=joints[..., 2])
    names = ["a", "b", "c.json", "d.json", "e.json", "f", "g.csv", "h.npz"]
    result = run([{"recording": n, "label": "wave", "id": n[0]} for n in names])
    assert result.exit_code == 0, result.output
    for name in "abcdefgh":
        np.testing.assert_allclose(stored(name).positions, joints[None], rtol=1e-6)
    with SkeletonStore("data/mine.h5") as store:
        assert (store.coordinates, store.channels, store.attrs["units"]) == (2, 3, "pixels")


def test_joints_that_were_not_found_are_interpolated(home: Path) -> None:
    joints = flat(5)
    joints[2, 1] = 0
    joints[:, 4, 2] = 0  # never found, wherever the estimator put it
    np.save("mine/a.npy", joints)
    row = {"recording": "a.npy", "label": "sit"}
    assert run([row], "--option", "coordinates=2").exit_code == 0
    found = stored("a").positions[0]
    np.testing.assert_allclose(found[2, 1, :2], (joints[1, 1, :2] + joints[3, 1, :2]) / 2)
    np.testing.assert_allclose(found[:, 4, :2], found[:, :4, :2].mean(axis=1), rtol=1e-6)
    assert found[2, 1, 2] == 0 and (found[:, 4, 2] == 0).all()
    (note,) = rows_of("manifests/mine.notes.csv")
    assert note["note"] == "1 joints were never found; they are at the middle of the others"
    assert run([row], "--option", "coordinates=2", "--option", "missing=keep").exit_code == 0
    kept = stored("a").positions[0]
    assert not kept[2, 1].any() and not kept[:, 4].any()


def test_nan_can_mean_not_found(home: Path) -> None:
    joints = solid(5)
    joints[2, 1, 0] = np.nan
    joints[4] = np.nan  # no person
    np.save("mine/a.npy", joints)
    row = {"recording": "a.npy", "label": "sit"}
    assert run([row]).exit_code == 1
    assert run([row], "--option", "nan=missing").exit_code == 0
    found = stored("a").positions[0]
    np.testing.assert_allclose(found[2, 1], (joints[1, 1] + joints[3, 1]) / 2, rtol=1e-6)
    assert not found[4].any() and np.isfinite(found).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"image_id": "a.jpg", "keypoints": [1, 2, 3]}], "has no frame number"),
        ([{"image_id": 1, "keypoints": [1, 2, 3]}], "has 3 numbers, expected 15"),
        ([{"image_id": 1, "keypoints": ["a"] * 15}], "not a list of numbers"),
        ([{"image_id": 1}], "a person without keypoints"),
        ([{"image_id": 1, "keypoints": [0] * 15}], "no body in any of 1 frames"),
        ([{"image_id": i, "keypoints": [9] * 15} for i in (1, 2, 10**9)], "only 3 frames"),
        ([{"frame_id": 0, "instances": []}, {"frame_id": 0, "instances": []}], "repeated"),
        ([{"frame_id": 0, "instances": 7}], "instances of frame 0 are no list"),
        ({"images": [], "annotations": [{"image_id": 3}]}, "an image that is not listed"),
        ({"annotations": []}, "without a list of images"),
        ([], "no frames"),
    ],
)
def test_keypoints_that_are_none(home: Path, content: Any, message: str) -> None:
    (home / "mine" / "a.json").write_text(json.dumps(content))
    result = run([{"recording": "a.json", "label": "sit"}])
    assert result.exit_code == 1
    assert message in rows_of("manifests/mine.dropped.csv")[0]["reason"]


def test_frames_without_people_keep_their_place(home: Path) -> None:
    joints = flat(20)
    entries = [e for e in alphapose(joints) if e["image_id"] not in ("0.jpg", "1.jpg", "9.jpg")]
    (home / "mine" / "a.json").write_text(json.dumps(entries))
    write_openpose(home / "mine" / "b", joints)
    for t in range(20):
        if t % 5:
            (home / "mine" / "b" / f"clip7_{t:012}_keypoints.json").unlink()
    (home / "mine" / "clip.mp4").write_bytes(b"a video")
    rows: list[dict[str, object]] = [
        {"recording": name, "label": "sit", "video": "clip.mp4", "id": name[0]}
        for name in ("a.json", "b")
    ]
    assert run(rows).exit_code == 0
    found = stored("a").positions[0]
    assert np.flatnonzero(~found.any(axis=(1, 2))).tolist() == [0, 1, 9]
    np.testing.assert_allclose(found[2], joints[2])
    every_fifth = Manifest.read("manifests/mine.csv")["b"]
    assert (every_fifth.frames, every_fifth.start_frame, every_fifth.end_frame) == (4, 0, 20)
    notes = {row["sample_id"]: row["note"] for row in rows_of("manifests/mine.notes.csv")}
    assert notes["b"] == "every 5th frame of a video, taken as consecutive"
    pixels = stored("a").pixels
    np.testing.assert_allclose(pixels[0, 5], joints[5, :, :2])
    assert np.isnan(pixels[0, 9]).all()

"""One's own recordings: which arrays, tables and files are read, and how."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_files import golden_joints, skeleton_text

from skelfew.data.joints.layouts import Layout, load_layout
from skelfew.data.prepare.walk import _reasons
from skelfew.data.readers.bodies import UPS, turned_up
from skelfew.data.readers.keypoint_json import read_file, read_folder
from skelfew.data.readers.own import READER, Loaded, fill, load
from skelfew.data.readers.own_table import read_table
from skelfew.errors import SkelfewError

RNG = np.random.default_rng(0)
V1, COCO = load_layout("kinect-v1"), load_layout("coco")


def read(path: Path, layout: Layout | str, **options: str) -> Loaded:
    return load(path, load_layout(layout), {**READER.defaults, **options})


def solid(frames: int = 9, joints: int = 20) -> np.ndarray:
    return RNG.normal(size=(frames, joints, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("names", "frames", "first"),
    [
        (["frame_9.png", "frame_10.png", "frame_11.png"], [0, 1, 2], 9),
        (["000120.jpg", "000130.jpg", "000140.jpg"], [0, 1, 2], 120),
        (["1.jpg", "2.jpg", "4.jpg"], [0, 1, 3], 0),
        (["a.jpg", "b.jpg", "c.jpg"], [0, 1, 2], 0),
        (["x/1.jpg", "y/1.jpg", "z/1.jpg"], [0, 1, 2], 0),
        (["000000397133.jpg", "000000037777.jpg", "000000252219.jpg"], [2, 0, 1], 0),  # COCO's own
    ],
)
def test_images_are_in_the_order_of_their_numbers(
    tmp_path: Path, names: list[str], frames: list[int], first: int
) -> None:
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    found = [{"image_id": i, "keypoints": [i + 1.0, 2, 1] * 17} for i in range(3)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": found}))
    read = read_file(tmp_path / "a.json", 17)
    assert [read.people[t][0].joints[0, 0] for t in frames] == [1, 2, 3] and read.first == first


@pytest.mark.parametrize("up", UPS)
def test_another_axis_points_up(tmp_path: Path, up: str) -> None:
    """Turned, not mirrored, into the usual form; a note of plausibility names the axis."""
    joints = solid()
    axes, signs = zip(*UPS[up], strict=True)
    given = np.empty_like(joints)
    for axis, (source, sign) in enumerate(UPS[up]):
        given[..., source] = sign * joints[..., axis]
    np.save(tmp_path / "a.npy", given)
    loaded = read(tmp_path / "a.npy", V1)
    turned, _ = fill(loaded, {**READER.defaults, "up": up})
    np.testing.assert_array_equal(turned[0], joints)
    assert np.linalg.det(np.eye(3)[list(axes)] * np.array(signs)[:, None]) == pytest.approx(1)
    if up != "y":
        with pytest.raises(SkelfewError, match=f"up={up} is for x, y, z"):
            turned_up(given[..., :2], 2, up)
    assert signs[1] == (-1 if up[0] == "-" else 1) and "xyz"[axes[1]] == up[-1]


def test_segments_of_ntu_files_count_frames_without_a_body(tmp_path: Path) -> None:
    """Two bodies, so that the reader of the data set leaves the empty frames out."""
    shown = [[], [], [1], [1, 2], [], *([[1, 2]] * 15), []]
    (tmp_path / "a.skeleton").write_bytes(skeleton_text(shown, golden_joints))
    positions = read(tmp_path / "a.skeleton", "kinect-v2").positions
    assert positions.any(axis=(0, 2, 3)).tolist() == [bool(bodies) for bodies in shown]
    np.testing.assert_allclose(positions[0, 3], golden_joints(1, 3), atol=1e-5)


def landmarks(world: bool) -> np.ndarray:
    """MediaPipe's x, y, z, visibility, presence (T, 33, 5); y downwards."""
    values = RNG.uniform(0.1, 0.9, (12, 33, 5)).astype(np.float32)
    values[..., 2] -= 0.5
    if world:
        values[..., :3] -= values[:, [23, 24], :3].mean(axis=1, keepdims=True)
    values[3, 15, 3] = 0.4  # under MediaPipe's own threshold
    return values


@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("world", [True, False])
def test_mediapipe_landmarks(tmp_path: Path, channels: int, world: bool) -> None:
    values = landmarks(world)
    np.save(tmp_path / "a.npy", values[..., :channels])
    loaded = read(tmp_path / "a.npy", "mediapipe-33")
    assert loaded.missing.sum() == (values[..., 3] < 0.5).sum() and loaded.missing[0, 3, 15]
    kept = ~loaded.missing[0]
    if world:  # metres, y upwards
        assert loaded.coordinates == 3 and loaded.positions.shape == (1, 12, 33, 3)
        np.testing.assert_allclose(loaded.positions[0][kept], (values[..., :3] * [-1, -1, 1])[kept])
    else:
        assert loaded.coordinates == 2
        np.testing.assert_array_equal(loaded.positions[0][kept], values[..., [0, 1, 3]][kept])


@pytest.mark.parametrize(("layout", "joints"), [("mediapipe-33", 33), ("kinect-v1", 20)])
def test_three_values_between_0_and_1_are_refused(tmp_path: Path, layout: str, joints: int) -> None:
    values = RNG.uniform(0.1, 1, (9, joints, 3))
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(SkelfewError, match=r"--option coordinates=2"):
        read(tmp_path / "a.npy", layout)
    assert read(tmp_path / "a.npy", layout, coordinates="2").coordinates == 2
    assert read(tmp_path / "a.npy", layout, coordinates="3").coordinates == 3


@pytest.mark.parametrize("layout", ["coco", "openpose-25", "halpe-26"])
def test_layouts_of_pictures_need_no_option(tmp_path: Path, layout: str) -> None:
    np.save(
        tmp_path / "a.npy", RNG.uniform(0.2, 1, (9, len(load_layout(layout)), 3)) * [640, 480, 1]
    )
    assert read(tmp_path / "a.npy", layout).coordinates == 2


def test_confidences_below_the_threshold_were_not_found(tmp_path: Path) -> None:
    values = np.full((4, 17, 3), 0.9) * [300, 200, 1]
    values[:, 13:, 2] = 0.02
    np.save(tmp_path / "a.npy", values)
    person = {"keypoints": values[0].ravel().tolist(), "image_id": 0}
    (tmp_path / "a.json").write_text(json.dumps([person]))
    people = {"people": [{"pose_keypoints_2d": values[0].ravel().tolist()}]}
    (tmp_path / "b.json").write_text(json.dumps(people))
    for name in ("a.npy", "a.json", "b.json"):
        missing = read(tmp_path / name, COCO).missing[0]
        assert missing[:, 13:].all() and not missing[:, :13].any(), name
        assert not read(tmp_path / name, COCO, min_confidence="0.01").missing.any()
        with pytest.raises(SkelfewError, match=r"no (joint|body)"):
            read(tmp_path / name, COCO, min_confidence="0.95")
    assert fill(read(tmp_path / "a.npy", COCO), READER.defaults)[1] == (
        "4 joints were never found; they are at the middle of the others",
    )
    with pytest.raises(SkelfewError, match="min_confidence=much: expected auto or a number"):
        read(tmp_path / "a.npy", COCO, min_confidence="much")


def write(path: Path, rows: np.ndarray, separator: str, header: list[str] | None = None) -> None:
    lines = [separator.join(map(repr, row)) for row in rows.astype(float).tolist()]
    path.write_text("\n".join(([separator.join(header)] if header else []) + lines) + "\n")


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
@pytest.mark.parametrize("separator", [",", " ", "\t", ";"])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_tables_without_a_header(tmp_path: Path, name: str, separator: str, extra: int) -> None:
    joints = solid()
    times = np.stack([np.arange(9) + 1, np.arange(9) / 30 + 5], axis=1)[:, :extra]
    write(tmp_path / name, np.concatenate([times, joints.reshape(9, -1)], axis=1), separator)
    np.testing.assert_allclose(read(tmp_path / name, V1).positions[0], joints, rtol=1e-6)


@pytest.mark.parametrize(
    ("before", "mark", "after"),
    [("{:.1f}", "", ""), ("2020-01-01T00:00:00", "", ""), ("", '"', ""), ("", "", ",")],
)
def test_tables_with_dates_quotes_and_last_commas(
    tmp_path: Path, before: str, mark: str, after: str
) -> None:
    """Also a clock that stands still at times."""
    joints = solid()
    lines = [
        ",".join([before.format(i / 15)] * bool(before) + [f"{mark}{v!r}{mark}" for v in row])
        + after
        for i, row in enumerate(joints.reshape(9, -1).astype(float).tolist())
    ]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    np.testing.assert_allclose(read(tmp_path / "a.csv", V1).positions[0], joints, rtol=1e-6)


@pytest.mark.parametrize(
    "form",
    ["{joint}.{end}", "{joint} {END}", "{joint}{END}", "{JOINT}-{end}", "{end}_{joint}",
     "{joint} {END} (m)", "{end}{number}", "joint{number}_{end}"],
)  # fmt: skip
def test_headers(tmp_path: Path, form: str) -> None:
    joints = solid(joints=17)
    header = ["time"] + [
        form.format(joint=j, JOINT=j.upper(), number=i, end=end, END=end.upper())
        for i, j in enumerate(COCO.joints)
        for end in "xyz"
    ]
    rows = np.concatenate([np.arange(9)[:, None] / 30, joints.reshape(9, -1)], axis=1)
    write(tmp_path / "a.csv", rows, ",", header)
    loaded = read(tmp_path / "a.csv", COCO)
    assert loaded.coordinates == 3
    np.testing.assert_allclose(loaded.positions[0], joints, rtol=1e-6)


def test_an_extra_column_that_is_no_time_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", np.concatenate([np.ones((9, 1)), solid().reshape(9, -1)], 1), ",")
    with pytest.raises(SkelfewError, match="61 columns, expected 40 or 60"):
        read(tmp_path / "a.csv", V1)


def test_matlab_files(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    joints = solid()
    savemat(tmp_path / "a.mat", {"fps": 30.0, "trial": joints.transpose(2, 1, 0)})
    np.testing.assert_array_equal(read(tmp_path / "a.mat", V1).positions[0], joints)
    savemat(tmp_path / "b.mat", {"one": joints, "two": joints})
    with pytest.raises(SkelfewError, match=r"arrays one \(9, 20, 3\), two .*expected a single one"):
        read(tmp_path / "b.mat", V1)


def test_known_formats_need_their_layout(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/ntu/S001C001P001R001A001.skeleton"
    assert read(path, "kinect-v2").positions.shape == (1, 103, 25, 3)
    with pytest.raises(SkelfewError, match="its joints are kinect-v2, not coco; use --layout"):
        read(path, COCO)


def openpose(folder: Path, numbers: range) -> None:
    folder.mkdir()
    for number in numbers:
        person = {
            "pose_keypoints_2d": (RNG.uniform(0.2, 1, (17, 3)) * [640, 480, 1]).ravel().tolist()
        }
        text = json.dumps({"people": [person]})
        (folder / f"clip_{number:012}_keypoints.json").write_text(text)


@pytest.mark.parametrize(
    ("numbers", "first", "step"),
    [(range(10, 30), 10, 1), (range(20), 0, 1), (range(1, 21), 0, 1), (range(11, 31, 2), 11, 2),
     (range(5000, 5020), 5000, 1)],
)  # fmt: skip
def test_a_folder_that_begins_late_keeps_its_place(
    tmp_path: Path, numbers: range, first: int, step: int
) -> None:
    openpose(tmp_path / "a", numbers)
    frames = read_folder(tmp_path / "a", 17)
    assert (frames.first, frames.step, len(frames.people)) == (first, step, len(numbers))


def test_kinetics_skeleton(tmp_path: Path) -> None:
    pose = RNG.uniform(0.1, 1, (18, 2))
    data: list[dict[str, Any]] = [
        {"frame_index": i, "skeleton": [{"pose": pose.ravel().tolist(), "score": [0.8] * 18}] * n}
        for i, n in ((1, 1), (2, 0), (3, 1))
    ]
    text = json.dumps({"data": data, "label": "jump", "label_index": 3})
    (tmp_path / "a.json").write_text(text)
    loaded = read(tmp_path / "a.json", "openpose-18")
    assert loaded.positions.shape == (1, 3, 18, 3) and loaded.missing[0, 1].all()
    np.testing.assert_allclose(loaded.positions[0, 2, :, :2], pose, rtol=1e-6)


def test_hands_and_whole_bodies_in_json(tmp_path: Path) -> None:
    def points(count: int) -> list[float]:
        return (RNG.uniform(0.2, 1, (count, 3)) * [640, 480, 1]).ravel().tolist()  # type: ignore[no-any-return]

    person = {"pose_keypoints_2d": points(25), "hand_left_keypoints_2d": [], "face": []}
    person["hand_right_keypoints_2d"] = points(21)
    (tmp_path / "a.json").write_text(json.dumps({"people": [person]}))
    found = read_file(tmp_path / "a.json", 67).people[0][0].joints
    assert not found[25:46].any() and found[46:].all()
    label = {"image_id": 1, "keypoints": points(17), "foot_kpts": points(6), "face_kpts": []}
    label |= {"lefthand_kpts": points(21), "righthand_kpts": points(21)}
    content = {"images": [{"id": 1}], "annotations": [label]}
    (tmp_path / "b.json").write_text(json.dumps(content))
    found = read_file(tmp_path / "b.json", 133).people[0][0].joints
    assert found[:23].all() and not found[23:91].any() and found[91:].all()


@pytest.mark.parametrize("second", ["wave", "WAVE", "Wave  hand"])
def test_labels_that_differ_in_case_or_spaces_are_refused(tmp_path: Path, second: str) -> None:
    first = "Wave hand" if "hand" in second else "Wave"
    (tmp_path / "t.csv").write_text(f"recording,label\na.npy,{first}\nb.npy,{second}\n")
    with pytest.raises(SkelfewError, match=r"line 3: label .* but line 2 has"):
        read_table(tmp_path / "t.csv")


def test_a_label_with_a_line_end_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('recording,label\na.npy,"wave\nhand"\nb.npy,sit\n')
    rows, bad = read_table(tmp_path / "t.csv")
    assert [r.label for r in rows] == ["sit"] and "line end" in bad[0].reason


def test_reasons_are_counted_by_kind_and_keep_their_numbers() -> None:
    reasons = ["an array of shape (9, 5, 4)", "an array of shape (8, 5, 4)", "no frames"]
    assert _reasons(reasons) == {"an array of shape (9, 5, 4)": 2, "no frames": 1}

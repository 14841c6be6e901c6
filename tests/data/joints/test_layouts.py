"""Joint layouts: the built-in ones and one's own."""

import json
from pathlib import Path

import pytest

from skelfew.data.joints.layouts import LAYOUTS, layout_from_dict, load_layout
from skelfew.errors import SkelfewError

OWN = """
name = "rig"
joints = ["head", "neck", "left_hand", "right_hand"]
bones = [["neck", "head"], ["left_hand", "neck"], ["right_hand", "neck"]]
centre = "neck"
left_right = [["left_hand", "right_hand"]]
"""


def test_joint_counts() -> None:
    assert {name: len(layout) for name, layout in LAYOUTS.items()} == {
        "kinect-v2": 25,
        "kinect-v1": 20,
        "coco": 17,
        "coco-wholebody-133": 133,
        "halpe-26": 26,
        "openpose-18": 18,
        "openpose-25": 25,
        "openpose-25-hands": 67,
        "mediapipe-33": 33,
        "h36m": 17,
        "smpl": 24,
        "joints-15": 15,
    }


def test_kinect_v2_has_the_edges_of_the_reference(golden: Path) -> None:
    inward = json.loads((golden / "agcn.json").read_text())["A_nonzero"][1]
    assert sorted([parent, child] for child, parent in LAYOUTS["kinect-v2"].bones) == inward
    assert LAYOUTS["kinect-v2"].centre == 20 and LAYOUTS["kinect-v2"].root == 1


def test_kinect_v1_has_the_edges_of_the_reference() -> None:
    text = """1>2 2>3 4>3 5>3 6>5 7>6 8>7 9>3 10>9 11>10 12>11 13>1 14>13 15>14 16>15 17>1 18>17
    19>18 20>19"""
    expected = {(int(a) - 1, int(b) - 1) for a, b in (w.split(">") for w in text.split())}
    assert set(LAYOUTS["kinect-v1"].bones) == expected
    assert LAYOUTS["kinect-v1"].root == 1


@pytest.mark.parametrize(
    ("layout", "joints"),
    [  # numbers as the estimators document them
        ("mediapipe-33", {0: "nose", 1: "left_eye_inner", 8: "right_ear", 9: "left_mouth",
                          11: "left_shoulder", 18: "right_pinky", 19: "left_index",
                          24: "right_hip", 29: "left_heel", 32: "right_foot_index"}),
        ("halpe-26", {16: "right_ankle", 17: "head", 18: "neck", 19: "mid_hip",
                      20: "left_big_toe", 23: "right_small_toe", 24: "left_heel"}),
        ("coco-wholebody-133", {17: "left_big_toe", 22: "right_heel", 23: "right_jaw8",
                                31: "chin", 39: "left_jaw8", 59: "right_eye_outer",
                                68: "left_eye_outer", 71: "right_mouth", 77: "left_mouth",
                                91: "left_hand_root", 95: "left_thumb4", 112: "right_hand_root",
                                132: "right_pinky4"}),
        ("openpose-25-hands", {8: "mid_hip", 24: "right_heel", 25: "left_hand_root",
                               45: "left_pinky4", 46: "right_hand_root", 66: "right_pinky4"}),
    ],
)  # fmt: skip
def test_joint_numbers(layout: str, joints: dict[int, str]) -> None:
    assert {number: LAYOUTS[layout].joints[number] for number in joints} == joints


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_mirroring_keeps_the_bones(name: str) -> None:
    layout = load_layout(name)
    swap = {a: b for left, right in layout.mirror for a, b in ((left, right), (right, left))}
    mirrored = {(swap.get(c, c), swap.get(p, p)) for c, p in layout.bones}
    assert mirrored == set(layout.bones)
    sides = [j for j in layout.joints if j.startswith(("left_", "right_"))]
    assert len(sides) == 2 * len(layout.mirror)


def test_own_layout(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    path.write_text(OWN)
    layout = load_layout(path)
    assert layout.bones == ((0, 1), (2, 1), (3, 1))  # directed to the centre, however written
    assert layout.mirror == ((2, 3),)
    assert layout.root == layout.centre == 1
    assert layout_from_dict(json.loads(json.dumps(layout.to_dict()))) == layout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('centre = "neck"', 'centre = "nose"', "centre names 'nose'"),
        ('["neck", "head"]', '["neck", "had"]', "bones names 'had'"),
        ('["neck", "head"], ', "", "no path of bones leads from 'neck' to head"),
        ('["neck", "head"]', '["neck", "head"], ["head", "left_hand"]', "4 bones for 4 joints"),
        ('"head", "neck", "left', '"head", "head", "left', "different names"),
        ('centre = "neck"', "", "'centre' is missing"),
        ('centre = "neck"', 'centre = "neck"\nhub = "neck"', "unknown key 'hub'"),
        ('[["left_hand", "right_hand"]]', '[["left_hand", "left_hand"]]', "pairs of two joints"),
        ('name = "rig"', "name = ", "not a TOML file"),
    ],
)
def test_broken_layouts_are_explained(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "rig.toml"
    assert old in OWN
    path.write_text(OWN.replace(old, new))
    with pytest.raises(SkelfewError, match=message) as caught:
        load_layout(path)
    assert "rig.toml" in str(caught.value)


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(SkelfewError, match="kinect-v2, kinect-v1, coco"):
        load_layout("kinect")

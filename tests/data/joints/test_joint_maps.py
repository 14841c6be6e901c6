"""Joints of one layout from those of another."""

import numpy as np
import pytest

from skelfew.data.joints.joint_maps import joint_map, project
from skelfew.data.joints.layouts import LAYOUTS, layout_from_dict
from skelfew.errors import SkelfewError


def names(layout: str) -> tuple[str, ...]:
    return LAYOUTS[layout].joints


def sides(layout: str) -> np.ndarray:
    """1 for a joint on the left, -1 for one on the right, else 0."""
    return np.array([j.startswith("left_") - 1.0 * j.startswith("right_") for j in names(layout)])


@pytest.mark.parametrize("source", LAYOUTS)
def test_every_layout_can_be_made_from_every_other(source: str) -> None:
    for target in LAYOUTS:
        weights = joint_map(LAYOUTS[source], LAYOUTS[target]).weights
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
        for joint in set(names(source)) & set(names(target)):
            assert weights[names(target).index(joint), names(source).index(joint)] == 1
        leaning = np.sign((weights @ sides(source)).round(5))
        wrong = (leaning != sides(target)) & (leaning != 0)
        assert not wrong.any(), f"{np.array(names(target))[wrong]} are made of the wrong side"


def test_kinect_v2_to_kinect_v1_picks_the_same_places() -> None:
    mapping = joint_map(LAYOUTS["kinect-v2"], LAYOUTS["kinect-v1"])
    assert mapping.described() == {
        "hip_centre": "spine_base",
        "spine": "spine_mid",
        "shoulder_centre": "spine_shoulder",
    }
    assert set(np.unique(mapping.weights)) == {0, 1}
    clip = np.random.default_rng(0).normal(size=(2, 4, 25, 3)).astype(np.float32)
    clip[1, 2] = 0
    mapped = mapping.apply(clip, 3)
    assert mapped.shape == (2, 4, 20, 3) and mapped.dtype == np.float32
    np.testing.assert_array_equal(mapped[0, :, 3], clip[0, :, 3])  # head is the fourth in both
    assert not mapped[1, 2].any()


def test_mediapipe_to_kinect_v2() -> None:
    made = joint_map(LAYOUTS["mediapipe-33"], LAYOUTS["kinect-v2"]).described()
    assert made["spine_base"] == "left_hip + right_hip"
    assert made["left_hand"] == "left_wrist + left_pinky + left_index"
    assert made["right_hand_tip"] == "right_pinky + right_index"
    hands = joint_map(LAYOUTS["coco-wholebody-133"], LAYOUTS["kinect-v2"]).described()
    assert (
        hands["left_hand_tip"] == "left_middle_finger4" and hands["head"] == "left_ear + right_ear"
    )


def test_middles_are_means_and_confidence_is_the_smallest() -> None:
    source, target = LAYOUTS["coco"], LAYOUTS["openpose-18"]
    clip = np.random.default_rng(0).uniform(size=(1, 3, 17, 3)).astype(np.float32)
    mapped = joint_map(source, target).apply(clip, 2)
    left, right = source.joints.index("left_shoulder"), source.joints.index("right_shoulder")
    neck = mapped[0, :, target.joints.index("neck")]
    np.testing.assert_allclose(neck[:, :2], clip[0, :, [left, right], :2].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(neck[:, 2], clip[0, :, [left, right], 2].min(axis=0))


def test_what_cannot_be_made_is_named() -> None:
    bones = [["lid", "hinge"], ["base", "hinge"]]
    box = layout_from_dict(
        {"name": "box", "joints": ["lid", "hinge", "base"], "bones": bones, "centre": "hinge"}
    )
    with pytest.raises(SkelfewError, match=r"lid, hinge, base of layout box cannot be made"):
        joint_map(LAYOUTS["coco"], box)


def test_projection_is_a_pinhole_in_front_and_flat_elsewhere() -> None:
    joints = np.array([[[[1, 2, 4], [-1, 0.5, 2], [0, 0, 0]]]], dtype=np.float32)
    np.testing.assert_allclose(project(joints)[0, 0], [[0.25, -0.5], [-0.5, -0.25], [0, 0]])
    joints[..., 2] -= 3
    np.testing.assert_allclose(project(joints)[0, 0, :2], [[1, -2], [-1, -0.5]])

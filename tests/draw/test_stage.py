"""Joints are drawn where they should be, in their colours."""

import numpy as np
import pytest
from PIL import Image

from skelfew.data.joints.layouts import layout_from_dict, load_layout
from skelfew.draw import PALETTES, UPS, VIEWS, Scene, evenly
from skelfew.draw.stage import GROUND, Colour, seen_joints, to_view
from skelfew.errors import SkelfewError

# A man of three joints: his hips, and a hand on either side.
MAN = layout_from_dict(
    {
        "name": "man",
        "joints": ["hips", "left_hand", "right_hand"],
        "bones": [["left_hand", "hips"], ["right_hand", "hips"]],
        "centre": "hips",
        "left_right": [["left_hand", "right_hand"]],
    }
)
LEFT, RIGHT, MIDDLE = PALETTES[0]


def man(at: tuple[float, float, float] = (0.0, 0.0, 3.0), frames: int = 1) -> np.ndarray:
    """(1, T, 3, 3): his left hand is at x + 1 and up, his right hand at z - 1 and down."""
    joints = np.array([(0, 0, 0), (1, 0.5, 0), (0, -0.5, -1)]) + at
    return np.repeat(joints[None, None], frames, axis=1).astype(np.float32)


def centre_of(picture: Image.Image, colour: Colour) -> np.ndarray:
    """Return the mean place (x, y) of the pixels in a colour."""
    rows, columns = np.nonzero((np.abs(np.asarray(picture).astype(int) - colour) < 9).all(axis=2))
    assert len(rows), f"nothing is drawn in {colour}"
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize(
    ("view", "right", "up"),
    [
        ("front", (1, 0, 0), (0, 1, 0)),
        ("side", (0, 0, 1), (0, 1, 0)),
        ("top", (1, 0, 0), (0, 0, 1)),
    ],
)
def test_views_of_a_kinect_recording(view: str, right: tuple, up: tuple) -> None:
    turned = to_view(np.array([[[right, up]]], dtype=float), view)
    np.testing.assert_array_equal(turned[0, 0, :, :2], [[1, 0], [0, 1]])


def test_what_is_nearer_to_the_viewer() -> None:
    # Towards the camera, to the camera's right, upwards.
    axes = np.array([[[(0, 0, -1.0), (1.0, 0, 0), (0, 1.0, 0)]]])
    assert [to_view(axes, view)[0, 0, i, 2] for i, view in enumerate(VIEWS)] == [1, 1, 1]


def test_up_turns_other_conventions_into_the_same_picture() -> None:
    kinect = np.array([[[(1.0, 2.0, 3.0)]]])
    same = {"y": kinect, "-y": kinect * (1, -1, 1), "z": kinect[..., [0, 2, 1]]}
    for up in UPS:
        for view in VIEWS:
            np.testing.assert_array_equal(to_view(same[up], view, up), to_view(kinect, view))


def test_flat_joints_are_seen_from_the_front_only() -> None:
    flat = np.array([[[(10.0, 20.0)]]])
    np.testing.assert_array_equal(to_view(flat, "front", "-y")[0, 0, 0], (10, -20, 0))
    with pytest.raises(SkelfewError, match=r"flat .* no view 'side'"):
        to_view(flat, "side")
    with pytest.raises(SkelfewError, match="view 'back'"):
        to_view(flat, "back")


def test_left_and_right_in_their_colours_at_their_places() -> None:
    picture = Scene.around(man(), MAN, "front", height=200).draw(0)
    left, middle, right = (centre_of(picture, c) for c in (LEFT, MIDDLE, RIGHT))
    assert left[0] > middle[0] + 20 and left[1] < middle[1] < right[1]
    side = Scene.around(man(), MAN, "side", height=200).draw(0)
    assert centre_of(side, RIGHT)[0] < centre_of(side, MIDDLE)[0] - 20  # towards the camera
    assert picture.size[1] == side.size[1] == 200


def test_pixels_grow_downwards() -> None:
    flat = np.array([[[(50.0, 50.0), (90.0, 20.0), (20.0, 90.0)]]])
    picture = Scene.around(flat, MAN, up="-y", flat=True).draw(0)
    assert centre_of(picture, LEFT)[1] < centre_of(picture, RIGHT)[1]


def test_the_stage_stays_while_the_body_moves() -> None:
    walk = np.concatenate([man(), man((2.0, 0.0, 3.0))], axis=1)
    stage = Scene.around(walk, MAN, height=120)
    there, here = (centre_of(stage.draw(t), MIDDLE)[0] for t in (1, 0))
    assert there - here == pytest.approx(2 * stage.scale, abs=1.5)


def test_the_floor_is_under_the_feet_and_not_in_a_picture_or_from_above() -> None:
    assert Scene.around(man(), MAN).floor == pytest.approx(-0.5)
    assert Scene.around(man(), MAN, "top").floor is None
    assert Scene.around(man()[..., :2], MAN, up="-y", flat=True).floor is None


@pytest.mark.parametrize("size", [0.002, 1.0, 3000.0])
def test_the_grid_suits_any_unit(size: float) -> None:
    stage = Scene.around(man() * size, MAN, height=240)
    assert 2 <= 240 / stage.scale / stage.step <= 6


def test_absent_bodies_and_unknown_joints_are_not_drawn() -> None:
    two = np.concatenate([man(frames=2), man((1, 1, 3), frames=2)])
    two[1, 0] = 0
    two[0, 1, 1] = np.nan
    seen = seen_joints(two)
    assert seen.tolist() == [
        [[True, True, True], [True, False, True]],
        [[False, False, False], [True, True, True]],
    ]
    stage = Scene.around(two, MAN)
    assert np.abs(np.asarray(stage.draw(0)).astype(int) - PALETTES[1].left).sum(axis=2).min() > 60
    centre_of(stage.draw(1), PALETTES[1].left)
    with pytest.raises(AssertionError, match="nothing is drawn"):
        centre_of(stage.draw(1), LEFT)


def test_keypoints_without_confidence_are_not_drawn() -> None:
    flat = np.array([[[(5, 5, 0.9), (7, 7, 0.0), (0, 0, 0.8)]]], dtype=float)
    assert seen_joints(flat, flat=True).tolist() == [[[True, False, False]]]
    # At the origin of space a joint of a centred skeleton is as good as any.
    assert seen_joints(flat).all()


def test_a_recording_without_any_body_is_an_empty_picture() -> None:
    picture = np.asarray(Scene.around(np.zeros((1, 2, 3, 3)), MAN).draw(1)).astype(int)
    assert (np.abs(picture - GROUND) < 30).all()


def test_joints_of_another_layout_are_refused() -> None:
    with pytest.raises(SkelfewError, match=r"\(1, 1, 3, 3\), expected \(bodies, frames, 20"):
        Scene.around(man(), load_layout("kinect-v1"))


def test_moments_are_the_middles_of_equal_parts() -> None:
    assert evenly(103, 8) == [6, 19, 32, 45, 57, 70, 83, 96]  # as segment_midpoints has them
    assert evenly(3, 8) == [0, 1, 2]

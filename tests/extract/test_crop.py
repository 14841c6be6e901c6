"""Which frames and which part of them the teacher sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skelfew_extract.crop import (
    Box,
    CropError,
    CropSettings,
    clip_box,
    crop_and_resize,
    segment_midpoints,
)


def test_midpoints() -> None:
    assert segment_midpoints(0, 80, 80, 8).tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    assert segment_midpoints(100, 103, 500, 8).tolist() == [100, 100, 100, 101, 101, 102, 102, 102]
    assert segment_midpoints(7, 8, 8, 4).tolist() == [7, 7, 7, 7]


def test_midpoints_of_what_skeleton_and_video_share() -> None:
    assert segment_midpoints(0, 100, 96, 8).tolist() == [6, 18, 30, 42, 54, 66, 78, 90]
    with pytest.raises(CropError, match="frames 0 to 100, but the video has 89"):
        segment_midpoints(0, 100, 89, 8)
    with pytest.raises(CropError, match="truncated"):
        segment_midpoints(100, 200, 90, 8)


@given(st.integers(0, 10_000), st.integers(1, 5000), st.integers(1, 32))
def test_midpoints_stay_in_the_segment(start: int, length: int, count: int) -> None:
    indices = segment_midpoints(start, start + length, start + length, count)
    assert len(indices) == count and (np.diff(indices) >= 0).all()
    assert start <= indices[0] and indices[-1] < start + length


def joints(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float32).reshape(1, 1, -1, 2)


def test_box_is_square_around_the_joints_with_margin() -> None:
    settings = CropSettings(margin=0.1)
    box, by_joints = clip_box(joints((400, 300), (500, 700)), 1920, 1080, settings)
    assert box == Box(450 - 240, 500 - 240, 450 + 240, 500 + 240) and by_joints


def test_box_covers_all_bodies_in_all_frames() -> None:
    pixels = np.full((2, 3, 4, 2), np.nan, dtype=np.float32)
    pixels[0, 0], pixels[0, 2], pixels[1, 1] = (500, 500), (700, 520), (620, 600)
    box, _ = clip_box(pixels, 1920, 1080, CropSettings(margin=0))
    assert (box.left, box.right) == (500, 700)
    assert box.top <= 500 and box.bottom >= 600


def test_box_is_shifted_into_the_picture_before_it_is_cut() -> None:
    box, _ = clip_box(joints((0, 10), (200, 210)), 1920, 1080, CropSettings(margin=0.5))
    assert box == Box(0, 0, 400, 400)
    box, _ = clip_box(joints((100, 0), (1800, 1070)), 1920, 1080, CropSettings(margin=0))
    assert box == Box(100, 0, 1800, 1080)  # wider than high: no joint is lost


def test_joints_outside_the_picture_do_not_count() -> None:
    inside = joints((400, 300), (500, 400))
    outside = joints((400, 300), (500, 400), (-50, 300), (1e6, 2), (np.nan, 5), (np.inf, 350))
    settings = CropSettings()
    assert clip_box(inside, 1920, 1080, settings) == clip_box(outside, 1920, 1080, settings)


def test_clips_without_joints() -> None:
    nothing = np.full((1, 5, 20, 2), np.nan, dtype=np.float32)
    with pytest.raises(CropError, match="no joint lies in the 640x480 picture"):
        clip_box(nothing, 640, 480, CropSettings())
    for policy in ("joints-or-centre", "centre"):
        box = clip_box(nothing, 640, 480, CropSettings(policy=policy))
        assert box == (Box(80, 0, 560, 480), False)
    square = clip_box(joints((10, 10), (40, 40)), 640, 480, CropSettings(policy="centre"))
    assert square == (Box(80, 0, 560, 480), False)


@given(
    st.lists(st.tuples(st.floats(0, 639), st.floats(0, 359)), min_size=1, max_size=6),
    st.floats(0, 2),
)
def test_box_lies_in_the_picture_and_holds_every_joint(
    points: list[tuple[float, float]], margin: float
) -> None:
    box, _ = clip_box(joints(*points), 640, 360, CropSettings(margin=margin))
    assert 0 <= box.left < box.right <= 640 and 0 <= box.top < box.bottom <= 360
    width, height = box.right - box.left, box.bottom - box.top
    assert width == height or height == 360
    for x, y in points:
        assert box.left - 1 <= x <= box.right + 1 and box.top - 1 <= y <= box.bottom + 1


@pytest.mark.parametrize(
    "box", [Box(30, 20, 730, 720), Box(0, 0, 900, 500), Box(100, 100, 150, 150)]
)
def test_resize_equals_pillow_to_one_grey_level(box: Box) -> None:
    draw = np.random.default_rng(0)
    frames = draw.integers(0, 256, (2, 760, 1000, 3), dtype=np.uint8)
    clip = crop_and_resize(frames, box, 224)
    assert clip.shape == (2, 3, 224, 224) and clip.dtype == np.uint8
    for i, frame in enumerate(frames):
        part = Image.fromarray(frame[box.top : box.bottom, box.left : box.right])
        expected = np.asarray(part.resize((224, 224), Image.Resampling.BILINEAR)).astype(int)
        assert abs(clip[i].transpose(1, 2, 0) - expected).max() <= 1


def test_settings_are_checked() -> None:
    with pytest.raises(CropError, match="policy 'face'"):
        CropSettings(policy="face")
    with pytest.raises(CropError, match="margin -1"):
        CropSettings(margin=-1)

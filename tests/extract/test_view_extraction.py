"""Several temporal views of a clip in one cache."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from extraction_world import FRAMES, SIZE, SmallTeacher, make_world, open_world, settings
from skelfew_extract.clips import DecodeSettings
from skelfew_extract.crop import CropSettings, segment_midpoints
from skelfew_extract.engines.decode_worker import decode_clip
from skelfew_extract.extract import extract

from skelfew.cache import TeacherCache


def test_one_view_is_the_middles_and_more_lie_between_them() -> None:
    all_of_three = segment_midpoints(10, 58, 100, 8 * 3)
    views = [all_of_three[v::3] for v in range(3)]
    np.testing.assert_array_equal(views[1], segment_midpoints(10, 58, 100, 8))
    assert (views[0] < views[1]).all() and (views[1] < views[2]).all()


def test_every_view_is_what_the_teacher_says_of_its_frames(tmp_path: Path) -> None:
    recordings = open_world(make_world(tmp_path, count=5, frames=48))
    crop = CropSettings(FRAMES, SIZE, views=3)
    three = replace(settings(), decode=DecodeSettings(crop, "auto", 60.0))
    extract(recordings, SmallTeacher(), tmp_path / "three.zarr", three)
    extract(recordings, SmallTeacher(), tmp_path / "one.zarr", settings())
    cache, one = (TeacherCache.open(tmp_path / f"{n}.zarr") for n in ("three", "one"))
    assert cache.video is not None and cache.video.shape == (5, 3, 16) == cache.text.shape
    assert (
        cache.attrs["preprocessing"]["views"] == 3 and cache.attrs["preprocessing"]["frames"] == 8
    )
    assert "views" not in one.attrs["preprocessing"]
    # Of 48 frames the middle view has those of the only one.
    assert one.video is not None
    np.testing.assert_array_equal(cache.video[:, 1], one.video[:, 0])
    assert np.abs(cache.video[:, 0] - cache.video[:, 2]).max() > 0
    _, pictures = decode_clip(recordings.task(4), three.decode)
    assert pictures is not None and len(pictures) == 24
    expected, _ = SmallTeacher().encode_clips(torch.from_numpy(pictures[2::3].copy())[None])
    row = cache.video[cache.row["clip_004"], 2]
    np.testing.assert_allclose(row, expected[0].numpy(), atol=2e-3)

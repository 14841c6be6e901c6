"""Contact sheets show the frames, what was cut out, and the crops."""

from pathlib import Path

import numpy as np
from extraction_world import make_world, open_world, settings
from PIL import Image
from skelfew_extract.clips import ClipTask
from skelfew_extract.crop import Box
from skelfew_extract.extract import preview
from skelfew_extract.preview import Sheet, sheet_path


def test_sheets_of_a_data_set(tmp_path: Path) -> None:
    recordings = open_world(make_world(tmp_path, 5))
    (recordings.videos / recordings.manifest.samples[2].video).unlink()
    sheets = preview(recordings, settings(), tmp_path / "sheets", 3)
    assert [sheet.name for sheet in sheets] == ["clip_000.png", "clip_004.png"]
    with Image.open(sheets[0]) as sheet:
        assert sheet.width == 8 * 228 + 4
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    yellow = (abs(pixels - (255, 200, 0)).max(axis=2) < 3).sum()
    assert yellow > 8 * 100, "a box in every frame"
    assert not list((tmp_path / "sheets").glob("*.partial"))


def test_box_joints_and_crops_are_where_they_should_be() -> None:
    frames = np.zeros((2, 100, 200, 3), dtype=np.uint8)
    clip = np.full((2, 3, 16, 16), 77, dtype=np.uint8)
    pixels = np.full((1, 10, 1, 2), (100.0, 50.0), dtype=np.float32)
    task = ClipTask(0, "s", "s", Path("v"), 40, 50, pixels)
    sheet = Sheet(task, pixels, np.array([42, 47]), Box(50, 0, 150, 100))
    for i in (1, 0):
        sheet.add(i, frames[i], clip[i])
    image = np.asarray(sheet.image)
    scale, left, top = 224 / 200, 4, 28
    joint = image[top + round(50 * scale), left + round(100 * scale)]
    edge = image[top + 60, left + round(50 * scale)]
    assert joint.tolist() == [0, 220, 255] and edge.tolist() == [255, 200, 0]
    crops = image[28 + 112 + 4 : 28 + 112 + 4 + 224, 4:228]
    assert (crops == 77).all()


def test_ids_cannot_lead_out_of_the_folder() -> None:
    folder = Path("sheets")
    for name in ("../../etc/passwd", "/etc/passwd", "..", "a/b", ".hidden", ""):
        assert sheet_path(folder, name).parent == folder

"""skelfew-show puts the right frames of a video beside the skeleton, with the crop box."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from skelfew_extract.crop import CropSettings, clip_box
from skelfew_extract.video_panel import read_video
from video_files import number_of, numbered_video

from skelfew.cli.show import main
from skelfew.data.manifest import Manifest, Sample
from skelfew.data.store import Skeleton
from skelfew.data.store_writer import SkeletonStoreWriter

FRAMES, START, WIDTH, HEIGHT = 30, 12, 160, 96


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A segment of a numbered video whose joints wander in the lower half of the picture."""
    monkeypatch.chdir(tmp_path)
    numbered_video(tmp_path / "videos" / "v", START + FRAMES)
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "v.local.json").write_text('{"videos": "videos"}')
    sample = Sample("seg", 1, "wave", FRAMES, 1, "v.mp4", START, START + FRAMES)
    Manifest("v", (sample,)).write("manifests/v.csv")
    rng = np.random.default_rng(0)
    pixels = rng.uniform((60, 50), (100, 80), (1, FRAMES, 15, 2)).astype(np.float32)
    positions = rng.normal(size=(1, FRAMES, 15, 3)).astype(np.float32)
    with SkeletonStoreWriter("data/v.h5", "joints-15", 15, pixels=True) as store:
        store.append("seg", Skeleton(positions, pixels))
    return tmp_path


def read(pixels: np.ndarray | None, moments: list[int], size: int = 107):  # type: ignore[no-untyped-def]
    (sample,) = Manifest.read("manifests/v.csv")
    return read_video(sample, pixels, Path("manifests/v.csv"), None, moments, size)


def test_the_frames_are_those_of_the_segment(home: Path) -> None:
    frames = read(None, [0, 7, 21, 29], size=124)  # 161 of 160 pixels: nearly unchanged
    assert [number_of(picture) for picture in frames.pictures] == [12, 19, 33, 41]
    assert frames.box is None and "no joints" in frames.note and frames.origin == (0, 0)


def test_more_frames_than_are_decoded_at_once(home: Path) -> None:
    frames = read(None, list(range(FRAMES)), size=124)
    assert [number_of(p) for p in frames.pictures] == list(range(START, START + FRAMES))


def test_the_box_is_the_extractors_and_what_is_around_it_is_shown(home: Path) -> None:
    pixels = np.full((1, FRAMES, 2, 2), (50.0, 30.0), np.float32)
    pixels[:, :, 1] = (82.0, 62.0)
    frames = read(pixels, [3])
    box, _ = clip_box(pixels, WIDTH, HEIGHT, CropSettings())
    assert frames.box == box
    assert 0 < frames.origin[0] < box.left
    shown = np.array(frames.pictures.shape[2:0:-1]) / frames.scale
    assert (shown + frames.origin <= np.array([WIDTH, HEIGHT]) + 1).all()
    assert shown[0] > 1.8 * (box.right - box.left)


def test_the_picture_has_video_box_and_skeleton(home: Path) -> None:
    result = CliRunner().invoke(main, ["seg", "--json", "--frames", "4"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["panels"][0].startswith("video; yellow") and len(document["panels"]) == 2
    assert document["notes"] == []
    with Image.open(document["picture"]) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.abs(pixels - (255, 200, 0)).max(axis=2) < 3).sum() > 4 * 100


@pytest.mark.parametrize("damage", ["gone", "broken", "unnoted"])
def test_a_lost_video_leaves_the_skeleton_and_a_note(home: Path, damage: str) -> None:
    video = home / "videos" / "v.mp4"
    if damage == "gone":
        video.unlink()
    elif damage == "broken":
        video.write_bytes(b"nothing")
    else:
        (home / "manifests" / "v.local.json").unlink()
    result = CliRunner().invoke(main, ["seg"])
    assert result.exit_code == 0 and Path("previews/seg.png").exists()
    (line,) = result.stderr.splitlines()
    assert line.startswith("without video: ")
    assert ("v.local.json" if damage == "unnoted" else "v.mp4") in line

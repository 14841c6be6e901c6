"""Every reader returns the frame asked for, in every kind of video, or refuses in one line."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from skelfew_extract.clips import ClipTask, DecodeSettings
from skelfew_extract.crop import CropSettings
from skelfew_extract.engines.decode_worker import decode_clip
from skelfew_extract.frames import all_frames, has_decord, probe, read_frames
from skelfew_extract.turning import shown_pixels
from video_cells import CODECS, TURNS, cells, compare, covering, make, sequential, write
from video_files import number_of

CELLS = list(covering())  # video_cells.py as a command reads all of ``cells()``


@pytest.mark.parametrize("codec", list(CODECS))
def test_every_cell_equals_decoding_from_the_start(codec: str, tmp_path: Path) -> None:
    for name, container, variant in CELLS:
        if name == codec:
            folder = tmp_path / f"{container} {variant}"
            folder.mkdir()
            path = make(folder, codec, container, variant)
            truth = sequential(path)
            for reader in ("auto", "all_frames"):
                assert compare(path, reader, truth) == "equal", path
            if has_decord():
                assert compare(path, "decord", truth).startswith(("equal", "decord")), path


def test_the_cells_cover_the_matrix() -> None:
    for part in (slice(0, 2), slice(0, 3, 2)):  # codec and container, codec and variant
        assert {cell[part] for cell in CELLS} == {cell[part] for cell in cells()}


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="the ffmpeg command is not installed")
@pytest.mark.parametrize("variant", ["plain", "trimmed 1", "trimmed 4", "turned 90", "rate varies"])
@pytest.mark.parametrize("codec", ["h264 B-frames", "h264 open groups", "h264 intra refresh"])
def test_what_ffmpeg_shows_is_what_is_read(codec: str, variant: str, tmp_path: Path) -> None:
    path = make(tmp_path, codec, "mp4", variant)
    info, shown = probe(path), [p.image for p in all_frames(path)]
    line = ["ffmpeg", "-v", "error", "-i", str(path), "-vsync", "passthrough", "-f", "rawvideo"]
    raw = subprocess.run([*line, "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    theirs = np.frombuffer(raw, np.uint8).reshape(-1, info.height, info.width, 3)
    assert len(shown) == len(theirs)
    assert np.abs(np.stack(shown).astype(int) - theirs).max() <= 3


@pytest.mark.parametrize("turn", TURNS)
def test_joints_follow_the_picture(turn: int, tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", "h264", "mp4", 8, turn=turn)
    info = probe(path)
    stored = np.array([[90.0, 8.0], [120.0, 20.0]], np.float32).reshape(1, 1, 2, 2)
    if turn != 180:  # beyond the picture as shown, so they were found in the stored one
        shown = shown_pixels(stored, info.width, info.height, info.turn)
        (x, y), flat = shown[0, 0, 1], read_frames(path, [5])[0]
        mark = np.zeros((64, 128, 3), np.uint8)
        mark[20, 120] = 255
        assert np.rot90(mark, turn // 90)[int(y), int(x)].all() and flat.shape == (128, 64, 3)
    upright = np.full((1, 1, 1, 2), 30.0, np.float32)
    same = shown_pixels(upright, info.width, info.height, info.turn)
    assert np.array_equal(same, upright), "as pose estimators find them"


def test_a_video_whose_size_changes_is_shown_at_that_of_its_first_picture(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / f"{w}.h264", "h264", "h264", 12, size=(w, w // 2)) for w in (128, 192)
    ]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = read_frames(path, [3, 11, 12, 20])
    assert frames.shape == (4, 64, 128, 3)
    assert [p.image.shape for p in all_frames(path)] == [(64, 128, 3)] * 24
    assert number_of(frames[1]) == 11


def test_many_views_of_a_large_picture_take_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = write(tmp_path / "v.mp4", "h264", "mp4", 40, size=(1280, 720))
    settings = DecodeSettings(CropSettings(8, 32, policy="centre", views=64))
    tracemalloc.start()
    report, clip = decode_clip(ClipTask(0, "v", "v", path, 0, 40), settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert clip is not None and clip.shape == (512, 3, 32, 32) and not report.stage
    assert peak < 24 * 1280 * 720 * 3, "a few pictures, not 512"


def test_a_video_with_fewer_pictures_than_promised_is_sampled_over_what_it_has(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "v.avi", "mpeg4", "avi")
    data = bytearray(path.read_bytes())
    last = data.rfind(b"00dc", 0, data.rfind(b"idx1")) + 8
    data[last : last + 8] = bytes(8)  # its last packet holds no picture
    path.write_bytes(bytes(data))
    assert probe(path).frames == 40 and len(list(all_frames(path))) == 39
    task = ClipTask(0, "v", "v", path, 0, 40)
    report, clip = decode_clip(task, DecodeSettings(CropSettings(40, 32, policy="centre")))
    assert clip is not None and not report.stage

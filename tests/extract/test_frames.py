"""Exact frames from every kind of file, and errors that name what is wrong."""

from pathlib import Path

import numpy as np
import pytest
from skelfew_extract.frames import VideoError, all_frames, has_decord, probe, read_frames
from video_files import KINDS, number_of, numbered_video, picture

DECODERS = ["auto", "pyav", *(["decord"] if has_decord() else [])]
# Those of which decord's frames are right; see test_why_decord_is_not_asked_for_avi.
DECORD_KINDS = {"h264-mp4", "h264-long-gop-mp4"}
PLACES = [5, 16, 28, 39, 51, 62, 74, 85]  # midpoints of eighths of 90


@pytest.fixture(scope="module", params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def video(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_video(tmp_path_factory.mktemp("videos") / "v", 90, kind)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_frames_asked_for(video: Path, kind: str, decoder: str) -> None:
    """Midpoints, the first, the last, both ends, in any order and repeated, one, all."""
    if decoder == "decord" and kind not in DECORD_KINDS:
        with pytest.raises(VideoError, match="decord returns wrong frames of"):
            read_frames(video, PLACES, decoder)
        return
    for places in (PLACES, [0], [89], [0, 1, 2, 89], [88, 3, 3, 40], [50], list(range(90))):
        frames = read_frames(video, places, decoder)
        assert frames.dtype == np.uint8 and frames.shape == (len(places), 96, 160, 3)
        assert [number_of(frame) for frame in frames] == places


@pytest.mark.skipif(not has_decord(), reason="decord is not installed")
@pytest.mark.parametrize("kind", ["h264-avi", "mpeg4-b-frames-mkv"])
def test_why_decord_is_not_asked_for_all_files(tmp_path: Path, kind: str) -> None:
    """If this fails, a newer decord is exact here and the list in frames.py may grow."""
    import decord

    video = numbered_video(tmp_path / "v", 90, kind)
    frames = decord.VideoReader(str(video), num_threads=1).get_batch(PLACES).asnumpy()
    assert [number_of(frame) for frame in frames] != PLACES


def test_all_frames_of_a_video_with_their_times(video: Path) -> None:
    shown = list(all_frames(video))
    assert [number_of(p.image) for p in shown] == [p.number for p in shown] == list(range(90))
    assert np.allclose([p.time for p in shown], np.arange(90) / 30, atol=1.1e-3)  # Matroska: ms
    part = list(all_frames(video, 40, 50))
    assert [number_of(p.image) for p in part] == list(range(40, 50))
    assert [p.time for p in part] == [p.time for p in shown[40:50]]
    assert not list(all_frames(video, 90)) and len(list(all_frames(video, 88, 200))) == 2


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    video = numbered_video(tmp_path / "v", 30)
    for decoder in DECODERS:
        frame = read_frames(video, [5], decoder)[0].astype(int)
        assert abs(frame[80, 80] - picture(5)[80, 80]).max() < 12  # its red differs from green


def test_probe(video: Path) -> None:
    info = probe(video)
    assert (info.width, info.height, info.frames, info.fps) == (160, 96, 90, 30)
    containers = {".mp4": "mov", ".mkv": "matroska", ".avi": "avi", ".ts": "mpegts"}
    assert info.container == containers[video.suffix]
    assert info.turn == (1, 0, 0, 1)


@pytest.mark.parametrize("decoder", DECODERS)
def test_errors_name_file_and_cause(tmp_path: Path, decoder: str) -> None:
    absent, empty, text = (tmp_path / name for name in ("absent.avi", "empty.avi", "text.avi"))
    empty.touch()
    text.write_text("not a video\n" * 100)
    whole = numbered_video(tmp_path / "whole", 30)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:3000])  # without its index, which is at the end
    unreadable = "not a readable video"
    causes = [(absent, "No such"), (empty, "empty file"), (text, unreadable), (cut, "no video")]
    for path, cause in causes:
        with pytest.raises(VideoError, match=cause) as error:
            read_frames(path, [0], decoder)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(VideoError, match="has 30 frames, frame 30 is not there"):
        read_frames(whole, [3, 30], decoder)
    with pytest.raises(VideoError, match="none negative"):
        read_frames(whole, [-1], decoder)


def test_a_truncated_avi_gives_what_it_has(tmp_path: Path) -> None:
    whole = numbered_video(tmp_path / "whole", 90, "mpeg4-avi")
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    available = probe(cut).frames
    assert 20 < available < 70
    assert number_of(read_frames(cut, [10], "pyav")[0]) == 10
    with pytest.raises(VideoError, match=f"has {available} frames, frame 80"):
        read_frames(cut, [80], "pyav")


def test_real_ntu_video(shared: Path) -> None:
    video = shared / "data" / "ntu" / "S001C001P001R001A001_rgb.avi"
    info = probe(video)
    assert (info.codec, info.width, info.height, info.frames) == ("h264", 1920, 1080, 103)
    places = [6, 57, 96]
    frames = read_frames(video, places)
    assert frames.shape == (3, 1080, 1920, 3) and frames.std() > 20
    one_by_one = [read_frames(video, [place])[0] for place in places]
    assert np.array_equal(frames, one_by_one)

"""From videos to skeletons: real people, and every odd video that a user may have."""

import hashlib
import itertools
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from skelfew_extract import pose, poses, video_reader
from skelfew_extract.camera import video_writer
from skelfew_extract.frames import all_frames
from skelfew_extract.poses import Poses, skeleton_of

from skelfew.cli.prepare import main
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest
from skelfew.data.prepare.plausible import Survey
from skelfew.data.store import SkeletonStore
from skelfew.errors import SkelfewError


@pytest.fixture(scope="module")
def lite(shared: Path) -> str:
    """The lite pose model."""
    path = shared / "models" / "pose_landmarker_lite.task"
    if not path.is_file():
        pytest.skip(f"{path} is absent: pose models are not part of the repository")
    pytest.importorskip("mediapipe")
    return str(path)


@pytest.fixture(scope="module")
def large(shared: Path) -> list[np.ndarray]:
    """Ten pictures 640x480 of a man who stands in the middle and bends down."""
    path = shared / "data" / "rgb" / "gmdcsa24" / "Subject_1_Fall_14.mp4"
    frames = itertools.islice(all_frames(path), 0, 30, 3)
    return [frame.image for frame in frames]


@pytest.fixture(scope="module")
def person(large: list[np.ndarray]) -> list[np.ndarray]:
    """The same, 320x240."""
    return [np.ascontiguousarray(image[::2, ::2]) for image in large]


def write(path: Path, pictures: Sequence[np.ndarray]) -> Path:
    """Write pictures as a video of ten a second."""
    with video_writer(path, 10) as add:
        for image in pictures:
            add(image)
    return path


def turned(video: Path) -> Path:
    """Give a video of pictures that lie on their side the display matrix of an upright phone."""
    content = video.read_bytes()
    at = content.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 240 << 16, 0, 1 << 30)
    video.write_bytes(content[:at] + matrix + content[at + 36 :])
    return video


def prepare(arguments: list[str]) -> int:
    return CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code


def read(video: Path, lite: str, **options: Any) -> Any:
    return video_reader.read_video(video, {"pose_model": lite, **options})


def test_a_folder_of_videos_becomes_manifest_store_and_pixels(
    lite: str, person: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metres upright, pixels on the person, a broken video in the table, nothing done twice."""
    monkeypatch.chdir(tmp_path)
    write(Path("clips/bend/one.mp4"), person)
    write(Path("clips/stand/one.MP4"), person[:1] * 5)
    Path("clips/bend/broken.mp4").write_bytes(b"no video at all")
    command = ["video", "--raw", "clips", "--pose-model", lite, "--workers", "1"]
    assert prepare(command) == 3
    manifest = Manifest.read(Path("manifests/video.csv"))
    assert [(s.sample_id, s.label, s.frames, s.video) for s in manifest] == [
        ("bend-one", "bend", 10, "bend/one.mp4"),
        ("stand-one", "stand", 5, "stand/one.MP4"),
    ]
    assert "broken.mp4" in Path("manifests/video.dropped.csv").read_text()
    with SkeletonStore(Path("data/video.h5")) as store:
        assert store.layout == "mediapipe-33" and store.coordinates == 3
        bend = store["bend-one"]
    names = list(load_layout("mediapipe-33").joints)
    head, foot = names.index("nose"), names.index("left_ankle")
    assert (bend.positions[0, 0, head, 1] - bend.positions[0, 0, foot, 1]) > 1.0  # metres, y up
    survey = Survey(load_layout("mediapipe-33"), 3)
    survey.add("bend", bend.positions)
    assert survey.findings() == []  # his toes and his face are before him: no mirror image
    assert bend.positions[0, 0, names.index("left_hip"), 0] < 0  # x to the left of the picture
    assert bend.pixels is not None
    assert np.allclose(np.nanmean(bend.pixels[0, 0], axis=0), (176, 105), atol=25)

    def again(*anything: object) -> None:
        raise AssertionError("poses are estimated a second time")

    monkeypatch.setattr(poses, "_estimate", again)
    Path("clips/bend/broken.mp4").unlink()
    assert prepare(command) == 0
    Path("segments.csv").write_text(
        "recording,label,start,end\nclips/bend/one.mp4,up,0,4\nclips/bend/one.mp4,down,4,10\n"
        "clips/bend/one.mp4,late,8,99\n"
    )
    table = ["video", "--table", "segments.csv", "--pose-model", lite, "--workers", "1"]
    table += ["--out", "manifests/parts.csv", "--data", "data/parts.h5"]
    assert prepare(table) == 3
    rows = [
        (s.label, s.start_frame, s.end_frame) for s in Manifest.read(Path("manifests/parts.csv"))
    ]
    assert sorted(rows) == [("down", 4, 10), ("up", 0, 4)]


@pytest.mark.parametrize("kind", ["upright phone", "two", "late", "one frame", "4K", "2D"])
def test_odd_videos_are_read_as_people_see_them(
    kind: str,
    lite: str,
    large: list[np.ndarray],
    person: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    black = np.zeros_like(person[0])
    one = read(write(tmp_path / "plain.mp4", person), lite)
    nose = np.nanmean(one.skeleton.pixels[0, :2, 0], axis=0)
    if kind == "upright phone":
        lying = [np.rot90(p) for p in person]  # as the sensor sees it
        found = read(turned(write(tmp_path / "phone.mp4", lying)), lite)
        assert np.allclose(np.nanmean(found.skeleton.pixels[0, :2, 0], axis=0), nose, atol=6)
    elif kind == "two":
        middle = [image[:, 200:520] for image in large]
        both = [np.concatenate([middle[0], image], axis=1) for image in middle]
        found = read(write(tmp_path / "two.mp4", both), lite)
        assert found.skeleton.positions.shape[0] == 2
        # The first is the one that moves, on the right.
        assert np.nanmean(found.skeleton.pixels[0, :, :, 0]) > 320
        assert np.nanmean(found.skeleton.pixels[1, :, :, 0]) < 320
    elif kind == "late":
        found = read(write(tmp_path / "late.mp4", [black] * 5 + person), lite)
        assert found.sample.start_frame == 5 and found.sample.end_frame == 15
        assert found.skeleton.positions[0, 0].any()
        joints, fps, _ = video_reader.read_joints(tmp_path / "late.mp4", {"pose_model": lite})
        assert joints.positions.shape[1] == 15 and not joints.positions[:, :5].any()
        assert fps == 10
    elif kind == "one frame":
        found = read(write(tmp_path / "one.mp4", person[:1]), lite)
        assert found.sample.frames == 1
    elif kind == "4K":
        huge = [np.kron(p, np.ones((9, 12, 1), np.uint8)) for p in person[:2]]
        assert huge[0].shape == (2160, 3840, 3)
        found = read(write(tmp_path / "huge.mp4", huge), lite)
        place = np.nanmean(found.skeleton.pixels[0, :, 0], axis=0)
        assert np.allclose(place, nose * (12, 9), rtol=0.1)
    else:
        found = read(tmp_path / "plain.mp4", lite, coordinates=2)
        assert found.skeleton.positions.shape[2:] == (33, 3)
        assert np.allclose(found.skeleton.positions[0, :2, 0, :2].mean(axis=0), nose, atol=1)


def test_a_video_without_people_and_a_wrong_model_are_errors(
    lite: str, person: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = write(tmp_path / "empty.mp4", [np.zeros_like(person[0])] * 3)
    with pytest.raises(SkelfewError, match=r"empty\.mp4: no person is found in any of 3 frames"):
        read(empty, lite)
    wrong = tmp_path / "wrong.task"
    wrong.write_bytes(b"nothing")
    with pytest.raises(SkelfewError, match=r"wrong\.task: no pose model"):
        read(empty, str(wrong))
    with pytest.raises(SkelfewError, match=r"no such pose model; name lite, full, heavy"):
        read(empty, "huge")


def test_a_model_by_name_is_fetched_once_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a folder that serves as the address; the hash decides."""
    monkeypatch.chdir(tmp_path)
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setattr(pose, "ADDRESS", served.as_uri() + "/{0}.task")
    with pytest.raises(SkelfewError, match=r"cannot be fetched .*; put file.* at weights/pose_"):
        pose.find_model("lite")
    (served / "pose_landmarker_lite.task").write_bytes(b"model")
    with pytest.raises(SkelfewError, match=r"has SHA-256 .*expected 59929e1d1ee9"):
        pose.find_model("lite")
    digest = hashlib.sha256(b"model").hexdigest()
    monkeypatch.setitem(pose.MODELS, "lite", (digest,))
    assert pose.find_model("lite").read_bytes() == b"model"
    (served / "pose_landmarker_lite.task").unlink()
    assert pose.find_model("lite") == Path("weights/pose_landmarker_lite.task")  # without network
    pose.find_model("lite").write_bytes(b"changed")
    with pytest.raises(SkelfewError, match="not Google's file"):
        pose.find_model("lite")
    assert capsys.readouterr().err.count("fetching") == 3


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["loose.mp4"], "lies beside the folders of the actions"),
        (["Wave/a.mp4", "wave/b.mp4"], "one action written in two ways"),
    ],
)
def test_folders_that_are_not_actions_are_errors(
    files: list[str], words: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SkelfewError, match=words):
        video_reader._of_folder(tmp_path)


def test_clips_of_one_name_and_two_suffixes_are_two_samples(tmp_path: Path) -> None:
    for name in ("wave/a.mp4", "wave/a.mov", "clap/a.mp4", ".hidden/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = video_reader._of_folder(tmp_path)
    found = {name: (row[0].sample_id, row[0].class_id) for name, row in rows.items()}
    assert found == {
        "clap/a.mp4": ("clap-a", 1),
        "wave/a.mov": ("wave-a.mov", 2),
        "wave/a.mp4": ("wave-a.mp4", 2),
    }


def made_up(frames: int, people: Sequence[Callable[[int], float | None]]) -> Poses:
    """Return poses of people who stand at x(t), each joint visible."""
    body = np.stack([np.arange(33) % 6 * 10, np.arange(33) * 5], axis=1)
    rows, frame = [], []
    for t in range(frames):
        for x in people:
            if (at := x(t)) is not None:
                joints = np.ones((33, 6), np.float32)
                joints[:, :2] = body + np.array([at, 0])
                joints[:, 3:] = 0.1
                rows.append(joints)
                frame.append(t)
    return Poses(np.array(rows), np.array(frame), frames, 30.0, (1000, 500))


def test_the_two_who_move_most_are_kept_and_the_rest_stated() -> None:
    walkers = made_up(40, [lambda t: 100, lambda t: 300 + 4 * t, lambda t: 600, lambda t: 700 + t])
    skeleton, first, notes = skeleton_of(walkers, 0, 40)
    assert first == 0 and len(skeleton.positions) == 2
    assert skeleton.pixels is not None
    assert (
        np.nanmin(skeleton.pixels[0, :, :, 0]) >= 300 > np.nanmin(skeleton.pixels[0, 0, :, 0]) - 1
    )
    assert np.nanmin(skeleton.pixels[1, :, :, 0]) >= 700
    assert notes[0] == "2 of 4 tracks of people left out"


def test_one_person_found_twice_is_one_person() -> None:
    twice = made_up(10, [lambda t: 100 + 9 * t, lambda t: 103 + 9 * t])
    skeleton, _, notes = skeleton_of(twice, 0, 10)
    assert len(skeleton.positions) == 1 and notes == ()

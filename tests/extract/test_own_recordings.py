"""One's own 2D keypoints are the joints in the picture: the teacher's crop follows them."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from extraction_world import SmallTeacher, moving_spot, settings
from skelfew_extract.engines.pool import decode_clips
from skelfew_extract.extract import extract
from skelfew_extract.recordings import Recordings
from video_files import write_video

from skelfew.cli.prepare import main

LAYOUT = """
joints = ["a", "b", "c", "d"]
bones = [["b", "a"], ["c", "a"], ["d", "a"]]
centre = "a"
"""


def test_crops_follow_the_keypoints_of_a_segment(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rig.toml").write_text(LAYOUT)
    lines = ["recording,label,video,start,end"]
    corners = []
    for number in range(2):
        pictures, pixels = moving_spot(number, 60)
        write_video(tmp_path / f"film{number}", pictures)
        joints = np.concatenate([pixels[0], np.ones((60, 4, 1), np.float32)], axis=-1)
        joints[33, 2] = 0  # not found once: interpolated for the encoder, unknown to the crop
        np.save(tmp_path / f"film{number}.npy", joints)
        corners.append(pixels[0])
        for label, start, end in (("come", 0, 12), ("go", 30, 44)):
            lines.append(f"film{number}.npy,{label},film{number}.mp4,{start},{end}")
    (tmp_path / "films.csv").write_text("\n".join(lines) + "\n")
    line = "own --table films.csv --layout rig.toml --option coordinates=2 --workers 1"
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 0, result.output

    recordings = Recordings.open(Path("manifests/films.csv"), Path("data/films.h5"), None)
    tasks = [recordings.task(row) for row in range(4)]
    assert [(t.sample_id, t.start, t.end) for t in tasks] == [
        ("film0_0_12", 0, 12),
        ("film0_30_44", 30, 44),
        ("film1_0_12", 0, 12),
        ("film1_30_44", 30, 44),
    ]
    clips = list(decode_clips(tasks, settings().decode, 1))
    for task, clip in zip(tasks, clips, strict=True):
        shown = corners[int(task.sample_id[4])][task.start : task.end]
        box = clip.report.box
        assert clip.report.joints and clip.pictures is not None
        assert (shown.min(axis=(0, 1)) >= (box.left, box.top)).all()
        assert (shown.max(axis=(0, 1)) <= (box.right, box.bottom)).all()
        assert box.right - box.left < 60, "not the whole picture"
    unknown = tasks[1].pixels[0, 3]
    assert np.isnan(unknown[2]).all() and np.isfinite(unknown[[0, 1, 3]]).all()

    summary = extract(recordings, SmallTeacher(), tmp_path / "films.zarr", settings())
    assert (summary.done, summary.failed, summary.centred) == (4, 0, 0)

"""The commands of docs/your-videos.md run as printed, with a smaller teacher, on real clips."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from walks import blocks

SMALLER = "--teacher xclip-demo"  # in place of X-CLIP B/16, which takes a minute
STEPS = ["clips", "ask", "live", "table", "train"]


@pytest.fixture(scope="module")
def walk(
    shared: Path, tmp_path_factory: pytest.TempPathFactory, commands: dict[str, str]
) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a block in one folder for all of them."""
    model = shared / "models" / "pose_landmarker_lite.task"
    if not model.is_file():
        pytest.skip(f"{model} is absent: pose models are not part of the repository")
    folder = tmp_path_factory.mktemp("walk")
    clips = shutil.copytree(shared / "data" / "rgb" / "gmdcsa24", folder / "gmdcsa24")
    clips.chmod(0o755)
    about = {**commands, "MODEL": str(model), "CLIPS": str(clips)}

    def run(name: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [
                "bash",
                "-e",
                "-c",
                blocks("your-videos.md")[name].replace("--untrained", f"{SMALLER} --untrained"),
            ],
            cwd=folder,
            env=about,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    run.folder = folder  # type: ignore[attr-defined]
    return run


def test_every_step_is_there() -> None:
    assert list(blocks("your-videos.md")) == STEPS


@pytest.mark.slow
def test_from_three_clips_an_action_to_a_live_label(
    walk: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    walk("clips")
    asked = walk("ask")
    assert re.search(r"Subject_3_Fall_19\.mp4 +fall +\d+%  \(then other \d+%\)", asked.stdout)
    assert re.search(r"[456] of 6 support recordings are recognised when left out", asked.stderr)
    assert "looks like" not in asked.stderr, "real people, in the order that MediaPipe gives"
    live = walk("live")
    assert re.search(r"94 frames in .* a second\); \d+ decisions", live.stderr)
    folder = walk.folder  # type: ignore[attr-defined]
    from skelfew_extract.frames import probe

    assert probe(folder / "fall.mp4").frames == 86
    assert probe(folder / "live.mp4").frames > 80
    assert len(list((folder / "data" / "poses").iterdir())) == 7


@pytest.mark.slow
def test_from_videos_to_a_score(walk: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    walk("table")
    trained = walk("train")
    assert "2-way 1-shot" in trained.stdout
    assert len(list((walk.folder / "previews").glob("*.png"))) == 8  # type: ignore[attr-defined]

"""``skelfew-extract`` as a person uses it: real videos, a real small X-CLIP, exit codes."""

import json
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from skelfew_extract.cli import main

sys.path.insert(0, str(Path(__file__).parents[1] / "extract"))
from extraction_world import make_world

pytestmark = pytest.mark.usefixtures("kept_decoders")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_world(tmp_path_factory.mktemp("world"), 6)
    (root / "manifests" / "spots.local.json").write_text(f'{{"videos": "{root}/videos"}}')
    return root


def run(world: Path, *arguments: str) -> Result:
    """Run the command in this process: a new one spends seconds on importing torch."""
    with chdir(world):
        return CliRunner().invoke(main, list(arguments), prog_name="skelfew-extract")


@pytest.mark.slow
def test_the_whole_way(world: Path) -> None:
    """Its first command in a process of its own: what goes to which stream, as a shell sees it."""
    options = ["spots", "--teacher", "xclip-demo", "--untrained", "--workers", "1"]
    sheets = ["--json", "--preview", "sheets", "--preview-count", "2"]
    command = [sys.executable, "-m", "skelfew_extract", *options, *sheets]
    done = subprocess.run(command, cwd=world, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)  # nothing but the document
    assert (summary["done"], summary["failed"], summary["cache"]) == (6, 0, "cache/spots.zarr")
    assert "untrained" in done.stderr and "6/6" in done.stderr and "clips/s" in done.stderr
    assert len(list((world / "sheets").glob("*.png"))) == 2

    video = world / "videos" / "clip_003.mp4"
    content = video.read_bytes()
    video.unlink()
    missing = run(world, *options, "--out", "cache/other.zarr")
    assert missing.exit_code == 3
    assert "5 of 6 samples done" in missing.stdout and "1 failed" in missing.stdout
    assert "cache/other.failures.csv" in missing.stderr and "--retry-failed" in missing.stderr
    video.write_bytes(content)
    retried = run(world, *options, "--out", "cache/other.zarr", "--retry-failed", "--json")
    assert retried.exit_code == 0
    assert json.loads(retried.stdout)["digest"] == summary["digest"]
    assert not (world / "cache" / "other.failures.csv").exists()


def test_one_of_two_machines(world: Path) -> None:
    options = ["spots", "--teacher", "xclip-demo", "--untrained", "--workers", "1"]
    done = run(world, *options, "--shard", "2/2", "--json")
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["cache"] == "cache/spots.shard-2-of-2.zarr"
    assert (summary["done"], summary["pending"]) == (3, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nothing"], 1, "skelfew-prepare nothing"),
        (["spots", "--videos", "nowhere"], 1, "--videos"),
        (["spots", "--teacher", "xclip-dem"], 1, "xclip-demo"),
        (["spots", "--weights", "absent.pth"], 1, "absent.pth"),
        (["spots", "--device", "cuda:77", "--untrained"], 1, "cuda:77"),
        (["spots", "--preview-only"], 2, "--preview"),
        (["spots", "--shard", "3/2"], 1, "--shard 3/2"),
        (["spots", "--margin", "-1"], 2, "--margin"),
        ([], 2, "DATASET"),
    ],
)
def test_errors_are_one_line(world: Path, arguments: list[str], status: int, message: str) -> None:
    result = run(world, *arguments)
    assert result.exit_code == status and result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert message in last and "Traceback" not in result.stderr
    assert last.lower().startswith("error: ")


def test_preview_needs_no_weights(world: Path) -> None:
    result = run(world, "spots", "--preview", "look", "--preview-count", "1", "--preview-only")
    assert result.exit_code == 0 and [p.name for p in (world / "look").iterdir()] == [
        "clip_000.png"
    ]

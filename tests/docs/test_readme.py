"""Every command of README.md runs: on fewer samples, with less training, else as printed."""

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from predict_world import make_predict_world
from servers import http_server
from warm import Warm

REPOSITORY = Path(__file__).resolve().parents[2]
EPISODES = " --width 0.125 --frames 8 --threads 1 --episodes 2 --queries 1"
EXTRACTION = "--limit 1 --batch 1 --teacher xclip-demo"
TRANSFER = " --batch 64 --epochs 1 --set transfer.hidden_dim=32"
Run = Callable[..., str]
# Commands too slow to run as they are, and what is put in their place.
SMALLER = (
    (re.compile(r"^(skelfew-train .*)$"), rf"\1{EPISODES}"),
    (re.compile(r"^(skelfew-train --cache .*)$"), rf"\1{TRANSFER}"),
    (re.compile(r'^(make extract-teacher .*ARGS=")(.*)$'), rf"\1{EXTRACTION} \2"),
    (re.compile(r"^make demo$"), "make demo ARGS=--quick"),
)

pytestmark = pytest.mark.skipif(
    Path(sys.prefix) != REPOSITORY / ".venv", reason="runs in the .venv that `make test` sets up"
)


def blocks() -> dict[str, list[str]]:
    """The shell blocks of the README by their names; the first one is the demo's."""
    text = (REPOSITORY / "README.md").read_text()
    found = re.findall(r"(?:<!-- readme: (\w+) -->\n)?```sh\n(.*?)```", text, re.DOTALL)
    return {name or "demo": block.strip().splitlines() for name, block in found}


def test_every_block_is_known() -> None:
    known = ["cache", "demo", "extract", "predict", "send", "skeletons", "videos"]
    assert sorted(blocks()) == known


@pytest.mark.parametrize(("stamp", "extras"), [("run", "prepare,extract"), ("dev", "dev")])
def test_make_installs_what_its_targets_need(stamp: str, extras: str) -> None:
    """An empty .venv is what a new user has, and what no other test has."""
    line = ["make", "-n", "-B", f".venv/.{stamp}"]
    message = subprocess.run(
        line, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert f" tools/install.py {extras} " in message


@pytest.fixture(scope="session")
def checkout(warm: Warm) -> Callable[[Path], Path]:
    """Makes a working folder with what a checkout holds, but none of its data."""

    def make(folder: Path) -> Path:
        (folder / ".venv").mkdir(parents=True)
        for name in ("Makefile", "pyproject.toml", "constraints.txt", "pipeline", "tools"):
            (folder / name).symlink_to(REPOSITORY / name)
        (folder / ".venv" / "bin").symlink_to(warm.folder)
        for stamp in (".run", ".dev"):
            (folder / ".venv" / stamp).touch()
        return folder

    return make


@pytest.fixture
def folder(tmp_path: Path, checkout: Callable[[Path], Path]) -> Path:
    return checkout(tmp_path / "checkout")


@pytest.fixture(scope="session")
def run(commands: dict[str, str]) -> Run:
    def run(line: str, folder: Path, raw: Path | None = None, **places: str) -> str:
        for pattern, smaller in SMALLER:
            line = pattern.sub(smaller, line)
        if raw is not None:
            line = line.replace("/data/", f"{raw}/")
        for name, place in places.items():
            line = line.replace({"web": "https://lab.example.org", "lab": "/mnt/lab"}[name], place)
        result = subprocess.run(
            line, shell=True, cwd=folder, env=commands, capture_output=True, text=True
        )
        assert result.returncode == 0, f"$ {line}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    return run


@pytest.fixture(scope="module")
def utd(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A raw folder with one trial of each action of UTD-MHAD by two of its subjects."""
    shared: Path = request.getfixturevalue("shared") / "data" / "utd-mhad"
    raw = tmp_path_factory.mktemp("raw")
    folder = raw / "utd-mhad"
    (folder / "depth_video").mkdir(parents=True)
    with zipfile.ZipFile(shared / "Skeleton.zip") as archive:
        for name in archive.namelist():
            if re.search(r"_s[12]_t1_skeleton\.mat$", name):
                (folder / Path(name).name).write_bytes(archive.read(name))
                video = Path(name).name.replace("skeleton.mat", "depth.mp4")
                (folder / "depth_video" / video).symlink_to(shared / "depth_video" / video)
    return raw


@pytest.mark.slow
def test_demo(run: Run, folder: Path) -> None:
    """The whole path, and once more: then nothing is made, and each run is gone on with."""
    (line,) = blocks()["demo"]
    table = run(line, folder)
    for row in ("raw skeletons", "aligned skeletons", "demo-contrast", "demo-labels", "chance 8.3"):
        assert row in table
    assert "without training" in table or "the best without training" in table
    assert list((folder / "previews" / "demo").glob("*.png"))
    for file in ("demo.html", "demo-labels/pictures/answers.png"):
        assert (folder / "runs" / file).stat().st_size > 10_000
    made = [folder / "data" / "demo.h5", folder / "runs" / "demo-labels" / "encoder.safetensors"]
    before = [path.stat().st_mtime_ns for path in made]
    assert run(line, folder) == table
    assert [path.stat().st_mtime_ns for path in made] == before


def test_cache_from_a_colleague(
    run: Run, checkout: Callable[[Path], Path], tmp_path: Path, utd: Path
) -> None:
    """Two folders act as two people, a third one as the web server of their lab."""
    ada, ben, lab = checkout(tmp_path / "ada"), checkout(tmp_path / "ben"), tmp_path / "lab"
    lab.mkdir()
    prepare, train, evaluate = blocks()["cache"]
    run(prepare, ada, utd)
    run("skelfew-extract utd-mhad --teacher xclip-demo --untrained --batch 32", ada)
    (send,) = blocks()["send"]
    assert "#digest=" in run(send, ada, lab=str(lab))
    shutil.rmtree(ada)
    with http_server(lab) as server:
        run(prepare, ben, utd)
        run(train, ben, web=server.url)
        assert "untrained" in run(evaluate, ben).lower()


def test_extraction(run: Run, folder: Path, utd: Path) -> None:
    weights = folder / "weights" / "xclip-base-patch16"  # as printed, with a smaller teacher in it
    weights.mkdir(parents=True)
    demo = REPOSITORY / "pipeline" / "skelfew_extract" / "teachers" / "xclip-demo.safetensors"
    shutil.copy(demo, weights / "model.safetensors")
    prepare, teach = blocks()["extract"]
    run(prepare, folder, utd)
    run(teach, folder)
    assert (folder / "cache" / "utd-mhad.zarr" / "zarr.json").is_file()
    assert list((folder / "previews" / "utd-mhad").glob("*.png"))


def test_skeletons_only(run: Run, folder: Path, shared: Path) -> None:
    prepare, train, evaluate = blocks()["skeletons"]
    run(prepare, folder, shared / "data" / "nw-ucla")
    run(train, folder)
    assert "5-way" in run(evaluate, folder)


def test_own_actions(run: Run, folder: Path) -> None:
    make_predict_world(folder)
    shutil.copy(folder / "others" / "c4" / "take8.npy", folder / "new-recording.npy")
    raw, reject = blocks()["predict"]
    assert run(raw, folder).startswith("new-recording.npy  c4 ")
    assert run(reject, folder).startswith("new-recording.npy  ")


def begin(clips: Path, name: str, target: Path) -> None:
    """Write the first second of a real clip: finding poses takes long."""
    from skelfew_extract.camera import video_writer
    from skelfew_extract.frames import all_frames

    with video_writer(target, 30) as add:
        for frame in all_frames(next(clips.rglob(f"Subject_{name}.mp4")), 0, 30):
            add(frame.image)


@pytest.mark.slow
def test_videos_of_your_own(run: Run, folder: Path, shared: Path) -> None:
    pytest.importorskip("mediapipe")
    model, clips = shared / "models" / "pose_landmarker_lite.task", shared / "data" / "rgb"
    if not model.is_file() or not clips.is_dir():
        pytest.skip(f"{model} or {clips} is absent")
    for label, names in {
        "fall": ("1_Fall_13", "2_Fall_13"),
        "other": ("2_ADL_23", "3_ADL_20"),
    }.items():
        (folder / "my-clips" / label).mkdir(parents=True)
        for name in names:
            begin(clips, name, folder / "my-clips" / label / f"{name}.mp4")
    begin(clips, "3_Fall_19", folder / "new-clip.mp4")
    (line,) = blocks()["videos"]
    assert run(f"{line} --pose-model {model}", folder).startswith("new-clip.mp4  ")
    assert (folder / "answer.mp4").stat().st_size > 10_000

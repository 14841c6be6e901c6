import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from small_world import make_world

from skelfew.cli.show import main
from skelfew.data.manifest import Manifest, Sample
from skelfew.data.store import Skeleton
from skelfew.data.store_writer import SkeletonStoreWriter
from skelfew.draw import PALETTES


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def drawn(picture: Image.Image) -> list[int]:
    """Return how many pixels are in the left, right and middle colour of the first body."""
    values = np.asarray(picture.convert("RGB")).astype(int)
    return [int((np.abs(values - c) < 9).all(axis=2).sum()) for c in PALETTES[0]]


def test_a_strip(home: Path) -> None:
    result = run("c3n4")
    assert result.exit_code == 0 and result.stdout == "previews/c3n4.png\n", result.output
    with Image.open("previews/c3n4.png") as picture:
        assert min(drawn(picture)) > 500
        one = picture.size
    assert run("c3n4", "--view", "front", "--view", "top", "--frames", 4).exit_code == 0
    with Image.open("previews/c3n4.png") as picture:
        assert picture.height > one[1] + 240 and picture.width < one[0]


def test_an_animation(home: Path) -> None:
    result = run("c3n4", "--out", "x/a.gif", "--frames", 7, "--fps", 15, "--json")
    document = json.loads(result.stdout)
    assert document["picture"] == "x/a.gif" and document["label"] == "action 3"
    assert document["frames"][:3] == [0, 2, 4] and len(document["frames"]) <= 7
    assert document["crop_box"] is None and document["notes"] == []
    with Image.open("x/a.gif") as picture:
        assert picture.n_frames == len(document["frames"])
        assert picture.info["duration"] == 130 and picture.info["loop"] == 0
        first = np.asarray(picture.convert("RGB"))
        picture.seek(3)
        assert min(drawn(picture)) > 60
        assert (np.asarray(picture.convert("RGB")) != first).any(), "it moves"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c3n44"], "close to it are c3n4"),
        (["c3n4", "--dataset", "tinny"], "manifests/tinny.csv: no such manifest"),
        (["c3n4", "--out", "a.jpg"], "a.jpg: a picture's name ends in .png (strip) or .gif"),
        (["c3n4", "--data", "no.h5"], "no.h5: no such skeleton store"),
    ],
)
def test_errors_are_one_line(home: Path, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1 and message in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not Path("previews").exists()


def test_without_pillow_it_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.startswith(("skelfew.draw", "PIL"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    result = run("c3n4")
    assert result.exit_code == 1
    assert "the package PIL is not installed; pip install 'skelfew[show]'" in result.stderr


@pytest.mark.parametrize("absent", ["skelfew_extract.video_panel", "av"])
def test_without_what_reads_videos_it_draws_the_skeleton_and_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    rows = (Sample("v1", 1, "wave", 5, video="v1.mp4", end_frame=5),)
    Manifest("filmed", rows).write("manifests/filmed.csv")
    Path("manifests/filmed.local.json").write_text('{"videos": "."}')
    Path("v1.mp4").write_text("a video")
    with SkeletonStoreWriter("data/filmed.h5", "joints-15", 15) as store:
        store.append("v1", Skeleton(np.random.default_rng(0).normal(size=(1, 5, 15, 3))))
    monkeypatch.setitem(sys.modules, absent, None)
    result = run("v1")
    assert result.exit_code == 0
    given = f"without video: {absent} is not installed; pip install 'skelfew[extract]'"
    assert result.stderr.startswith(given)
    with Image.open("previews/v1.png") as picture:
        assert min(drawn(picture)) > 100
    assert run("v1", "--no-video").stderr == ""


@pytest.mark.parametrize("sample_id", ["S001C001P001R001A001", "a12_s3_t1", "a01_s02_e01_v01"])
def test_real_recordings(shared: Path, home: Path, sample_id: str) -> None:
    from skelfew.data.prepare.walk import Outputs, prepare
    from skelfew.data.readers import RawFolder, load_reader

    raw, name = {
        "S": (shared / "data" / "ntu", "ntu"),
        "a12": (home / "raw", "utd-mhad"),
        "a01": (home / "raw", "nw-ucla"),
    }[sample_id[0] if sample_id[0] == "S" else sample_id[:3]]
    if not raw.exists():
        import zipfile

        archive = {"utd-mhad": "utd-mhad/Skeleton.zip", "nw-ucla": "nw-ucla/all_sqe.zip"}[name]
        with zipfile.ZipFile(shared / "data" / archive) as file:
            (member,) = [n for n in file.namelist() if Path(n).name.startswith(sample_id)]
            file.extract(member, raw)
    video = raw if name == "ntu" else shared / "data" / "utd-mhad"
    outputs = Outputs(Path(f"manifests/{name}.csv"), Path(f"data/{name}.h5"))
    prepare(name, RawFolder(raw, video), outputs, load_reader(name).defaults)
    result = run(sample_id, "--dataset", name, "--json", "--frames", 3)
    document = json.loads(result.stdout)
    assert document["notes"] == [], result.stderr
    if name == "nw-ucla":
        assert document["panels"] == ["front; grid 0.5 m"]
    else:
        assert document["panels"][0] == "video; yellow: the teacher's crop"
        left, top, right, bottom = document["crop_box"]
        assert right - left == bottom - top or name == "utd-mhad"
    with Image.open(document["picture"]) as picture:
        assert min(drawn(picture)) > 100

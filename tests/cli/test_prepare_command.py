import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelfew.cli.prepare import main
from skelfew.data.manifest import Manifest
from skelfew.data.readers import READERS, load_reader, parse_options
from skelfew.errors import SkelfewError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with ten NW-UCLA clips in raw/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    for subject in range(1, 11):
        joints = np.random.default_rng(subject).uniform(1, 2, (subject, 20, 3)).tolist()
        content = {"label": 1 + subject % 2, "skeletons": joints}
        name = f"a{1 + subject % 2:02}_s{subject:02}_e01_v0{1 + subject % 3}.json"
        (tmp_path / "raw" / name).write_text(json.dumps(content))
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_prepare_writes_where_the_other_commands_look(home: Path) -> None:
    result = run("nw-ucla", "--raw", "raw", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert len(Manifest.read("manifests/nw-ucla.csv")) == 10
    assert sorted(p.name for p in Path("manifests").iterdir()) == [
        "nw-ucla.csv", "nw-ucla.dropped.csv", "nw-ucla.local.json", "nw-ucla.notes.csv",
    ]  # fmt: skip
    assert "pick up with one hand" in result.stdout and "one frame only" in result.stdout
    assert "prepare: 10/10" in result.stderr and "samples" not in result.stderr


def test_json_is_one_document(home: Path) -> None:
    result = run("nw-ucla", "--raw", "raw", "--workers", 1, "--json")
    document = json.loads(result.stdout)
    assert document["samples"] == 10 and document["dropped"] == 0
    assert document["per_class"] == {"1": 5, "2": 5}
    assert document["per_view"] == {"1": 3, "2": 4, "3": 3}
    assert list(document["per_subject"]) == [str(s) for s in range(1, 11)]
    assert document["frames"] == {"min": 1, "median": 5.5, "max": 10, "sum": 55}


def test_damaged_recordings_end_with_3_and_are_named(home: Path) -> None:
    (home / "raw" / "a01_s11_e01_v01.json").write_text("{")
    result = run("nw-ucla", "--raw", "raw", "--workers", 1)
    assert result.exit_code == 3
    assert "1 damaged recordings were left out; see manifests/nw-ucla.dropped.csv" in result.stderr
    assert "not a skeleton in JSON" in result.stdout


def test_official_omissions_are_no_damage(home: Path) -> None:
    joint = "0.1 0.2 3.0 277 191 1036 519 -0.2 0.05 0.97 -0.12 2\n"
    text = "1\n1\n72057594037931101 0 1 1 1 1 0 0.02 0.05 2\n25\n" + 25 * joint
    for name in ("S001C002P005R002A008", "S001C001P001R001A001"):
        (home / "raw" / f"{name}.skeleton").write_text(text)
    result = run("ntu", "--raw", "raw", "--workers", 1, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert (document["samples"], document["dropped"], document["damaged"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nw-ucla"], 2, "--raw is missing"),
        (["nw-uclo"], 2, "no data set or command 'nw-uclo'"),
        (["nw-ucla", "--raw", "nowhere"], 1, "error: nowhere: no such file or folder"),
        (["utd-mhad", "--raw", "raw"], 1, "error: raw: no recordings of utd-mhad"),
        (["nw-ucla", "--raw", "raw", "--option", "x=1"], 1, "options and their defaults: zero_jo"),
        (["nw-ucla", "--raw", "raw", "--option", "x"], 1, "write it as key=value"),
        (["nw-ucla", "--raw", "raw", "--option", "zero_joints=no"], 1, "interpolate or keep"),
        (["nw-ucla", "--raw", "raw", "--videos", "v"], 1, "error: v: no such folder of videos"),
        (["check", "nw-ucla"], 1, "no such manifest; create it with skelfew-prepare nw-ucla"),
    ],
)
def test_errors_are_one_line(home: Path, arguments: list[str], status: int, message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == status
    assert message in result.stderr and "Traceback" not in result.output
    assert status == 2 or len(result.stderr.splitlines()) == 1
    assert not Path("manifests").exists()


def test_options_get_the_type_of_their_default() -> None:
    reader = load_reader("demo")
    options = parse_options(reader, ["subjects=3", "video=no"])
    assert options["subjects"] == 3 and options["video"] is False
    assert options["seed"] == reader.defaults["seed"]
    for wrong in ("subjects=three", "video=perhaps"):
        with pytest.raises(SkelfewError, match=wrong.split("=")[0]):
            parse_options(reader, [wrong])


def test_list_shows_every_data_set_and_its_options() -> None:
    result = run("list", "--json")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert set(rows) == set(READERS)
    assert rows["ntu"] == {
        "name": "ntu", "layout": "kinect-v2", "options": {"missing": "ntu120"}, "missing": "",
    }  # fmt: skip
    for name in READERS:
        assert name in run("list").stdout and name in run("--help").stdout
        assert ("--table" if name == "own" else "--raw") in run(name, "--help").stdout


def test_the_demo_makes_its_own_recordings(home: Path) -> None:
    pytest.importorskip("skelfew_extract.demoworld")
    options = ["--option", "classes=2", "--option", "subjects=1", "--option", "video=false"]
    result = run("demo", "--workers", 1, "--json", *options)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["samples"] == 4
    assert (home / "data" / "demo-raw").is_dir()


# --- check


def test_check_finds_nothing_where_nothing_is_wrong(home: Path) -> None:
    run("nw-ucla", "--raw", "raw", "--workers", 1)
    result = run("check", "nw-ucla", "--json")
    document = json.loads(result.stdout)
    assert document["problems"] == document["implausible"]  # made-up bodies are no bodies
    assert result.exit_code == (3 if document["problems"] else 0)
    assert document["samples"] == 10 and document["without_video"] == "all"
    assert document["empty_frames"] == document["non_finite_frames"] == 0


ROW = "a01_s10_e01_v02,1,pick up with one hand,10,1,,0,0,"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (None, 7, "damaged: its content has digest"),  # a value of the store
        (None, np.nan, "1 frames with NaN"),
        (f"{ROW}.*\n", "", "1 skeletons are not in the manifest: a01_s10_e01_v02"),
        ("a01_s10_e01_v02", "other", "1 samples have no skeleton: other"),
        (ROW, ROW.replace(",10,", ",11,"), "frames or bodies of 1 samples differ between manifest"),
        ("pick up with one hand", "lift", "the manifest is not the one that the skeletons were"),
        (
            ROW,
            ROW.replace(",,0,0,", ",gone.mp4,0,9,"),
            "1 videos are not where manifests/nw-ucla.local.json says: gone.mp4",
        ),
    ],
)
def test_check_ends_with_3_on_a_mismatch(
    home: Path, old: str | None, new: object, problem: str
) -> None:
    run("nw-ucla", "--raw", "raw", "--workers", 1)
    path = Path("manifests/nw-ucla.csv")
    text = path.read_text()
    assert ROW in text
    if old is None:
        with h5py.File("data/nw-ucla.h5", "r+") as file:
            file["positions"][20, 0, 0] = new
    else:
        path.write_text(re.sub(old, str(new), text))
    result = run("check", "nw-ucla", "--json")
    assert result.exit_code == 3
    assert any(problem in p for p in json.loads(result.stdout)["problems"]), result.stdout
    assert f"problem: {problem}"[:60] in result.stderr or problem in result.stderr


def test_check_shows_equal_skeletons(home: Path) -> None:
    content = (home / "raw" / "a01_s10_e01_v02.json").read_text()
    (home / "raw" / "a01_s10_e01_v03.json").write_text(content)
    run("nw-ucla", "--raw", "raw", "--workers", 1)
    document = json.loads(run("check", "nw-ucla", "--json").stdout)
    assert document["equal_pairs"] == [["a01_s10_e01_v02", "a01_s10_e01_v03"]]
    assert "1: a01_s10_e01_v02 = a01_s10_e01_v03" in run("check", "nw-ucla").stdout


def test_check_names_what_has_no_video(home: Path) -> None:
    run("nw-ucla", "--raw", "raw", "--workers", 1)
    path = Path("manifests/nw-ucla.csv")
    rows = path.read_text().replace(",,0,0,", ",v.mp4,0,9,").splitlines()
    rows[3] = rows[3].replace(",v.mp4,0,9,", ",,0,0,")
    path.write_text("\n".join(rows) + "\n")
    document = json.loads(run("check", "nw-ucla", "--json").stdout)
    assert document["without_video"] == [rows[3].split(",")[0]] and document["with_video"] == 9
    assert f"1: {document['without_video'][0]}" in run("check", "nw-ucla").stdout


def test_split_writes_a_protocol_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skelfew.data.manifest import Manifest, Sample
    from skelfew.data.protocols.protocol import load_protocol

    monkeypatch.chdir(tmp_path)
    samples = [Sample(f"c{c}n{i}", c, f"action {c}", 9) for c in range(1, 7) for i in range(4)]
    manifest = Manifest("mine", tuple(samples))
    manifest.write(tmp_path / "manifests" / "mine.csv")
    arguments = ["split", "mine", "--novel", "2,5", "--validation", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.stderr
    protocol = load_protocol("mine", manifest)
    assert protocol.novel == (2, 5)
    assert len(protocol.validation) == 1
    assert sorted((*protocol.base, *protocol.validation)) == [1, 3, 4, 6]
    assert {c: len(ids) for c, ids in protocol.exemplars(1).items()} == {2: 1, 5: 1}
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.stderr

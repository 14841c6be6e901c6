"""skelfew-predict as a person uses it: its output and its exit status."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from predict_world import make_predict_world
from real_recordings import some_actions

from skelfew.cli.predict import main


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_predict_world(tmp_path_factory.mktemp("predict"))


def run(folder: Path, *arguments: str, stdin: str | None = None) -> Result:
    """Run the command in this process: a new one spends seconds on importing torch."""
    with chdir(folder):
        return CliRunner().invoke(main, list(arguments), input=stdin)


def test_a_process_of_its_own(world: Path) -> None:
    """The only one: what goes to which stream, as a shell sees it."""
    command = [sys.executable, "-m", "skelfew.cli.predict", "--support", "my-actions", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    recording = "others/c3/take8.npy"
    done = subprocess.run(
        [*command, recording], cwd=world, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"][0]["name"] == recording
    lines = done.stderr.splitlines()
    assert lines[0] == "run runs/tiny"
    assert any(line.startswith("none of these below similarity") for line in lines)


def test_labels_for_people_and_for_machines(world: Path) -> None:
    recordings = [f"others/c{c}/take8.npy" for c in (3, 4, 5)]
    done = run(world, "--support", "my-actions", *recordings)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and lines[0].startswith("others/c3/take8.npy  c3")
    assert "(then c" in lines[0] and "%" in lines[0]
    assert "run runs/tiny" in done.stderr

    (world / "empty.csv").write_text("")
    done = run(world, "--support", "my-actions", "--json", *recordings, "empty.csv")
    assert done.exit_code == 3
    document = json.loads(done.stdout)
    assert [p["name"] for p in document["predictions"]] == recordings
    assert document["support"] == {"c3": 3, "c4": 3, "c5": 3}
    assert document["failed"] == [{"recording": "empty.csv", "error": "empty.csv: no frames"}]
    assert "error: empty.csv: no frames" in done.stderr


def test_other_recordings_are_counted(world: Path) -> None:
    done = run(world, "--support", "my-actions", "--test", "others", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["known"]["recordings"] == 15
    assert document["known"]["right"] == sum(row["right"] for row in document["actions"])
    shown = run(world, "--support", "my-actions", "--test", "others").stdout
    assert f"recognised: {document['known']['right']} of 15" in shown


def test_an_ensemble_of_runs(world: Path) -> None:
    shutil.copytree(world / "runs" / "tiny", world / "twins" / "tiny")
    given = ("--support", "my-actions", "others/c3/take8.npy", "others/c5/take7.npy", "--json")
    both = ("--run", "runs/tiny", "--run", "twins/tiny")
    alone, twice = (
        run(world, *given, *runs) for runs in (("--run", "runs/tiny"), (*both, "--ensemble"))
    )
    assert twice.exit_code == 0, twice.stderr
    documents = [json.loads(done.stdout) for done in (alone, twice)]
    assert documents[1]["run"] == "ensemble of runs/tiny, twins/tiny"
    for one, two in zip(*(d["predictions"] for d in documents), strict=True):
        assert one["label"] == two["label"]
        assert one["similarity"] == pytest.approx(two["similarity"], abs=1e-5)
        assert one["confidence"] == pytest.approx(two["confidence"], abs=1e-3)
    long = run(world, *given[:3], *both, "--ensemble", "--segments")
    assert long.exit_code == 0, long.stderr
    for line in (both, ("--run", "runs/tiny", "--ensemble")):
        assert "several --run are an --ensemble" in run(world, *given, *line).stderr
    graph = run(world, "--support", "my-actions", *both, "--ensemble", "--export", "x.pt2")
    assert graph.exit_code == 1 and "a graph holds one run" in graph.stderr


def test_none_of_these(world: Path) -> None:
    """Two actions are taught; the third is asked for too."""
    for action in ("c3", "c4"):
        shutil.copytree(world / "my-actions" / action, world / "two" / action)
    raw = ("--raw", "--layout", "kinect-v1", "--support", "two")
    done = run(world, *raw, "--reject", "--test", "others", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["rejection"]["rule"] == "leave-one-out"
    assert "none of these below similarity" in done.stderr
    assert document["known"]["right"] >= 8 and document["known"]["recordings"] == 10
    assert document["unknown"] == {"recordings": 5, "accepted": 0}
    shown = run(world, *raw, "--reject", "--test", "others").stdout
    assert "c5 (not taught)" in shown and "not taught and accepted: 0 of 5" in shown
    done = run(world, *raw, "others/c5/take8.npy")  # a file of unknown content
    assert "take8.npy  none of these" in done.stdout
    assert "compared without training: aligned joints; " in done.stderr
    assert "support recordings are recognised when left out" in done.stderr
    assert "none of these" not in run(world, *raw, "--no-reject", "others/c5/take8.npy").stdout
    done = run(world, *raw, "--test", "others")
    assert "not taught and accepted: 5 of 5" in done.stdout
    done = run(world, *raw, "--test", "two")
    assert done.exit_code == 1 and "a recording of the support set" in done.stderr


def test_without_any_run(world: Path) -> None:
    support = ("--support", str(world / "my-actions"))
    recording = str(world / "others" / "c3" / "take8.npy")
    for line in (
        ("--raw", recording),
        ("--raw", "joints", recording),
        (recording, "--raw=aligned"),
    ):
        done = run(world, "--layout", "kinect-v1", *support, *line)
        assert done.exit_code == 0 and "take8.npy  c3" in done.stdout, done.stderr


@pytest.mark.parametrize("data_set", ["utd-mhad", "nw-ucla"])
def test_empty_frames_around_a_recording_change_no_digit(
    shared: Path, tmp_path: Path, data_set: str
) -> None:
    """Three exemplars; no person in 0, n/2, n and 3n frames before, or after, each recording."""
    actions = list(some_actions(shared, data_set, each=5, step=7).items())[:4]
    answers: dict[str, list[object]] = {}
    for share in (0, 0.5, 1, 3):
        for at_end in (False, True):
            place, asked = tmp_path / f"{share}{at_end}", []
            for number, (_, clips) in enumerate(actions):
                for take, clip in enumerate(clips):
                    part = Path("taught" if take < 3 else "asked", str(number), f"{take}.npy")
                    (place / part).parent.mkdir(parents=True, exist_ok=True)
                    empty = np.zeros((int(share * len(clip)), *clip.shape[1:]))
                    np.save(
                        place / part, np.concatenate([clip, empty] if at_end else [empty, clip])
                    )
                    asked += [str(part)] if take >= 3 else []
            for form in ("aligned", "joints"):
                raw = ("--support", "taught", "--layout", "kinect-v1", f"--raw={form}", "--json")
                done = run(place, *raw, *asked)
                assert done.exit_code == 0, done.stderr
                found = json.loads(done.stdout)
                for answer in found["predictions"]:
                    del answer["notes"]  # of the empty frames
                answers.setdefault(form, []).append(found)
    assert len(asked) >= 4
    assert all(found == given[0] for given in answers.values() for found in given)


def test_another_axis_points_up(shared: Path, tmp_path: Path) -> None:
    """Noted of recordings whose z points up, and turned by --option up=z: the same answers."""
    actions = list(some_actions(shared, "utd-mhad", each=3, step=7).values())[:4]
    for number, clips in enumerate(actions):
        for take, clip in enumerate(clips):
            for form, values in (("y", clip), ("z", clip[..., [0, 2, 1]] * [1, -1, 1])):
                place = tmp_path / form / ("asked" if take == 2 else "taught") / str(number)
                place.mkdir(parents=True, exist_ok=True)
                np.save(place / f"{take}.npy", values)
    asked = [f"asked/{number}/2.npy" for number in range(4)]
    line = ("--raw", "--layout", "kinect-v1", "--support", "taught", "--json", *asked)
    usual, other = (run(tmp_path / form, *line) for form in "yz")
    turned = run(tmp_path / "z", *line, "--option", "up=z")
    assert "looks like swapped axes; --option up=z" in other.stderr
    assert "looks like" not in usual.stderr + turned.stderr
    assert usual.stdout == turned.stdout != other.stdout


def test_joints_of_another_layout_are_mapped_only_on_request(world: Path) -> None:
    np.save(world / "v2.npy", np.random.default_rng(0).normal(size=(9, 25, 3)) + 3)
    support = {f"{a}/1.npy": np.random.default_rng(a).normal(size=(9, 25, 3)) + 3 for a in (1, 2)}
    for name, values in support.items():
        (world / "v2" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(world / "v2" / name, values)
    arguments = ("--support", "v2", "--layout", "kinect-v2", "v2/1/1.npy")
    done = run(world, *arguments)
    assert done.exit_code == 1 and "--map-joints" in done.stderr and done.stdout == ""
    done = run(world, *arguments, "--map-joints")
    assert done.exit_code == 0 and done.stdout.startswith("v2/1/1.npy  1 "), done.stderr
    assert "joints mapped from kinect-v2 to kinect-v1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "Missing option '--support'"),
        (
            ("--support", "my-actions"),
            2,
            "name recordings, a folder of them with --test, or a --camera",
        ),
        (("--support", "nowhere", "x.npy"), 1, "nowhere: no such folder of actions"),
        (("--support", "my-actions", "--run", "nowhere", "x.npy"), 1, "nowhere: no run here"),
        (("--support", "my-actions", "x.npy"), 1, "x.npy: no such recording"),
        (("--support", "my-actions", "--raw", "x.npy"), 2, "say with --layout what the joints"),
        (("--support", "my-actions", "--option", "x", "x.npy"), 2, "expected KEY=VALUE"),
        (("--support", "my-actions", "--option", "x=1", "x.npy"), 1, "no option 'x'"),
        (("--support", "my-actions", "--device", "cuda:99", "x.npy"), 1, "--device cpu can"),
    ],
)
def test_errors_are_one_line(
    world: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    done = run(world, *arguments)
    assert done.exit_code == status, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr and done.stdout == ""
    if status == 1:
        assert sum(line.startswith("error:") for line in done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_an_export_runs_without_skelfew(world: Path) -> None:
    arguments = ("--raw=joints", "--layout", "kinect-v1", "--support", "my-actions")
    done = run(world, *arguments, "--export", "out/mine.pt2", "others/c3/take8.npy")
    assert done.exit_code == 0 and "out/mine.pt2: c3, c4, c5" in done.stderr, done.stderr
    assert done.stdout.startswith("others/c3/take8.npy  c3")
    loaded = torch.export.load(world / "out" / "mine.pt2").module()
    joints = np.load(world / "others" / "c3" / "take8.npy")
    assert int(loaded(torch.from_numpy(joints)[None])[0].argmax()) == 0
    done = run(world, *arguments, "--export", "mine.tflite")
    assert done.exit_code == 1 and "an export's name ends in .pt2" in done.stderr


def test_long_recordings(world: Path) -> None:
    """A file of several actions one after the other, and the same as a stream of JSON lines."""
    raw = ("--raw", "--layout", "kinect-v1", "--support", "my-actions", "--fps", "15")
    takes = [np.load(world / "others" / f"c{c}" / "take8.npy") for c in (3, 5, 4)]
    long = np.concatenate(takes)
    np.save(world / "long.npy", long)
    arguments = (*raw, "--support-fps", "15")
    done = run(world, *arguments, "--segments", "--json", "long.npy")
    assert done.exit_code == 0, done.stderr
    (document,) = json.loads(done.stdout)["recordings"]
    assert [s["label"] for s in document["segments"]] == ["c3", "c5", "c4"]
    assert document["frames"] == len(long) == 60
    assert document["segments"][1]["start_s"] == pytest.approx(20 / 15, abs=0.3)
    done = run(world, *arguments, "--segments", "long.npy", "gone.npy")
    assert done.exit_code == 3 and done.stdout.count("long.npy") == 3

    lines = [json.dumps(frame.tolist()) for frame in long]
    lines[3] = json.dumps({"time": 0.2, "joints": long[3].tolist()})
    lines.insert(0, "null")
    done = run(world, *arguments, "--stream", stdin="\n".join(lines))
    assert done.exit_code == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [s["label"] for s in found][:2] == ["c3", "c5"]
    assert "61 frames" in done.stderr and "windows of" in done.stderr
    done = run(world, *arguments, "--stream", stdin=lines[1] + "\n[[1, 2], 3]\n")
    assert done.exit_code == 1 and "line 2: no joints" in done.stderr
    done = run(world, *arguments, "--stream", stdin='{"x": 1}')
    assert done.exit_code == 1 and "an object without joints or bodies" in done.stderr
    done = run(world, *arguments, "--stream", "long.npy")
    assert done.exit_code == 2

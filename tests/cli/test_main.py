"""The command ``skelfew``: subcommands, version, doctor, completion."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from click.testing import CliRunner

import skelfew
from skelfew.cli.doctor import main as doctor
from skelfew.cli.main import COMMANDS, main


def test_every_script_is_a_subcommand() -> None:
    scripts = {
        e.name.removeprefix("skelfew-"): e.value
        for e in entry_points(group="console_scripts")
        if e.name.startswith("skelfew-")
    }
    assert scripts == {k: v for k, v in COMMANDS.items() if k not in ("demo", "doctor")}


@pytest.mark.parametrize("line", [["--version"], *([name, "--version"] for name in COMMANDS)])
def test_every_command_has_a_version(line: list[str]) -> None:
    result = CliRunner().invoke(main, line)
    assert (result.exit_code, result.output) == (0, f"skelfew {version('skelfew')}\n")
    assert skelfew.__version__ == version("skelfew")


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["trian"])
    assert result.exit_code == 2 and "trian" in result.output


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("skelfew tr", ["train"]),
        ("skelfew train --encoder ag", ["agcn"]),
        ("skelfew train --stages transfer,ep", ["transfer,episodic"]),
        ("skelfew train --dataset m", ["mine"]),
        ("skelfew eval --dataset ", ["mine"]),
        ("skelfew extract mi", ["mine"]),
        ("skelfew extract mine --teacher xclip-d", ["xclip-demo"]),
        ("skelfew prepare nw", ["nw-ucla"]),
        ("skelfew eval --mo", ["--mode"]),
        ("skelfew eval --mode dr", ["draws"]),
    ],
)
def test_completion(line: str, offered: list[str], tmp_path: Path) -> None:
    """What bash asks for and gets."""
    (tmp_path / "manifests").mkdir()
    for name in ("mine.csv", "mine.notes.csv"):
        (tmp_path / "manifests" / name).touch()
    words = line.split(" ")
    environment = {
        **os.environ, "_SKELFEW_COMPLETE": "bash_complete", "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    code = "from skelfew.cli.main import main; main(prog_name='skelfew')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert [item.split(",", 1)[1] for item in done.stdout.split()] == offered, done.stderr


def test_python_dash_m() -> None:
    line = [sys.executable, "-m", "skelfew", "eval", "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: skelfew eval")


def test_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for place in ("cache/a.zarr", "runs/r"):
        Path(place).mkdir(parents=True)
    Path("manifests").mkdir()
    for file in ("manifests/a.csv", "manifests/a.notes.csv", "runs/r/config.json"):
        Path(file).write_text("{}")
    text = CliRunner().invoke(doctor, []).output
    found = json.loads(CliRunner().invoke(doctor, ["--json"]).output)
    assert found["here"] == {
        "manifests": ["a.csv"],
        "skeletons": [],
        "caches": ["a.zarr"],
        "runs": ["r"],
    }
    assert found["packages"]["torch"] == version("torch") and version("torch") in text
    assert found["devices"][0].startswith("cpu")
    assert {"extract", "remote", "text"} <= set(found["extras"]) and "dev" not in found["extras"]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "skelfew.cli.doctor.requires", lambda name: ['no-such-package>=2; extra == "show"', "click"]
    )
    line = ["show", "missing:", "no-such-package>=2"]
    assert line in map(str.split, CliRunner().invoke(doctor, []).output.splitlines())

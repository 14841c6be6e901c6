"""What goes wrong outside of skelfew is one line that says what to do."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from skelfew.cli import evaluate_table
from skelfew.cli.common import guarded
from skelfew.cli.predict import main as predict
from skelfew.cli.prepare import main as prepare
from skelfew.cli.report import main as report
from skelfew.cli.reproduce import main as reproduce
from skelfew.cli.train import main as train


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), "runs/a/lock"), "no locks (NFS?)"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 3000), "shorter name"),
        (FileNotFoundError(errno.ENOENT, "No such file", "runs/a/log.csv"), "deleted or moved"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "can write to"),
        (OSError(errno.ESTALE, "Stale file handle", "runs/a"), "run the command again"),
        (MemoryError(), "not enough memory"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (RuntimeError("CUDA error: invalid device ordinal"), "--device cpu can"),
        (AssertionError("Torch not compiled with CUDA enabled"), "--device cpu can"),
        (ModuleNotFoundError("No module named 'av'", name="av"), "skelfew[extract]"),
        (ModuleNotFoundError("No module named 'scipy'", name="scipy.io"), "skelfew[prepare]"),
    ],
)
def test_faults_of_the_machine_are_no_bugs(error: Exception, message: str) -> None:
    @click.command()
    @guarded
    def command() -> None:
        raise error

    result = CliRunner().invoke(command)
    assert result.exit_code == 1
    assert message in result.stderr and "bug in skelfew" not in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_cache_that_does_not_exist_is_reported_at_once() -> None:
    start = time.perf_counter()
    result = CliRunner().invoke(train, ["--cache", "cache/none.zarr"])
    assert result.exit_code == 1 and "cache/none.zarr: no such cache" in result.stderr
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("option", "known"), [("--dataset=ntu60x", "ntu120, demo"), ("--budget=vast", "laptop, paper")]
)
def test_a_wrong_data_set_or_budget_of_a_table_imports_nothing_large(
    option: str, known: str
) -> None:
    code = (
        "import sys\nfrom skelfew.cli.reproduce import main\n"
        f"sys.argv = ['r', 'I', '{option}']\n"
        "try: main()\nfinally: assert not {'torch', 'zarr', 'h5py'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert f"{option.split('=')[1]!r}; there are {known}" in done.stderr


@pytest.mark.parametrize("kind", ["below a file", "a folder"])
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (prepare, "nw-ucla --raw raw --data data.h5 --out"),
        (prepare, "nw-ucla --raw raw --out out.csv --data"),
        (report, "none --html"),
        (reproduce, "I --dataset demo --write"),
    ],
)
def test_an_unwritable_place_is_reported_before_the_work(
    command: click.Command, arguments: str, kind: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    Path("file").touch()
    place = "file/x.y" if kind == "below a file" else "raw"
    result = CliRunner().invoke(command, [*arguments.split(), place])
    assert result.exit_code in (1, 2) and "bug in skelfew" not in result.stderr
    assert place.split("/")[0] in result.stderr.splitlines()[-1], result.stderr
    assert "no recordings" not in result.stderr and "no run" not in result.stderr


def test_the_list_of_tables_is_short_and_in_order() -> None:
    lines = CliRunner().invoke(reproduce, ["--list"]).stdout.splitlines()
    names = [line.split(":")[0] for line in lines]
    roman = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]
    assert [n for n in names if n in roman] == [n for n in roman if n in names]
    assert len(lines) < 30
    assert len(CliRunner().invoke(reproduce, ["--list", "II"]).stdout.splitlines()) > 3


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120])
def test_the_name_of_a_run_is_read_in_narrow_terminals(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate_table.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    accuracy = {"value": 0.5, "low": 0.25, "high": 0.75, "of": "queries", "count": 9}
    shared = {"chance": 0.2, "exemplars": {}, "queries": 9, "classes": [], "confusion": None}
    results = [{**shared, "draws": [0.25, 0.75]}]
    row = {
        "features": "nw-ucla-20261130",
        "classifier": "cosine-paper",
        "settings": {},
        "transductive": False,
        "micro": accuracy,
        "macro": accuracy,
        "results": results,
    }
    document = {
        "protocol": {"name": "p", "splits": []}, "data": {"dataset": "d"}, "shots": 1,
        "classes": "novel", "mode": "draws", "notes": [], "rows": [row], "within": None,
        "excluded_queries": [],
    }  # fmt: skip
    evaluate_table.show(document, verbose=False)
    lines = capsys.readouterr().out
    assert "nw-ucla-20261130" in lines and "50.0 % [25.0, 75.0]" in lines
    assert ("mean over classes" in lines) == (width >= 96)
    assert ("27.5 to 72.5" in lines) == (width >= 80)


def test_2d_keypoints_are_recognised_without_a_run(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for action, speed in (("rise", -5), ("fall", 5)):
        folder = tmp_path / "support" / action
        folder.mkdir(parents=True)
        for place in range(2):
            frames = np.repeat(random.uniform(100, 300, (1, 25, 3)), 20, axis=0)
            frames[:, 4, 1] += speed * np.arange(20)
            frames[..., 2] = 0.9
            np.save(folder / f"{place}.npy", frames)
    question = str(tmp_path / "support/rise/0.npy")
    result = CliRunner().invoke(
        predict,
        ["--raw", "--layout", "openpose-25", "--support", str(tmp_path / "support"), question],
    )
    assert result.exit_code == 0, result.stderr
    assert "rise" in result.stdout

"""What commands know already: they answer without torch, and measure again once a file changes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluation_world import make_data, make_run
from reproduce_world import make_table_world
from warm import Warm

from skelfew import registry
from skelfew.io.known import Known

HEAVY = {"torch", "zarr", "pandas", "scipy"}


def run(python: str, root: Path, module: str, arguments: list[str]) -> tuple[str, str, set[str]]:
    """Return stdout, stderr and which heavy modules a command has loaded."""
    code = (
        f"import sys\nfrom skelfew.cli.{module} import main\n"
        f"try: main({arguments!r})\n"
        f"finally: print(*sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [python, "-c", code], cwd=root, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    return done.stdout, "\n".join(lines[:-1]), set(lines[-1].split())


def evaluated(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Path]:
    make_data(root)
    monkeypatch.chdir(root)
    make_run(root, "mine")
    return ["--shots", "1"], root / "runs/mine/encoder.safetensors"


def reproduced(root: Path, _: pytest.MonkeyPatch) -> tuple[list[str], Path]:
    make_table_world(root)
    return ["small.toml", "--rows", "raw"], root / "data/tiny.h5"


def predicted(root: Path, _: pytest.MonkeyPatch) -> tuple[list[str], Path]:
    draw = np.random.default_rng(0)
    for name in ("support/wave/1", "support/kick/1", "new"):
        path = root / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, draw.normal(size=(20, 25, 3)).astype(np.float32))
    return ["--raw=joints", "--layout", "kinect-v2", "--support", "support", "new.npy"], (
        root / "support/kick/1.npy"
    )


@pytest.mark.parametrize(
    ("module", "make"), [("evaluate", evaluated), ("reproduce", reproduced), ("predict", predicted)]
)
def test_what_is_known_is_answered_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: Warm, module: str, make: object
) -> None:
    assert callable(make)
    arguments, file = make(tmp_path, monkeypatch)
    first, output, _ = run(warm.python, tmp_path, module, arguments)
    assert "nothing has changed" not in output
    again, output, loaded = run(sys.executable, tmp_path, module, arguments)
    assert again == first and not loaded, loaded
    assert "nothing has changed" in output
    os.utime(file, (1, 1))
    again, output, _ = run(warm.python, tmp_path, module, arguments)
    assert "nothing has changed" not in output


def test_an_answer_is_of_its_question_files_and_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("one")
    question = {"shots": 1}
    Known(tmp_path, question).keep([1.5], ["a", "absent", None])
    assert Known(tmp_path, question).answer() == [1.5]
    assert Known(tmp_path, {"shots": 5}).answer() is None
    Known(tmp_path, {"shots": 2}).keep(1, ["https://lab.example.org/a"])
    assert Known(tmp_path, {"shots": 2}).answer() is None
    Path("absent").touch()
    assert Known(tmp_path, question).answer() is None
    Path("absent").unlink()
    added = [("skelfew.heads", "mine", "mine:Head", "another-package")]
    with monkeypatch.context() as patch:
        patch.setattr(registry, "declared", lambda: added)
        assert Known(tmp_path, question).answer() is None
    Known(tmp_path, question).path.write_text("{")
    assert Known(tmp_path, question).answer() is None

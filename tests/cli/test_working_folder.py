"""Nothing in the working folder is imported: a trap for every module that there is."""

import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from skelfew.cli.main import COMMANDS

BIN = Path(sys.executable).parent
SCRIPTS = [f"skelfew-{name}" for name in COMMANDS if (BIN / f"skelfew-{name}").exists()]


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a module of every name, of Python's own and of what is installed."""
    folder = tmp_path_factory.mktemp("trapped")
    code = f"open({str(folder / 'SPRUNG')!r}, 'a').write(__name__ + '\\n')\nraise SystemExit(66)\n"
    for name in {*sys.stdlib_module_names, *packages_distributions()}:
        if name.isidentifier():
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(code)
    return folder


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_trap_is_live(trapped: Path) -> None:
    assert run(trapped, "python", "-c", "import json").returncode == 66
    (trapped / "SPRUNG").unlink()


@pytest.mark.slow
def test_commands_and_their_processes(trapped: Path) -> None:
    """Preparing and extracting start processes; the others must do so with the same context."""
    small = [
        "--option",
        "classes=3",
        "--option",
        "subjects=1",
        "--option",
        "views=1",
        "--workers",
        "2",
    ]
    extract = ["demo", "--teacher", "xclip-demo", "--limit", "2", "--workers", "1", "--batch", "2"]
    for command in (["skelfew-prepare", "demo", *small], ["skelfew-extract", *extract]):
        done = run(trapped, *command)
        assert done.returncode == 0, done.stderr
    for name in SCRIPTS:
        assert run(trapped, name, "--help").returncode == 0
    assert not (trapped / "SPRUNG").exists()


def test_all_processes_start_with_a_safe_path() -> None:
    package = Path(__file__).parents[2]
    for path in [*(package / "skelfew").rglob("*.py"), *(package / "pipeline").rglob("*.py")]:
        if path.name != "processes.py":
            text = path.read_text()
            assert "get_context(" not in text, path
            assert "multiprocessing.Process(" not in text and "os.system(" not in text, path

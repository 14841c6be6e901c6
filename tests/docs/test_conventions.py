"""Every command of docs/conventions.md prints what its row says."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from skelfew.cli.prepare import main as prepare

PAGE = (Path(__file__).parents[2] / "docs/conventions.md").read_text()
ROWS = re.findall(r"^\| [^|]+ \| [^|]+ \| `([^`]+)` \| `([^`]+)` \|$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("conventions")
    (settings,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (root / "small.toml").write_text(settings)
    line = "demo --option subjects=2 --option views=1 --option size=64"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        done = CliRunner().invoke(prepare, line.split())
        assert done.exit_code == 0, done.output
    return root


def test_every_row_is_read() -> None:
    assert len(ROWS) == PAGE.count("\n| ") - 1


@pytest.mark.parametrize(("command", "printed"), ROWS, ids=[row[0][:40] for row in ROWS])
def test_a_convention(folder: Path, command: str, printed: str, commands: dict[str, str]) -> None:
    words, environment = shlex.split(command), {**commands, "COLUMNS": "200"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
    assert printed in done.stdout + done.stderr
    assert "Traceback" not in done.stderr

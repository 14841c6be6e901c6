"""tools/run_tables.py, which `make test-tables` calls, on a table that is one training."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import run_tables
from click.testing import CliRunner
from small_world import write_cache
from warm import Warm

from skelfew.cli.prepare import main as prepare_command
from skelfew.data.manifest import Manifest
from skelfew.reproduce.tables import load_table

SCRIPT = Path(run_tables.__file__)


@pytest.mark.slow
def test_a_table_runs_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: Warm, commands: dict[str, str]
) -> None:
    """Videos and teacher are left to `make test-tables` itself: their steps count as done.

    The world is the smallest with the six samples of a class that an episode takes.
    """
    monkeypatch.chdir(tmp_path)
    smaller = "--option video=false --option subjects=3 --option views=2"
    world = [*run_tables.WORLD.split()[1:], *smaller.split()]
    made = CliRunner().invoke(prepare_command, world)
    assert made.exit_code == 0, made.output
    manifest = Manifest.read("manifests/demo.csv")
    draw = np.random.default_rng(0)
    texts = draw.normal(size=(len(manifest.classes), 16))
    place = {c: i for i, c in enumerate(manifest.classes)}
    seen = texts[[place[s.class_id] for s in manifest]]
    seen += 0.1 * draw.normal(size=seen.shape)
    write_cache(Path("cache/demo.zarr"), manifest, seen, (), (), True, texts)
    for step in ("world", "teacher", "text", "random", "export", "import", "weights"):
        Path(f".{step}").touch()
    done = subprocess.run(
        [warm.python, str(SCRIPT), ".", "XI", "--jobs", "1"],
        env={**commands, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "5 rows ran\n  XI nn\n  XI lc\n  XI cc\n  XI cosine\n  XI raw\n" in done.stdout
    assert "0 rows not run" in done.stdout and "0 rows failed" in done.stdout


@pytest.mark.parametrize(
    ("key", "line", "state"),
    [
        ("xclip", {"absent": "no cache/demo.zarr; make it with: skelfew-extract demo"}, "not run"),
        ("xclip", {"absent": "the transfer stage needs a teacher cache"}, "failed"),
        ("xclip", {"failed": {"collapsed": 1}}, "ran"),
        ("xclip", {"failed": {"out of memory?": 1}}, "failed"),
        ("xclip", {}, "failed"),
        ("xclip", {"results": [{"shots": 1}]}, "ran"),
        ("xclip", None, "failed"),
    ],
)
def test_what_became_of_a_row(key: str, line: dict | None, state: str) -> None:  # type: ignore[type-arg]
    table = load_table("XII")
    whole = line if line is None else {"absent": "", "failed": {}, "results": [], **line}
    assert run_tables.verdict(table, table.row(key), whole)[0] == state


def test_rows_without_an_implementation_did_not_run() -> None:
    table = load_table("II")
    row = replace(table.row("sl-dml-60"), missing="it was never written")
    line = {"absent": row.missing}
    assert run_tables.verdict(table, row, line) == ("not run", row.missing)

"""The examples run; the one of the method comes to the numbers of the commands."""

import re
import runpy
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from small_world import make_world

import skelfew

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def printed(name: str, *arguments: str) -> str:
    out, before = StringIO(), sys.argv
    sys.argv = [name, *arguments]
    try:
        with redirect_stdout(out):
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        sys.argv = before
    return out.getvalue()


def test_from_arrays_to_a_label() -> None:
    assert len((EXAMPLES / "few_shot.py").read_text().splitlines()) < 30
    assert re.fullmatch(r"push \(0\.\d\d\)\n", printed("few_shot.py"))


def test_the_method_on_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (EXAMPLES / "transfer.py").read_text()
    assert len(text.splitlines()) < 100
    assert set(re.findall(r"skelfew\.(\w+)", text)) <= set(skelfew.__all__)
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = [line.split() for line in printed("transfer.py", "cache/tiny.zarr").splitlines()]
    config = skelfew.preset("recommended")
    for key, value in {
        "inputs.cache": "cache/tiny.zarr", "protocol": "manifests/protocols/tiny.json",
        "encoder.width": 0.125, "data.frames": 16, "transfer.epochs": 2, "transfer.batch": 20,
        "transfer.hidden_dim": 64, "episodic.episodes": 6, "episodic.ways": 2, "device": "cpu",
    }.items():  # fmt: skip
        config = skelfew.override(config, key, value)
    run = skelfew.Run.open(skelfew.train(config, run_path="runs/a"))
    losses = [[r["stage"], str(r["epoch"]), r["loss"]] for r in run.rows()]
    assert [line[:2] for line in lines[:-1]] == [row[:2] for row in losses]
    for line, row in zip(lines, losses, strict=False):
        assert float(line[2]) == pytest.approx(row[2], abs=2e-6)
    document = skelfew.evaluate(run.path, split=None)
    score = document["rows"][0]["micro"]["value"]
    assert float(lines[-1][1]) == pytest.approx(score, abs=1e-6)

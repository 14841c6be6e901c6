"""Runs as a table in every format, and the paper's numbers beside them."""

import csv
import io
import json
import re
from contextlib import chdir
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from evaluation_world import make_data, make_run
from report_world import call, run_report

from skelfew.cli.evaluate import main as evaluate
from skelfew.config import TrainConfig, override, preset
from skelfew.report.quoted import quotes
from skelfew.report.table import as_latex, as_text
from skelfew.reproduce.budget import trained_alike


def test_the_table_for_people(world: Path) -> None:
    printed = run_report(world, "runs/one").output
    assert re.search(r"│ one +│ tiny, 2-way 1-shot │ cosine +│ \d+\.\d \[\d", printed)
    assert re.search(r"│ raw skeletons │ tiny, 2-way 1-shot", printed)
    assert "quoted" not in printed, "a column without a value is left out"
    assert "Note: the teacher (toy) was UNTRAINED" in printed


def test_every_format_has_the_same_numbers(world: Path) -> None:
    (kept,) = (world / "runs" / "one" / "results").glob("*.json")
    written = json.loads(kept.read_text())["rows"]
    micro = {row["features"]: row["micro"]["value"] for row in written}
    document = json.loads(run_report(world, "runs", "--json").stdout)
    assert {row["run"]: row["accuracy"] for row in document["rows"]} == micro
    assert document["html"] is None and document["rows"][0]["teacher_untrained"] is True
    table = csv.DictReader(io.StringIO(run_report(world, "runs", "--format", "csv").stdout))
    assert {row["run"]: float(row["accuracy"]) for row in table} == micro
    lines = run_report(world, "runs", "--format", "markdown").stdout.splitlines()
    assert lines[1] == "|---|---|---|---|---|---|---|" and len(lines) == 4
    assert f"| {100 * micro['one']:.1f} [" in lines[2]
    latex = run_report(world, "runs", "--format", "latex").stdout
    assert r"\begin{tabular}{lllllrr}" in latex and r"accuracy [95 \%]" in latex
    assert f"{100 * micro['raw skeletons']:.1f} [" in latex


def test_what_latex_reads_as_commands_is_spelt_out() -> None:
    row = as_latex([list("abcdefg"), ["a_b & 5 %", r"\x", "{#}", "$~^", "<|>", "", ""]])
    assert r"a\_b \& 5 \% & \textbackslash{}x & \{\#\} & \$\textasciitilde{}" in row
    assert "a/b" in as_text([{"run": "a|b", "finished": False}], "markdown")


def test_the_newest_of_equal_scores_counts_and_runs_without_one_are_rows(copy: Path) -> None:
    results = copy / "runs" / "one" / "results"
    (kept,) = results.glob("*.json")
    document = json.loads(kept.read_text())
    document["created"] = "2099-01-01T00:00:00+0000"
    document["rows"][0]["micro"]["value"] = 0.125
    (results / "a-later-one.json").write_text(json.dumps(document))
    (copy / "runs" / "two").mkdir()
    (copy / "runs" / "two" / "config.json").write_text(
        (copy / "runs" / "one" / "config.json").read_text()
    )
    rows = json.loads(run_report(copy, "runs", "--json").stdout)["rows"]
    assert [(r["run"], r.get("accuracy")) for r in rows][:2] == [("one", 0.125), ("two", None)]
    assert len(rows) == 3 and "not finished" in run_report(copy, "runs").output


def test_a_renamed_run_is_known_by_its_encoder(copy: Path) -> None:
    (copy / "runs" / "one").rename(copy / "runs" / "renamed")
    rows = json.loads(run_report(copy, "runs/renamed", "--json").stdout)["rows"]
    assert [row["run"] for row in rows] == ["renamed", "raw skeletons"]


def test_a_mean_over_splits_is_a_row_and_so_is_what_each_run_has_in_it(tmp_path: Path) -> None:
    make_data(tmp_path)
    with chdir(tmp_path):
        for split, name in (("1", "a"), ("2", "b")):
            make_run(tmp_path, name, protocol="tiny-splits", split=split)
    both = ("--run=runs/a", "--run=runs/b")
    call(tmp_path, evaluate, *both, "--average", "--raw=joints", "--threads=1")
    rows = json.loads(run_report(tmp_path, "runs", "--json").stdout)["rows"]
    assert [(row["run"], row["splits"]) for row in rows] == [
        ("a", "1"), ("b", "2"), ("2 runs", "1+2"), ("raw skeletons", "1+2")
    ]  # fmt: skip
    mean = next(row for row in rows if row["run"] == "2 runs")
    assert mean["accuracy"] == pytest.approx((rows[0]["accuracy"] + rows[1]["accuracy"]) / 2)
    assert mean["seed"] is None and mean["interval_over"] == "splits"
    run_report(tmp_path, "runs/a", "--html", "page.html")
    assert "Confusion matrix" in (tmp_path / "page.html").read_text()


def trained(**settings: object) -> TrainConfig:
    """The settings of a finished run, in which nothing is left to the data set."""
    config = override(preset("paper"), "inputs.cache", "cache/ntu120.zarr")
    found = {"data.frames": 64, "data.missing_body": "duplicate", "episodic.ways": 20,
             "transfer.representation": "f_v+f_t"}  # fmt: skip
    for key, value in {**found, **settings}.items():
        config = override(config, key.replace("__", "."), value)
    return config


def test_quoted_numbers_are_those_of_runs_trained_alike() -> None:
    def same(config: TrainConfig, classifier: str = "cosine", shots: int = 1) -> dict[str, float]:
        found = quotes("ntu120", shots, partial(trained_alike, config, "ntu120", classifier))
        return {quote.where: quote.percent for quote in found if quote.same}

    full = same(trained())
    assert full == dict.fromkeys(
        ("Table I", "Table VII", "Table VIII", "Table X", "Table XII"), 70.4
    )
    assert same(trained(), shots=5) == {"Table I": 79.5}
    assert same(trained(transfer__representation="f_t")) == {"Table VIII": 62.3}
    assert same(trained(transfer__decay=0.0)) == {"Table X": 68.0}
    assert same(trained(inputs__cache="cache/ntu120-actionclip.zarr"))["Table XII"] == 70.8
    assert "Table XI" not in full and same(trained(), "cosine-paper")["Table XI"] == 70.4
    assert same(trained(encoder__name="ctrgcn"))["Table I"] == 71.0
    episodes = trained(stages=("episodic",), transfer__decay=0.5, traditional__epochs=3)
    assert same(episodes)["Table VII"] == 57.0, "settings of idle stages are not compared"
    head = override(episodes, "episodic.head", "protonet")
    assert same(head, "protonet")["Table VII"] == 58.8


@pytest.mark.parametrize(
    "changed",
    [
        {"encoder__width": 0.125},
        {"transfer__epochs": 1},
        {"transfer__batch": 32},
        {"preset": "recommended"},
        {"data__base_classes": 5},
        {"train_on_validation": False},
    ],
)
def test_a_smaller_run_is_beside_no_number_of_the_paper(changed: dict[str, object]) -> None:
    config = trained(**{k: v for k, v in changed.items() if k != "preset"})
    config = replace(config, preset=str(changed.get("preset", "paper")))
    alike = partial(trained_alike, config, "ntu120", "cosine")
    assert not [q for q in quotes("ntu120", 1, alike) if q.same]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("runs/none",), 1, "runs/none: no run here"),
        (("runs/one", "--embed"), 2, "--embed is for the page; give --html FILE too"),
        (("runs/one", "--format", "pdf"), 2, "Invalid value"),
        (("runs/one", "--pairs", "-1", "--html", "x.html"), 2, "Invalid value"),
        (("runs/one", "--html", "."), 2, "is a directory"),
    ],
)
def test_impossible_requests_are_refused(
    world: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    assert message in run_report(world, *arguments, status=status).output


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "not a readable JSON file"),
        ("{}", "not a result of skelfew-eval"),
        ('{"format": "skelfew-result", "format_version": 9}', "format version 9, this skelfew"),
        ('{"format": "skelfew-result", "format_version": 1}', "subjects is missing"),
        ("x", "could not convert"),
        (None, "float() argument"),
        (float("nan"), "is no accuracy"),
    ],
)
def test_a_damaged_result_is_named(copy: Path, value: object, message: str) -> None:
    """Its whole text, or in a whole one the accuracy."""
    (good,) = (copy / "runs" / "one" / "results").glob("*.json")
    document = json.loads(good.read_text())
    document["rows"][0]["micro"]["value"] = value
    text = value if str(value).startswith("{") else json.dumps(document)
    good.with_name("bad.json").write_text(str(text))
    printed = run_report(copy, "runs/one", status=1).output
    assert printed.startswith("error: runs/one/results/bad.json: ") and message in printed

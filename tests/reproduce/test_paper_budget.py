"""Budget paper is Section V-B of the paper, row by row; its plans need no data."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from skelfew.cli.reproduce import main
from skelfew.fewshot import POOLED, build_classifier
from skelfew.fewshot.trained import settings_of
from skelfew.reproduce import plan as planning
from skelfew.reproduce.budget import start
from skelfew.reproduce.everything import PAPER, paper_rows, steps
from skelfew.reproduce.tables import list_tables, load_table
from skelfew.reproduce.units import Request, Work

# "We use the Adam optimizer with an initial learning rate of 0.1 and a target decay rate of 0.99
# for 100 epochs of training. The batch size is set to 128, with a weight decay of 0.01.
# Specifically, for the predictor, its learning rate is multiplied by 10." "SGD with a momentum of
# 0.9 and weight decay of 0.0001 is used as the optimizer. The initial learning rate is set to
# 0.001 and the cosine annealing strategy is employed." BYOL's MLP is 4096-256.
SECTION_V_B = {
    "encoder.name": "agcn", "encoder.width": 1.0, "data.stream": "joint", "data.frames": None,
    "train_on_validation": True, "data.base_classes": None, "data.samples_per_class": None,
    "transfer.optimizer.name": "adam", "transfer.optimizer.lr": 0.1, "transfer.decay": 0.99,
    "transfer.epochs": 100, "transfer.batch": 128, "transfer.optimizer.weight_decay": 0.01,
    "transfer.predictor": True, "transfer.predictor_lr": 10.0, "transfer.hidden_dim": 4096,
    "transfer.projection_dim": 256, "transfer.output_bias": False,
    "transfer.representation": "auto",
    "episodic.head": "cosine", "episodic.optimizer.name": "sgd", "episodic.optimizer.momentum": 0.9,
    "episodic.optimizer.weight_decay": 1e-4, "episodic.optimizer.lr": 1e-3,
    "episodic.optimizer.schedule": "cosine",
}  # fmt: skip


KEY = "transfer.representation"


@pytest.mark.parametrize(
    ("table", "dataset"),
    [("I", "ntu120"), ("III", "ntu60"), ("IV", "pku-mmd"), ("V", "nw-ucla"), ("X", "ntu120"),
     ("XII", "ntu60")],
)  # fmt: skip
def test_ours_is_trained_as_the_section_says(table: str, dataset: str) -> None:
    loaded = load_table(table, dataset, "paper")
    key = {"X": "full", "XII": "xclip"}.get(table, "transfer")
    config = start(loaded, loaded.row(key), dataset, "paper")
    assert config.preset == "paper" and config.stages == ("transfer", "episodic")
    flat = config.flat()
    assert {name: flat[name] for name in SECTION_V_B} == SECTION_V_B
    used = {k for k in config.changed() if k.split(".")[0] not in ("traditional", "metric")}
    assert not used, "the plan's command is --preset paper and no more"


@pytest.mark.parametrize("name", list_tables())
def test_the_tables_of_the_package_hold(name: str) -> None:
    """``load_table`` checks settings of encoders in tables of others only."""
    table = load_table(name)
    assert "?" in table.question and len(table.budgets) >= 2
    for row in table.rows:
        for budget in table.budgets if row.features == "encoder" and not row.missing else ():
            start(table, row, next(iter(table.datasets)), budget).encoder.checked(shared=True)


def test_a_classifier_of_every_unit_is_tuned_as_the_section_says() -> None:
    """20 epochs on the support set, at a rate of 0.0005; every unit is scored by all of POOLED."""
    tuned = settings_of(build_classifier("cosine-paper"))
    assert "cosine-paper" in POOLED and tuned["tune_steps"] == 20 and tuned["lr"] == 5e-4


@pytest.mark.parametrize("table", ["I", "III", "IV", "V"])
def test_a_row_on_a_graph_differs_in_its_head_or_its_encoder_alone(table: str) -> None:
    loaded = load_table(table)
    dataset, seen = next(iter(loaded.datasets)), 0
    for row in loaded.rows_for(dataset):
        if row.missing or not row.stages or not set(row.stages) <= {"transfer", "episodic"}:
            continue
        config = start(loaded, row, dataset, "paper")
        parts = (*row.stages, "encoder", "data", "train_on_validation")
        own = {key for key in config.changed() if key.split(".")[0] in parts}
        if config.encoder.name in ("agcn", "ctrgcn"):
            # NW-UCLA's teacher saw no video, where "auto" is f_t too.
            texts = {"transfer.representation"} if config.flat().get(KEY) == "f_t" else set()
            assert own <= {"encoder.name", "episodic.head", "episodic.head_settings", *texts}
            seen += 1
    assert seen >= 8


def planned(monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    """The plan, at half a second a clip: full-size encoders take minutes to measure here."""
    monkeypatch.setattr(planning, "seconds_a_clip", lambda unit: 0.5)
    result = CliRunner().invoke(main, [*options, "--plan"])
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("table", "dataset"), [("I", "ntu120"), ("V", "nw-ucla")])
def test_a_plan_without_data_prints_the_section_line_by_line(
    table: str, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = planned(monkeypatch, table, "--budget", "paper", "--dataset", dataset)
    lines = dict(line.split("  ", 1) for line in text.splitlines() if "  " in line)
    here = {says: rest.strip() for says, rest in lines.items()}
    assert "encoder.name=agcn, encoder.width=1.0" in here["the selected skeleton encoder is AGCN"]
    frames = 52 if dataset == "nw-ucla" else 64
    assert here["data preprocessing aligned with CTR-GCN"].startswith(f"data.frames={frames},")
    assert "auto (f_v+f_t" in here["f_VL = f_v + f_t (IV-A)"]
    assert here["batch size 128"] == "transfer.batch=128"
    assert here["100 epochs"] == "transfer.epochs=100"
    assert here["target decay rate 0.99"] == "transfer.decay=0.99"
    assert here["weight decay 0.01"] == "transfer.optimizer.weight_decay=0.01"
    assert (
        "optimizer.name=adam, transfer.optimizer.lr=0.1" in here["Adam, initial learning rate 0.1"]
    )
    assert "hidden_dim=4096, transfer.projection_dim=256" in text
    assert "momentum=0.9, episodic.optimizer.weight_decay=0.0001" in text
    tuned = here["cosine classifier, 20 epochs, initial learning rate 0.0005"]
    assert tuned == "classifier cosine-paper: tune_steps=20, lr=0.0005"
    assert f"skelfew-extract {dataset}" in text and "is not prepared here" in text
    # The command of the paper's own row is the preset and nothing more.
    command = next(line for line in text.splitlines() if "/transfer-" in line)
    assert "--preset paper" in command and "--set episodic.ways=" in command
    assert command.count("--set") == 1


def test_all_is_every_number_of_the_paper_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = json.loads(planned(monkeypatch, "all", "--device", "cpu,cpu:0", "--json"))
    steps = [(step["table"], step["dataset"]) for step in plan["steps"]]
    assert steps == [(table, dataset) for table, names in PAPER.items() for dataset in names]
    for step in plan["steps"]:
        table = load_table(step["table"])
        quoting = [row.key for row in table.rows if row.quoted.get(step["dataset"])]
        assert step["asked"] == quoting, "rows that the paper has numbers of"
        shown = {row for unit in step["units"] for row in unit["rows"]}
        assert shown == set(quoting) or not quoting
    alone = sum(u["seconds"] for step in plan["steps"] for u in step["units"])
    assert plan["seconds"] == alone > 0
    assert alone / 2 <= plan["seconds_by_workers"] < 0.51 * alone, "two devices, side by side"
    # Table XI reads the training of Table X's default row, so it costs nothing again.
    costs = {step["table"]: sum(u["seconds"] for u in step["units"]) for step in plan["steps"]}
    assert costs["XI"] == 0 < costs["X"]


def test_all_says_what_runs_and_leaves_out_what_is_not_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(planning, "seconds_a_clip", lambda unit: 0.5)
    result = CliRunner().invoke(main, ["all", "--dataset", "nw-ucla"])
    assert result.exit_code == 3 and "step 1 of 1: V on nw-ucla" in result.stderr
    prepare = "make it with: skelfew-prepare nw-ucla --raw PATH"
    assert prepare in result.stderr and "1  V      nw-ucla" in result.stderr
    assert "--budget paper --rows protonet,feat," in result.stderr
    alone = CliRunner().invoke(main, ["V", "--dataset", "nw-ucla"])
    assert alone.exit_code == 1 and prepare in alone.stderr
    shown = CliRunner().invoke(main, ["V", "--dataset", "nw-ucla", "--show"])
    assert shown.exit_code == 0 and "82.1" in shown.stdout and "not run yet" in shown.stdout
    shown = CliRunner().invoke(main, ["all", "--dataset", "nw-ucla", "--show", "--json"])
    assert [t["table"] for t in json.loads(shown.stdout)["tables"]] == ["V"], "one document"
    result = CliRunner().invoke(main, ["all", "--dataset", "kinetics"])
    assert result.exit_code == 2 and "no table of the paper is on kinetics" in result.stderr
    result = CliRunner().invoke(main, ["all", "--dataset", "demo", "--budget", "tiny"])
    assert result.exit_code == 1 and "make it with: skelfew-prepare demo" in result.stderr
    for options, message in (
        ("--splits=999", "nw-ucla has 20 splits, not 999"),
        ("--cache=odd=x", "--cache odd: table V has teacher, text"),
    ):
        result = CliRunner().invoke(main, ["all", "--dataset", "nw-ucla", "--plan", options])
        assert result.exit_code in (1, 2) and message in result.stderr
    assert CliRunner().invoke(main, ["all", "--list"]).stdout.startswith("I: ")
    options = ["--splits", "2", "--keep", "--set", "transfer.batch=8", "--cache", "text=a b.zarr"]
    command = planned(monkeypatch, "all", "--dataset", "nw-ucla", *options).splitlines()[-1]
    assert command.endswith("--splits 2 --cache 'text=a b.zarr' --set transfer.batch=8 --keep")


def test_all_on_a_data_set_of_ours_is_all_that_runs_on_it() -> None:
    assert [table for table, _ in steps("demo")] == list(PAPER)
    others = [table for table, _ in steps("utd-mhad")]
    assert others == ["II", "V", "VII", "VIII", "IX", "X", "XI", "XII", "fig6"]
    assert steps("nw-ucla") == [("V", "nw-ucla")], "the paper's own set"
    rows = paper_rows(load_table("V"), "demo")
    assert rows == paper_rows(load_table("V"), "nw-ucla") and "protonet" in rows


def test_paper_rows_are_scored_by_the_tuned_classifier() -> None:
    """At budget paper: the paper's own rows, and not those whose method says how it is scored."""
    scorers = {"paper": "cosine-paper", "recommended": "cosine", "laptop": "cosine"}
    for budget, ours in scorers.items():
        table = load_table("V").at(budget)
        scored = {row.key: row.classifier for row in table.rows}
        assert {scored[k] for k in ("transfer", "transfer-ctrgcn", "traditional")} == {ours}
        assert scored["protonet"] == "protonet" and scored["tcn"] == "nearest"
        assert {scored[k] for k in ("skeleton-dml", "sl-dml", "attention", "fc")} == {"cosine"}


@pytest.mark.parametrize(
    ("table", "row"),
    [("I", "transfer"), ("II", "transfer-100"), ("VIII", "f_v+f_t"), ("X", "full"), ("XI", "cc"),
     ("XII", "xclip"), ("fig6", "decay-0.99")],
)  # fmt: skip
def test_a_plan_shows_the_section_for_the_row_that_varies_nothing(
    table: str, row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_table(table, None, "paper").at("paper")
    work = Work([], {}, {}, "seeds", "", 1)
    asked = Request(loaded, table, "ntu120", "paper")
    lines = planning._settings(asked, work)
    here = {line["paper"]: line["here"] for line in lines}
    assert {line["row"] for line in lines} == {row}
    assert here["target decay rate 0.99"] == "transfer.decay=0.99"
    assert "cosine-paper: tune_steps=20" in lines[-1]["here"]

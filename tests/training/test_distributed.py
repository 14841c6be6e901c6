"""Several processes come to the numbers of one. What is equal is so to rounding, see TOLERANCE."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from small_world import FAST, make_world
from warm import Warm

from skelfew.encoders import build_encoder
from skelfew.errors import SkelfewError
from skelfew.runs.folder import Run
from skelfew.training.distributed import GlobalBatchNorm, World, check_supported
from skelfew.training.loop import StageLoop

# Of losses in float32. In float64 they agree to 1e-12 (world_steps.py); rounding grows with the
# steps and the learning rate, at the 0.1 of traditional training beyond any use within ten.
TOLERANCE = 1e-3
FLIPS = 10
# 40 samples in batches of 14, 13 and 13, so that the two slices are unequal.
# CTR-GCN, whose rounding stays small in these few steps; that of AGCN grows to a hundredth.
PLAN = [*FAST, "--encoder=ctrgcn", "--stages=transfer,episodic", "--batch=16", "--epochs=2"]
PLAN += ["--set=episodic.episodes=2", "--set=episodic.epoch_episodes=1"]
KEYS = ("loss", "accuracy", "target_spread", "prediction_rank")


def processes(warm: Warm, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [warm.python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=300, env=environment
    )


def torchrun(warm: Warm, *arguments: str) -> subprocess.CompletedProcess[str]:
    return processes(
        warm, "-m", "--", "skelfew.cli.train", *arguments
    )  # else --run is its own option


@pytest.mark.slow
def test_steps_of_two_processes_are_those_of_one(warm: Warm) -> None:
    """Losses, weights and running statistics, with slices of 3 and 4, at a rate of 0.1."""
    done = processes(warm, str(Path(__file__).with_name("world_steps.py")), "agcn")
    assert done.returncode == 0, done.stderr
    trained = json.loads(done.stdout)
    assert trained["many"] == pytest.approx(trained["one"], rel=1e-11)
    assert trained["one"][0] != pytest.approx(trained["one"][-1], rel=1e-3)
    assert trained["weights"] < 1e-11


def alone(*arguments: str) -> int:
    from skelfew.cli.train import main

    try:
        main(arguments, standalone_mode=False)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    cache = make_world(tmp_path_factory.mktemp("world"))
    protocol = cache.parent.parent / "manifests" / "protocols" / "tiny.json"
    return [f"--cache={cache}", f"--protocol={protocol}", *PLAN]


@pytest.fixture(scope="module")
def single(plan: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "single"
    assert alone(*plan, f"--run={run}") == 0
    return run


def curve(run: Path) -> list[tuple[Any, ...]]:
    rows = Run.open(run).rows()
    return [(r["stage"], r["epoch"], {k: r[k] for k in KEYS if k in r}) for r in rows]


def assert_same_curve(one: Path, other: Path) -> None:
    left, right = curve(one), curve(other)
    assert [row[:2] for row in left] == [row[:2] for row in right]
    for (stage, _, a), (_, _, b) in zip(left, right, strict=True):
        assert a == pytest.approx(b, rel=TOLERANCE, abs=TOLERANCE), stage
    # Counts of 3,600 queries, of which rounding may tip one that lies on a boundary.
    hits = [[row["validation_accuracy"] for row in Run.open(run).rows()] for run in (one, other)]
    assert hits[0] == pytest.approx(hits[1], abs=FLIPS / 3600)


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(
    warm: Warm, plan: list[str], single: Path, tmp_path: Path
) -> None:
    double = tmp_path / "double"
    done = torchrun(warm, *plan, f"--run={double}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(double)], "the first process alone reports"
    assert "2 processes" in (double / "log.txt").read_text()
    assert_same_curve(single, double)
    assert sorted(p.name for p in double.iterdir()) == sorted(p.name for p in single.iterdir())


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(
    warm: Warm, plan: list[str], single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, step = tmp_path / "run", StageLoop._step

    def stop_in_second_epoch(loop: StageLoop, batch: Any) -> None:
        step(loop, batch)
        loop.stop.asked |= loop.position.epoch == 1

    with monkeypatch.context() as patch:
        patch.setattr(StageLoop, "_step", stop_in_second_epoch)
        assert alone(*plan, f"--run={run}") == 130
    assert len(curve(run)) == 1, "stopped in the middle of the second epoch"
    done = torchrun(warm, f"--resume={run}")
    assert done.returncode == 0, done.stderr
    assert_same_curve(single, run)


@pytest.mark.parametrize("shape", [(6, 3), (5, 3, 4), (4, 3, 2, 5)])
def test_batch_norm_over_processes_is_batch_norm(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    kind = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d}[len(shape)]
    layer, copy = kind(3).double(), kind(3).double()
    torch.nn.init.normal_(layer.weight)
    copy.load_state_dict(layer.state_dict())
    ours = GlobalBatchNorm.of(copy, World())
    assert list(ours.state_dict()) == list(layer.state_dict())
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    probe = torch.randn(shape, dtype=torch.float64)
    (layer(x) * probe).sum().backward()
    (ours(y) * probe).sum().backward()
    torch.testing.assert_close(y.grad, x.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.weight.grad, layer.weight.grad)
    torch.testing.assert_close(ours.bias.grad, layer.bias.grad)
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(y), layer.eval()(x))


def test_slices_cover_the_batch() -> None:
    covered = [range(11)[World(rank, 3).mine(11)] for rank in range(3)]
    assert [i for part in covered for i in part] == list(range(11))
    with pytest.raises(SkelfewError, match="2 samples for 3 processes"):
        World(0, 3).mine(2)


@pytest.mark.parametrize(
    ("stages", "encoder", "reads", "named"),
    [
        (("aimclr",), "ctrgcn", "pooled", "aimclr"),
        (("episodic",), "ctrgcn", "frames", "head soft-dtw"),
        (("traditional",), "stgcn", "pooled", "dropout"),
    ],
)
def test_what_would_differ_is_refused(
    stages: tuple[str, ...], encoder: str, reads: str, named: str
) -> None:
    from skelfew.data.joints.layouts import load_layout

    built = build_encoder(encoder, load_layout("joints-15"), width=0.125)
    with pytest.raises(SkelfewError, match=named):
        check_supported(stages, built, "soft-dtw", reads)

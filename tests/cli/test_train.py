"""skelfew-train as a user meets it: help, usage errors, output, going on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_world import FAST, make_world

from skelfew.cli.train import main
from skelfew.runs.folder import Run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world")).parent.parent


@pytest.fixture
def in_world(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(world)
    return world


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_help_has_headings() -> None:
    status, out, _ = run("--help")
    assert status == 0
    for heading in ("Data:", "Plan:", "Encoder:", "Transfer", "Episodic stage:", "Run:", "Other:"):
        assert heading in out
    assert out.count("--cache ") > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --cache cache/NAME.zarr, or --dataset NAME"),
        (["--dataset=a", "--run=x", "--name=y"], "give one"),
        (["--dataset=a", "--epochs=3"], "episodic has --episodes"),
        (["--dataset=a", "--set=seed"], "expected KEY=VALUE"),
        (["--resume=x", "--epochs=3"], "leave --epochs out"),
        (["--resume=x", "--name=y"], "leave --run or --name out"),
        (["--dataset=a", "--resume-or-start"], "needs --run or --name"),
        (["--dataset=a", "--preset=best"], "is not one of"),
    ],
)
def test_usage_errors(arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert status == 2
    assert message in " ".join(err.split())
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=absent"], "no manifests/absent.csv"),
        (["--cache=cache/absent.zarr"], "no such cache"),
        (["--cache=cache/tiny.zarr", "--set=preset=paper"], "choose it with --preset"),
        (["--cache=cache/tiny.zarr", "--set=transfer.warp=9"], "'warp' is not one of"),
        (["--cache=cache/tiny.zarr", "--decay=2"], "decay is 2.0"),
        (["--cache=cache/tiny.zarr", "--encoder=resnet"], "no encoder 'resnet'"),
        (["--cache=cache/tiny.zarr", "--split=3"], "has no splits"),
        (["--dataset=tiny", "--stages=transfer"], "needs a teacher cache"),
        (["--resume=nowhere"], "no run here"),
    ],
)
def test_errors_are_one_line(in_world: Path, arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (in_world / "runs").exists()


def test_the_cache_alone_is_enough(
    in_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protocol, the manifest and the skeletons are found; any folder may be the working one.

    The first run is in a process of its own: what goes to which stream, as a shell sees it.
    """
    code = "from skelfew.cli.train import main; main()"
    arguments = ["--cache=cache/tiny.zarr", *FAST, "--epochs=1", "--episodes=2"]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert result.stdout == f"{folder}\n"
    assert folder.parent == Path("runs")
    assert "recommended preset, stages transfer, episodic" in result.stderr
    assert "samples/s" in result.stderr
    config = Run.open(in_world / folder).config()
    assert config.stages == ("transfer", "episodic")
    for given in (config.inputs.cache, config.inputs.manifest, config.inputs.store):
        assert given is not None
        assert Path(given).is_absolute()
    # A cache elsewhere is no obstacle: its neighbours are looked at.
    arguments[0] = f"--cache={in_world / 'cache' / 'tiny.zarr'}"
    arguments.append(f"--protocol={in_world / 'manifests' / 'protocols' / 'tiny.json'}")
    monkeypatch.chdir(tmp_path)
    status, _, err = run(*arguments)
    assert status == 0, err


def test_without_a_cache_only_episodes_are_run(in_world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["--dataset=tiny", *FAST, "--episodes=4", "--ways=3", f"--run={folder}", "--json"]
    status, out, err = run(*arguments)
    assert status == 0, err
    document = json.loads(out)
    assert document["run"] == str(folder)
    assert list(document["stages"]) == ["episodic"]
    assert Run.open(folder).config().episodic.ways == 3
    assert "cache" not in json.loads((folder / "inputs.json").read_text())


def test_resume_or_start(in_world: Path, tmp_path: Path) -> None:
    arguments = ["--dataset=tiny", *FAST, f"--run={tmp_path / 'run'}", "--resume-or-start"]
    assert run(*arguments, "--episodes=4")[0] == 0
    status, out, err = run(*arguments, "--episodes=4")
    assert (status, out) == (0, f"{tmp_path / 'run'}\n")
    assert "finished already" in err
    status, _, err = run(*arguments, "--episodes=6")
    assert status == 1
    assert "this run has episodic.episodes = 4, but 6 is asked for" in err
    status, _, err = run("--dataset=tiny", f"--run={tmp_path / 'run'}")
    assert status == 1
    assert "exists already" in err


def test_options_reach_the_configuration(in_world: Path, tmp_path: Path) -> None:
    status, _, err = run(
        "--cache=cache/tiny.zarr",
        *FAST,
        "--preset=paper",
        "--stages=traditional,transfer",
        "--epochs=1",
        "--batch=20",
        "--lr=0.005",
        "--optimizer=sgd",
        "--no-predictor",
        "--decay=0.5",
        "--representation=f_t",
        "--hold-out-validation",
        "--seed=7",
        "--set=transfer.optimizer.clip=2",
        f"--run={tmp_path / 'run'}",
    )
    assert status == 0, err
    config = Run.open(tmp_path / "run").config()
    transfer = config.transfer
    assert (transfer.decay, transfer.predictor, transfer.representation) == (0.5, False, "f_t")
    assert (transfer.optimizer.name, transfer.optimizer.clip) == ("sgd", 2.0)
    for stage in (transfer, config.traditional):
        assert (stage.epochs, stage.batch, stage.optimizer.lr) == (1, 20, 0.005)
    assert (config.preset, config.seed, config.train_on_validation) == ("paper", 7, False)

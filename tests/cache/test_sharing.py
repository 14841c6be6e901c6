"""Two folders act as two members of a lab: one sends a cache, the other trains on it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers import HttpServer, http_server, s3_server
from small_world import FAST, make_world

from skelfew.cli import cache as cache_command
from skelfew.cli import evaluate, train
from skelfew.config import InputConfig
from skelfew.runs.folder import newest_run
from skelfew.runs.inputs import find_inputs

GOLDEN = Path(__file__).parents[1] / "data" / "caches" / "v1" / "plain.zarr"
SHORT = ["--epochs=1", "--batch=8", "--episodes=2", "--queries=1", *FAST]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``ada`` has the cache, ``ben`` has only the skeletons, ``served`` is on the web."""
    make_world(tmp_path / "ada", trained=True)
    (tmp_path / "served").mkdir()
    for name in ("manifests", "data"):
        shutil.copytree(tmp_path / "ada" / name, tmp_path / "ben" / name)
    monkeypatch.chdir(tmp_path / "ben")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SKELFEW_REMOTE", raising=False)
    return tmp_path


@pytest.fixture
def web(lab: Path) -> Iterator[HttpServer]:
    with http_server(lab / "served") as server:
        yield server


def run(command: object, *arguments: object) -> str:
    result = CliRunner().invoke(command.main, [str(a) for a in arguments])  # type: ignore[attr-defined]
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_one_sends_the_other_trains(lab: Path, web: HttpServer) -> None:
    sent = json.loads(
        run(cache_command, "push", lab / "ada/cache/tiny.zarr", f"{lab}/served/", "--json")
    )
    url = f"{web.url}/tiny.zarr"
    verified = run(cache_command, "verify", url, "--manifest", "manifests/tiny.csv")
    assert "FAILED" not in verified and sent["digest"] is not None
    run(train, "--cache", url, "--name=remote", *SHORT)  # the two commands of the README
    assert "cosine" in run(evaluate, "--shots", 1)
    remote = newest_run()
    inputs = json.loads((remote.path / "inputs.json").read_text())
    assert inputs["cache"]["digest"] == sent["digest"] and inputs["cache"]["url"] == url
    # A run on the folder itself comes to the same numbers.
    run(train, "--cache", lab / "ada/cache/tiny.zarr", "--name=local", *SHORT)
    losses = [[row["loss"] for row in r.rows()] for r in (remote, newest_run())]
    assert newest_run().name == "local" and losses[0] == losses[1]
    # To go on with a run, the address is not needed any more.
    remote.encoder.unlink()
    web.shutdown()
    run(train, "--resume", "runs/remote")
    assert remote.finished


def test_every_form_of_a_cache_gives_the_same_inputs(
    lab: Path, web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, served = lab / "ada/cache/tiny.zarr", lab / "served"
    run(cache_command, "pack", folder, "--out", served / "tiny.zarr.zip")
    with s3_server() as s3:
        for name, value in {"AWS_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": "test",
                            "AWS_SECRET_ACCESS_KEY": "test"}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        run(cache_command, "push", folder, "s3://lab/caches/")
        forms = [folder, served / "tiny.zarr.zip", f"{web.url}/tiny.zarr.zip",
                 "s3://lab/caches/tiny.zarr", folder.as_uri()]  # fmt: skip
        found = [find_inputs(InputConfig(cache=str(form)), "tiny") for form in forms]
    digests = {inputs.describe()["cache"]["digest"] for inputs in found}
    assert len(digests) == 1
    assert len({inputs.cache.targets(["c1n0"]).tobytes() for inputs in found if inputs.cache}) == 1


def test_a_read_only_place_is_enough(lab: Path) -> None:
    """Read as a user who may not write there; nothing is written beside the cache either."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become somebody who may not write")
    mount = lab / "ada" / "cache"
    for path in [lab, *lab.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in lab.parents[:-2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    before = sorted(mount.rglob("*"))
    code = (
        "import os, sys\nfrom skelfew.cache import TeacherCache\n"
        "from skelfew.cache.tools.verify import verify\n"
        "TeacherCache.open(sys.argv[2]), verify(sys.argv[2])  # imports what is imported late\n"
        "os.setuid(65534)\n"
        "assert not os.access(sys.argv[1], os.W_OK)\n"
        "print(len(TeacherCache.open(sys.argv[1])), verify(sys.argv[1])['problems'])\n"
    )
    message = subprocess.run(
        [sys.executable, "-c", code, str(mount / "tiny.zarr"), str(GOLDEN)],
        capture_output=True,
        text=True,
    )
    assert message.stdout == "80 []\n", message.stderr
    assert sorted(mount.rglob("*")) == before

"""Caches and encoders on a Hub: there and back, the cards, and what is refused.

huggingface_hub reads HF_ENDPOINT when it is imported, so a process of its own runs all commands.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import zarr
from hub_server import LARGE, TOKEN, Hub, hub_server
from small_caches import filled

from skelfew.cache import content_digest
from skelfew.cache.format.licence import convention
from skelfew.cache.transport.places import Place
from skelfew.errors import SkelfewError

pytest.importorskip("huggingface_hub")
Command = Callable[..., SimpleNamespace]
RUN = """
import json, os, sys
from click.testing import CliRunner
from skelfew.cli.cache import main
for line in sys.stdin:
    os.environ["HF_TOKEN"], arguments = json.loads(line)
    done = CliRunner().invoke(main, arguments)
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server() as server:
        yield server


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "hf"),
    }  # fmt: skip


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Iterator[Command]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN], env=environment, cwd=tmp_path, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None

    def run(*arguments: str, token: str = TOKEN) -> SimpleNamespace:
        print(json.dumps([token, arguments]), file=process.stdin, flush=True)
        values = json.loads(process.stdout.readline())
        return SimpleNamespace(**dict(zip(("returncode", "stdout", "stderr"), values, strict=True)))

    yield run
    process.communicate()


def test_a_cache_there_and_back(hub: Hub, command: Command, tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    filled(cache, 2500, class_text=np.eye(2, 6))
    push = ("push", "c.zarr", "hf://datasets/me/features")
    refused = command(*push, token="hf_other")
    assert refused.returncode == 1 and "the Hub answers 401; log in" in refused.stderr
    done = command(*push)
    assert done.returncode == 0, done.stderr
    pinned = f"hf://datasets/me/features#digest={content_digest(cache)}"
    assert f"skelfew-cache pull '{pinned}'" in done.stdout
    files = hub.files["me/features"]
    assert hub.commits == 1 and any(len(c) > LARGE for c in hub.large.values())
    card = files["README.md"].decode()
    assert pinned in card and "\nlicense: " in card and "| teacher |" in card
    assert "was there already" in command(*push).stdout and hub.commits == 1

    back = command("pull", pinned)
    assert back.returncode == 0, back.stderr
    assert content_digest(tmp_path / "cache/features.zarr") == content_digest(cache)

    filled(tmp_path / "d.zarr", 40)
    other = ("push", "d.zarr", "hf://datasets/me/features")
    assert "holds another cache" in command(*other).stderr
    assert command(*other, "--overwrite").returncode == 0
    assert "class_text/zarr.json" not in files  # nothing of the earlier one is left
    zipped = ("push", "d.zarr", "hf://datasets/me/more/d.zarr.zip")
    assert command(*zipped).returncode == 0
    pulled = command("pull", "hf://datasets/me/more/d.zarr.zip")
    assert pulled.returncode == 0, pulled.stderr


def test_a_card_of_ones_own_stays(hub: Hub, command: Command, tmp_path: Path) -> None:
    hub.files["me/mine"] = {"README.md": b"# Mine\n"}
    filled(tmp_path / "c.zarr", 40)
    done = command("push", "c.zarr", "hf://datasets/me/mine")
    assert done.returncode == 0, done.stderr
    assert hub.files["me/mine"]["README.md"] == b"# Mine\n"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("hf://datasets/me/x", "x.zarr"),
        ("hf://datasets/me/x@v1/y.zarr", "y.zarr"),
        ("gs://lab/caches/y.zarr", "y.zarr"),
        ("az://lab/y.zarr.zip", "y.zarr.zip"),
    ],
)
def test_addresses(address: str, name: str) -> None:
    assert Place.of(address).name == name


@pytest.mark.parametrize(
    "address", ["hf://me/x", "hf://datasets/me", "hf://datasets/me/x@a/b@c", "hf://spaces/me/x"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(SkelfewError, match="hf://datasets/USER/NAME"):
        Place.of(address)


@pytest.mark.parametrize(
    ("note", "licence"),
    [("CC-BY-4.0", {"spdx": "CC-BY-4.0"}), ("Ask Ada.", {"text": "Ask Ada."}), ("", None)],
)
def test_the_licence_is_where_zarr_readers_look(note: str, licence: object, tmp_path: Path) -> None:
    from skelfew.cache import CacheWriter

    provenance = {"dataset": "d", "classes": {}, "licence_note": note}
    CacheWriter.create_or_resume(tmp_path / "c.zarr", ["a"], dim=2, provenance=provenance).close()
    attrs = dict(zarr.open_group(tmp_path / "c.zarr", mode="r").attrs)
    assert attrs.get("license") == licence == convention(note).get("license")
    assert [c["name"] for c in attrs.get("zarr_conventions", [])] == ["license"] * bool(licence)


def test_an_encoder_there_and_back(hub: Hub, environment: dict[str, str], tmp_path: Path) -> None:
    from skelfew.data.joints.layouts import load_layout
    from skelfew.encoders import build_encoder
    from skelfew.encoders.checkpoints import load_encoder, save_encoder

    encoder = build_encoder("agcn", load_layout("joints-15"), width=0.125)
    save_encoder(tmp_path / "encoder.safetensors", encoder, {"dataset": "tiny", "base": [1, 4]})
    code = """
from skelfew.encoders.hub import PretrainedEncoder as P
from skelfew.errors import SkelfewError
P("encoder.safetensors").push_to_hub("me/enc")
print(P.from_pretrained("me/enc").path)
try:
    P.from_pretrained("me/nothing")
except SkelfewError as error:
    print(error)
"""
    there = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert there.returncode == 0, there.stderr
    path, error = there.stdout.strip().splitlines()[-2:]
    card = hub.files["me/enc"]["README.md"].decode()
    assert "library_name: skelfew" in card and "| trained on classes | 1, 4 |" in card
    back, about = load_encoder(path)
    assert about["dataset"] == "tiny"
    for name, value in encoder.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
    assert error.startswith("me/nothing: ")

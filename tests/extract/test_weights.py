"""Every checkpoint format loads strictly; errors are clear; nothing in one ever runs."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skelfew_extract import weight_files, weights
from skelfew_extract.teachers import build_teacher
from skelfew_extract.teachers.variants import VARIANTS
from skelfew_extract.teachers.xclip import XCLIP
from skelfew_extract.teachers.xclip_names import to_hugging_face, to_native
from skelfew_extract.teachers.xclip_teacher import XCLIPTeacher, build_xclip, save_teacher
from skelfew_extract.text import CompactVocabulary, bpe_ids
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.io.pickles import load_torch

DEMO = VARIANTS["xclip-demo"]
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def teacher() -> XCLIPTeacher:
    words = [t for text in ("drink water", "clap") for t in bpe_ids(text)]
    vocabulary = CompactVocabulary.of(words)
    return build_xclip("xclip-demo", untrained=True, seed=3, vocabulary=vocabulary)


@pytest.fixture(scope="module")
def state() -> State:
    """Native weights of the demo variant that hashes its words."""
    return build_xclip("xclip-demo", untrained=True, seed=7).model.state_dict()


def load(path: Path) -> XCLIP:
    """Load a checkpoint of the demo's shapes strictly into a model of another seed."""
    model = XCLIP(DEMO)
    weights.load_strictly(model, weights.open_checkpoint(path), DEMO)
    return model


def same(model: XCLIP, state: State) -> bool:
    loaded = model.state_dict()
    return loaded.keys() == state.keys() and all(torch.equal(loaded[k], state[k]) for k in state)


class CfgNode(dict):
    """As yacs pickles its configuration: a dict whose settings lie in attributes."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.__dict__["__immutable__"] = True
        self.__dict__["__deprecated_keys__"] = {"OLD"}
        self.__dict__["__renamed_keys__"] = {}


@contextmanager
def yacs() -> Iterator[Callable[..., dict]]:
    """Let CfgNode be pickled as yacs.config.CfgNode; afterwards there is no such module again."""
    config = ModuleType("yacs.config")
    config.CfgNode = CfgNode  # type: ignore[attr-defined]
    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    sys.modules |= {"yacs": ModuleType("yacs"), "yacs.config": config}
    try:
        yield CfgNode
    finally:
        del sys.modules["yacs"], sys.modules["yacs.config"]


# ---- names ---------------------------------------------------------------------------------


def test_round_trip_of_names(state: State) -> None:
    theirs = to_hugging_face(state)
    back = to_native(theirs)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    again = to_hugging_face(back)
    assert again.keys() == theirs.keys()
    assert len(theirs) > len(state), "q, k and v are apart there"
    assert not any("resblocks" in name or "in_proj" in name for name in theirs)


# ---- formats -------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_official(state: State, tmp_path: Path, prefix: str, zipped: bool) -> None:
    """A training checkpoint as the authors' code writes it, with its yacs configuration."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))])
    with yacs() as node:
        content = {
            "model": OrderedDict((prefix + name, tensor) for name, tensor in state.items()),
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": {"last_epoch": 29, "base_values": [8e-6]},
            "max_accuracy": np.float64(83.8),
            "epoch": 29,
            "config": node({"DATA": node({"NUM_FRAMES": 8}), "TRAIN": node({"LR": 8e-6})}),
        }
        path = tmp_path / "k400_16_8.pth"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same(load(path), state)
    opened = load_torch(path)
    assert opened["max_accuracy"] == 83.8
    assert opened["config"]["DATA"] == {"NUM_FRAMES": 8}
    assert "yacs" not in sys.modules
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # why the restricted unpickler exists


def test_bare_state_dict(state: State, tmp_path: Path) -> None:
    path = tmp_path / "bare.pth"
    torch.save(state, path)
    assert same(load(path), state)


def hugging_face_folder(state: State, folder: Path, kind: str) -> Path:
    """Write the folder of a Hugging Face repository, with the constants that old files hold."""
    theirs = {k: v.clone() for k, v in to_hugging_face(state).items()}
    theirs["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    theirs["vision_model.embeddings.position_ids"] = torch.arange(65)[None]
    name = "model.safetensors" if "safetensors" in kind else "pytorch_model.bin"
    names = sorted(theirs)
    shards = {name: names}
    if "shards" in kind:
        stem, suffix = name.split(".")
        shards = {f"{stem}-{i + 1}-of-2.{suffix}": names[i::2] for i in range(2)}
        weight_map = {k: shard for shard, keys in shards.items() for k in keys}
        (folder / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for shard, keys in shards.items():
        part = {k: theirs[k] for k in keys}
        if "safetensors" in kind:
            save_file(part, folder / shard, {"format": "pt"})
        else:
            torch.save(part, folder / shard)
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "bin", "safetensors shards", "bin shards"])
def test_hugging_face(state: State, tmp_path: Path, kind: str) -> None:
    folder = hugging_face_folder(state, tmp_path, kind)
    assert same(load(folder), state)
    digest = weights.open_checkpoint(folder).sha256
    files = sorted(p for p in folder.iterdir() if not p.name.endswith(".json"))
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in files]
    lines = "".join(f"{d} {p.name}\n" for d, p in zip(digests, files, strict=True))
    assert digest == (digests[0] if len(files) == 1 else hashlib.sha256(lines.encode()).hexdigest())


def test_a_shard_index_stays_in_its_folder(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(SkelfewError, match="it must lie below"):
        weights.open_checkpoint(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    with pytest.raises(SkelfewError, match=r"shard model-1\.safetensors is missing"):
        weights.open_checkpoint(tmp_path)
    index.write_text("[1]")
    with pytest.raises(SkelfewError, match="not a weight index"):
        weights.open_checkpoint(tmp_path)


# ---- our own files -------------------------------------------------------------------------


def test_saved_teacher_comes_back(teacher: XCLIPTeacher, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_teacher(teacher, path, trained=True, dtype=torch.float32)
    back = build_teacher("xclip-demo", weights=str(path))
    assert isinstance(back, XCLIPTeacher)
    assert back.vocabulary == teacher.vocabulary
    frames = torch.randint(0, 256, (1, 8, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(back.encode_clips(frames)[0], teacher.encode_clips(frames)[0])
    labels = ["clap", "drink water"]
    assert torch.equal(back.encode_text(labels), teacher.encode_text(labels))
    about = back.describe()
    assert about["trained"] is True
    assert about["weights"] == "mine.safetensors"
    assert about["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_half_precision_file_is_small_and_close(teacher: XCLIPTeacher, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_teacher(teacher, path)
    assert path.stat().st_size < 6e6
    back = build_teacher("xclip-demo", weights=str(path))
    assert back.describe()["trained"] is False, "saving does not train"
    frames = torch.randint(0, 256, (1, 8, 3, 64, 64), dtype=torch.uint8)
    a, b = back.encode_clips(frames)[0], teacher.encode_clips(frames)[0]
    assert torch.cosine_similarity(a, b).item() > 0.9999
    assert a.dtype == torch.float32


def test_a_file_of_another_variant_or_version_is_refused(
    teacher: XCLIPTeacher, tmp_path: Path
) -> None:
    path = tmp_path / "demo.safetensors"
    save_teacher(teacher, path)
    with pytest.raises(SkelfewError, match="holds xclip-demo, not xclip-base-patch16"):
        build_teacher("xclip-base-patch16", weights=str(path))
    state = {k: v.clone() for k, v in teacher.model.state_dict().items()}
    save_file(state, path, {"format": "skelfew-xclip", "format_version": "2"})
    with pytest.raises(SkelfewError, match="upgrade"):
        build_teacher("xclip-demo", weights=str(path))


def test_hashed_words_are_not_for_training(tmp_path: Path) -> None:
    hashed = build_xclip("xclip-demo", untrained=True)
    with pytest.raises(SkelfewError, match="train it with a vocabulary of its own"):
        save_teacher(hashed, tmp_path / "x.safetensors", trained=True)


# ---- what does not fit ---------------------------------------------------------------------


def test_other_frame_count(tmp_path: Path) -> None:
    """The table of positions is trained: 32-frame weights cannot serve 8-frame clips."""
    with torch.device("meta"):
        shapes = XCLIP(VARIANTS["xclip-base-patch16-zero-shot"]).state_dict()
    few = {"visual.conv1.weight", "visual.positional_embedding", "text_projection"}
    few |= {"mit.positional_embedding", "prompts_visual_proj"}
    path = tmp_path / "zero.pth"
    torch.save({name: torch.zeros(shapes[name].shape) for name in few}, path)
    with pytest.raises(SkelfewError) as caught:
        build_teacher("xclip-base-patch16", weights=str(path))
    message = str(caught.value)
    assert "clips of 32 frames, but xclip-base-patch16 takes 8" in message
    assert "xclip-base-patch16-zero-shot" in message
    assert "xclip-base-patch16-16-frames" not in message
    assert "\n" not in message


def test_missing_unexpected_and_misshapen(state: State, tmp_path: Path) -> None:
    path = tmp_path / "wrong.pth"
    wrong = dict(state)
    del wrong["visual.proj"], wrong["ln_final.bias"]
    wrong["visual.extra"] = torch.zeros(1)
    wrong["logit_scale"] = torch.zeros(2)
    torch.save(wrong, path)
    with pytest.raises(SkelfewError) as caught:
        load(path)
    message = str(caught.value)
    assert "2 missing: ln_final.bias, visual.proj" in message
    assert "1 unexpected: visual.extra" in message
    assert "1 of another shape: logit_scale (2,) instead of ()" in message
    assert "the shapes are those of xclip-demo" in message


def test_incomplete_qkv_is_missing(state: State, tmp_path: Path) -> None:
    theirs = to_hugging_face(state)
    del theirs["vision_model.encoder.layers.0.self_attn.k_proj.bias"]
    torch.save(theirs, tmp_path / "pytorch_model.bin")
    with pytest.raises(SkelfewError, match=r"1 missing: visual\S+resblocks\.0\.attn\.in_proj_bias"):
        load(tmp_path)


@pytest.mark.parametrize("names", ["native", "hugging face"])
def test_plain_clip_is_no_teacher(state: State, tmp_path: Path, names: str) -> None:
    video = ("mit.", "prompts_", "message_")
    clip = {k: v for k, v in state.items() if not any(part in k for part in video)}
    path = tmp_path / "ViT-B-16.pt"
    torch.save(clip if names == "native" else to_hugging_face(clip), path)
    with pytest.raises(SkelfewError, match="plain CLIP, not X-CLIP: it has no cross-frame"):
        load(path)


def test_other_models_and_files(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(2)}, path)
    with pytest.raises(SkelfewError, match=r"not an X-CLIP checkpoint.*first is conv1\.weight"):
        load(path)
    torch.save({"model": [1, 2]}, path)
    with pytest.raises(SkelfewError, match="not a state dict"):
        load(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(SkelfewError, match="not a state dict"):
        load(path)
    path.write_text("<html>not found</html>")
    with pytest.raises(SkelfewError, match="not a PyTorch checkpoint"):
        load(path)
    (tmp_path / "x.safetensors").write_bytes(b"\0" * 40)
    with pytest.raises(SkelfewError, match="not readable as safetensors"):
        load(tmp_path / "x.safetensors")
    with pytest.raises(SkelfewError, match="holds 2 weight files"):
        load(tmp_path)
    with pytest.raises(SkelfewError, match="no such file or folder"):
        weights.open_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_truncated(state: State, tmp_path: Path, zipped: bool, part: float) -> None:
    path = tmp_path / "cut.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(SkelfewError, match=r"cut\.pth.*download it again"):
        load(path)


# ---- nothing runs --------------------------------------------------------------------------


# ---- where weights come from ---------------------------------------------------------------


def test_without_weights_the_error_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SkelfewError) as caught:
        build_teacher("xclip-base-patch16")
    message = str(caught.value)
    for part in (
        "no weights for xclip-base-patch16",
        "weights/xclip-base-patch16/",
        "model.safetensors or pytorch_model.bin of huggingface.co/microsoft/xclip-base-patch16",
        "k400_16_8.pth",
        "--untrained",
    ):
        assert part in message
    assert "\n" not in message


def test_weights_are_found_where_the_error_says(
    teacher: XCLIPTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights" / "xclip-demo").mkdir(parents=True)
    save_teacher(teacher, "weights/xclip-demo/model.safetensors", trained=True)
    assert build_teacher("xclip-demo").describe()["weights"] == "xclip-demo"
    official = tmp_path / "weights" / "k400_16_8.pth"
    official.touch()
    assert weight_files.find_weights(VARIANTS["xclip-base-patch16"])[0] == Path(
        "weights/k400_16_8.pth"
    )
    with pytest.raises(SkelfewError, match="weights/nothing: no such file"):
        build_teacher("xclip-demo", weights="weights/nothing")


def test_offline_hub_is_one_line(tmp_path: Path) -> None:
    """A hub that cannot be reached is reported at once, with the way out."""
    code = (
        "from skelfew_extract.teachers.variants import VARIANTS\n"
        "from skelfew_extract.weight_files import find_weights\n"
        "from skelfew.errors import SkelfewError\n"
        "variant = VARIANTS['xclip-base-patch16']\n"
        "try: find_weights(variant, 'microsoft/xclip-base-patch16')\n"
        "except SkelfewError as error: print(error)\n"
    )
    nowhere = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    for setting in ({}, {"HF_HUB_OFFLINE": "1"}):
        start = time.monotonic()
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, check=True, env={**os.environ, **nowhere, **setting},
        )  # fmt: skip
        assert time.monotonic() - start < 40
        assert result.stdout.startswith("microsoft/xclip-base-patch16: not a folder here, and not")
        assert "pass --untrained" in result.stdout
        assert result.stdout.count("\n") == 1
        assert "Retrying" not in result.stderr


def test_hub_cache_serves_without_a_network(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout of huggingface_hub's cache: refs/main names the snapshot."""
    repository = tmp_path / "models--microsoft--xclip-demo"
    snapshot = repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    hugging_face_folder(state, snapshot, "bin")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    path, source = weight_files.find_weights(DEMO, "microsoft/xclip-demo")
    assert source == "microsoft/xclip-demo"
    assert same(load(path), state)

"""Encoder files: our own, and those that others have published (made here, of the same names)."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from skelfew.data.joints.layouts import layout_from_dict
from skelfew.encoders import build_encoder
from skelfew.encoders.backbone import EncoderWithClassifier, SkeletonGCN
from skelfew.encoders.checkpoints import (
    WeightsError,
    load_encoder,
    load_initial,
    load_public,
    read_metadata,
    save_encoder,
)


def small(name: str = "ctrgcn", **settings: object) -> SkeletonGCN:
    encoder = build_encoder(name, "joints-15", **{"width": 0.125, "bodies": 1, **settings})
    with torch.no_grad():
        for value in encoder.state_dict().values():
            if value.is_floating_point():
                value.uniform_(0.1, 1)
    return encoder


def test_round_trip(tmp_path: Path) -> None:
    encoder, path = small(), tmp_path / "run" / "encoder.safetensors"
    save_encoder(path, encoder, {"dataset": "übung", "classes": [1, 2], "stage": "transfer"})
    again, metadata = load_encoder(path)
    x = torch.randn(2, 3, 16, 15, 1)
    assert torch.equal(again(x), encoder.eval()(x)) and not again.training
    assert metadata["dataset"] == "übung" and metadata["classes"] == [1, 2]
    assert metadata["encoder"] == encoder.config and metadata["skelfew"]
    assert read_metadata(path) == metadata
    assert [p.name for p in path.parent.iterdir()] == ["encoder.safetensors"]


def test_round_trip_of_ones_own_layout(tmp_path: Path) -> None:
    own = layout_from_dict(
        {"name": "two", "joints": ["a", "b"], "bones": [["a", "b"]], "centre": "b"}
    )
    encoder = build_encoder("agcn", own, width=0.125)
    save_encoder(tmp_path / "e.safetensors", encoder, {})
    again, _ = load_encoder(tmp_path / "e.safetensors")
    assert again.config == encoder.config and again.joints == 2


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(WeightsError, match="no such file"):
        load_encoder(path)
    path.write_bytes(b"not a tensor in sight")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_encoder(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="not a skelfew-encoder"):
        load_encoder(path)
    save_file({"a": torch.zeros(1)}, path, {"format": "skelfew-encoder", "format_version": "9"})
    with pytest.raises(WeightsError, match="upgrade"):
        load_encoder(path)


def test_weights_that_do_not_fit_their_description(tmp_path: Path) -> None:
    encoder, path = small(), tmp_path / "x.safetensors"
    encoder.config["width"] = 0.25
    save_encoder(path, encoder, {})
    with pytest.raises(WeightsError, match=r"l1.gcn1.convs.0.conv3.weight \(8, 3, 1, 1\) instead"):
        load_encoder(path)


def test_start_from_ones_own_file(tmp_path: Path) -> None:
    path, source, target = tmp_path / "x.safetensors", small(), small()
    save_encoder(path, source, {})
    assert load_initial(path, target) == []
    assert torch.equal(target.l1.gcn1.PA, source.l1.gcn1.PA)
    with pytest.raises(WeightsError, match="weights of 'ctrgcn', but the encoder is 'agcn'"):
        load_initial(path, small("agcn"))
    with pytest.raises(WeightsError, match=r"data_bn.weight \(45,\) instead of \(90,\)"):
        load_initial(path, small(bodies=2))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
    ],
    ids=["bare", "module", "state_dict", "model"],
)
@pytest.mark.parametrize("name", ["agcn", "ctrgcn", "stgcn"])
def test_public_names_at_full_size(
    tmp_path: Path, golden: Path, name: str, wrap: Callable[[dict], dict]
) -> None:
    keys = json.loads((golden / f"{name}.json").read_text())["state_keys"]
    state = {
        key: torch.rand(shape) if shape else torch.tensor(5)  # a count without a shape
        for key, shape in keys.items()
    }
    path = tmp_path / "public.pt"
    torch.save(wrap(state), path)
    encoder = build_encoder(name, "kinect-v2")
    assert load_public(path, encoder) == ["fc.weight", "fc.bias"]
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, state[key]), key
    same, other = EncoderWithClassifier(encoder, 7), EncoderWithClassifier(encoder, 60)
    head = state["fcn.weight"].flatten(1) if name == "stgcn" else state["fc.weight"]
    assert load_public(path, same) == [] and torch.equal(same.fc.weight, head)
    assert load_public(path, other) == ["fc.weight", "fc.bias"]


def pyskl_state(encoder: SkeletonGCN) -> dict[str, Tensor]:
    """Return random weights under the names of PYSKL's CTRGCN recogniser."""
    state = {"backbone.A": torch.rand(3, 15, 15), "cls_head.fc_cls.weight": torch.rand(7, 32)}
    state["cls_head.fc_cls.bias"] = torch.rand(7)
    for key, value in encoder.state_dict().items():
        key = re.sub(r"^l(\d+)\.", lambda found: f"net.{int(found[1]) - 1}.", key)
        random = torch.rand_like(value) if value.is_floating_point() else value
        state[f"backbone.{key.replace('.PA', '.A')}"] = random
    return state


def test_pyskl_ctrgcn_computes_what_pyskl_computes(tmp_path: Path) -> None:
    encoder = small("ctrgcn-pyskl").eval()
    state, path = pyskl_state(encoder), tmp_path / "pyskl.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, path)
    classifier = EncoderWithClassifier(encoder, 7)
    assert load_public(path, classifier) == []
    assert torch.equal(classifier.fc.weight, state["cls_head.fc_cls.weight"])

    def weight(key: str) -> Tensor:
        return state[f"backbone.net.4.gcn1.{key}"]

    def conv(key: str, x: Tensor) -> Tensor:
        return torch.conv2d(x, weight(f"{key}.weight"), weight(f"{key}.bias"))

    def norm(key: str, x: Tensor) -> Tensor:
        parts = [
            weight(f"{key}.{part}") for part in ("running_mean", "running_var", "weight", "bias")
        ]
        return torch.batch_norm(x, parts[2], parts[3], *parts[:2], False, 0.1, 1e-5, False)

    # Its graph unit: p of the sender u, q of the receiver v, sum over the senders.
    x = torch.randn(2, 8, 16, 15)
    total: Tensor | float = 0.0
    for k in range(3):
        p = conv(f"convs.{k}.conv1", x).mean(dim=2)
        q = conv(f"convs.{k}.conv2", x).mean(dim=2)
        edges = conv(f"convs.{k}.conv4", torch.tanh(p[..., None] - q[..., None, :]))
        edges = edges * weight("alpha") + weight("A")[k]
        total = total + torch.einsum("ncuv,nctu->nctv", edges, conv(f"convs.{k}.conv3", x))
    expected = torch.relu(norm("bn", total) + norm("down.1", conv("down.0", x)))
    torch.testing.assert_close(encoder.l5.gcn1(x), expected)
    assert encoder.l5.tcn1(encoder.l5.gcn1(x)).amin() >= 0


def test_checkpoints_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(pyskl_state(small("ctrgcn-pyskl")), path)
    with pytest.raises(WeightsError, match=r"written by PYSKL.*build 'ctrgcn-pyskl'"):
        load_public(path, small())
    torch.save({"backbone.gcn.0.gcn.conv_ta.weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="not of CTR-GCN"):
        load_public(path, small("ctrgcn-pyskl"))
    torch.save(small().state_dict(), path)
    with pytest.raises(WeightsError, match="written by the authors"):
        load_public(path, small("ctrgcn-pyskl"))
    with pytest.raises(WeightsError, match=r"without l1.gcn1.conv_a.0.weight.*and \d+ more"):
        load_public(path, small("agcn"))


def test_public_checkpoints_execute_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"weights": print}, path)
    with pytest.raises(WeightsError, match="refused to open this pickle: it names"):
        load_public(path, small())
    path.write_bytes(b"garbage")
    with pytest.raises(WeightsError, match="not a PyTorch checkpoint"):
        load_public(path, small())
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="no state dict"):
        load_public(path, small())
    with pytest.raises(WeightsError, match="no such file"):
        load_public(tmp_path / "absent.pt", small())

"""Encoders for any layout, channels, bodies and width, and the fast forms against plain ones."""

import subprocess
import sys
from itertools import cycle

import pytest
import torch

from skelfew.data.joints.layouts import LAYOUTS, layout_from_dict, load_layout
from skelfew.encoders import ENCODERS, build_encoder
from skelfew.errors import SkelfewError

GCNS = [name for name in ENCODERS if name.startswith(("agcn", "ctrgcn", "stgcn"))]


@pytest.mark.parametrize(("layout", "channels"), list(zip(LAYOUTS, cycle((2, 3)), strict=False)))
@pytest.mark.parametrize("name", GCNS)
def test_every_layout(name: str, layout: str, channels: int) -> None:
    encoder = build_encoder(name, layout, channels=channels, bodies=1, width=0.125)
    x = torch.randn(2, channels, 16, len(load_layout(layout)), 1)
    assert encoder(x).shape == (2, encoder.feature_dim) == (2, 32)
    assert encoder.forward_features(x).shape == (2, 1, 32, 4, x.shape[3])


@pytest.mark.parametrize(
    ("width", "dim"), [(1.0, 256), (0.25, 64), (0.3, 64), (0.01, 32), (2, 512)]
)
@pytest.mark.parametrize("name", GCNS)
def test_width(name: str, width: float, dim: int) -> None:
    encoder = build_encoder(name, "joints-15", width=width)
    assert encoder.feature_dim == dim
    assert encoder(torch.randn(1, 3, 8, 15, 2)).shape == (1, dim)


@pytest.mark.parametrize("name", GCNS)
def test_a_last_block_of_another_width(name: str) -> None:
    encoder = build_encoder(name, "joints-15", width=0.125, feature_dim=40)
    x = torch.randn(1, 3, 8, 15, 2)
    assert encoder(x).shape == (1, 40)
    again = build_encoder(**encoder.config)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.eval()(x), encoder.eval()(x))


@pytest.mark.parametrize("name", GCNS)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, "joints-15", width=0.25).double()
    with torch.no_grad():
        for key, parameter in encoder.named_parameters():
            if key.endswith(("bn.weight", "alpha")):  # start at about zero
                parameter.fill_(0.5)
    encoder(torch.randn(4, 3, 16, 15, 2).double()).square().sum().backward()
    idle = [key for key, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_config_rebuilds_the_architecture() -> None:
    own = layout_from_dict(
        {"name": "two", "joints": ["a", "b"], "bones": [["a", "b"]], "centre": "b"}
    )
    encoder = build_encoder(
        "ctrgcn", own, channels=2, bodies=1, width=0.25, body_pool="masked_mean"
    )
    config = dict(encoder.config)
    config["layout"] = layout_from_dict(config["layout"])
    again = build_encoder(**config)
    again.load_state_dict(encoder.state_dict())
    assert again.config == encoder.config
    assert build_encoder("agcn", "kinect-v1").config["layout"] == "kinect-v1"


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ["agcn", "ctrgcn"])
def test_masked_mean_leaves_out_absent_bodies(name: str, train: bool) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, "joints-15", width=0.125, body_pool="masked_mean").double()
    encoder.train(train)
    x = torch.randn(3, 3, 16, 15, 2).double()
    x[1, ..., 1] = 0
    x[2, ..., 0] = 0
    maps = encoder.forward_features(x)
    assert not maps[1, 1].any() and not maps[2, 0].any()
    pooled = maps.mean(dim=(3, 4))
    expected = torch.stack([pooled[0].mean(dim=0), pooled[1, 0], pooled[2, 1]])
    torch.testing.assert_close(encoder(x), expected)
    if not train:  # without batch statistics a left-out body cannot have changed the others
        every = build_encoder(**{**encoder.config, "body_pool": "mean"}).double().eval()
        every.load_state_dict(encoder.state_dict())
        whole = every.forward_features(x)
        torch.testing.assert_close(maps[0], whole[0])
        torch.testing.assert_close(maps[1, 0], whole[1, 0])
        torch.testing.assert_close(every(x), whole.mean(dim=(1, 3, 4)))


def test_masked_mean_of_an_empty_clip_is_finite() -> None:
    encoder = build_encoder("ctrgcn", "joints-15", width=0.125, body_pool="masked_mean").eval()
    x = torch.zeros(2, 3, 16, 15, 2)
    assert encoder(x).isfinite().all()
    assert encoder.forward_features(x).shape == (2, 2, 32, 4, 15)


def test_stgcn_as_others_have_it() -> None:
    own = build_encoder("stgcn", "joints-15", width=0.25, feature_dim=256)
    widths = [block.tcn[2].out_channels for block in own.st_gcn_networks]
    assert widths == [16, 16, 16, 16, 32, 32, 32, 64, 64, 256], "AimCLR, CrosSCLR"
    assert [block.tcn[4].p for block in own.st_gcn_networks] == [0.0, *9 * [0.5]]
    dastm = build_encoder("stgcn-dastm", "joints-15", width=0.125)
    assert dastm.st_gcn_networks[1].tcn[4].p == 0.1
    assert not any(key.startswith("edge_importance") for key in dastm.state_dict())


def test_fresh_encoders_are_alive() -> None:
    """Fresh units are their residual paths: features differ between clips and are finite."""
    for name in GCNS:
        torch.manual_seed(0)
        encoder = build_encoder(name, "kinect-v1", bodies=1, width=0.25)
        features = encoder(torch.randn(4, 3, 20, 20, 1))
        assert features.isfinite().all() and features.std(dim=0).mean() > 1e-3


def test_wrong_requests_are_explained() -> None:
    with pytest.raises(SkelfewError, match=r"no encoder 'gcn'; there are agcn, ctrgcn"):
        build_encoder("gcn", "kinect-v2")
    with pytest.raises(SkelfewError, match="no joint layout 'kinect-v3'"):
        build_encoder("agcn", "kinect-v3")
    with pytest.raises(SkelfewError, match="body_pool is 'max'; expected mean or masked_mean"):
        build_encoder("agcn", "kinect-v2", body_pool="max")
    with pytest.raises(SkelfewError, match="width=0"):
        build_encoder("agcn", "kinect-v2", width=0)
    encoder = build_encoder("ctrgcn", "kinect-v2", width=0.125)
    with pytest.raises(SkelfewError, match=r"\(2, 3, 8, 25, 1\).*\(N, 3, T, 25, 2\)"):
        encoder(torch.zeros(2, 3, 8, 25, 1))


def test_listing_the_encoders_does_not_load_torch() -> None:
    code = "import sys, skelfew.encoders; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

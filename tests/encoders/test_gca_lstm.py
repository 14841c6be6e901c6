"""ST-LSTM by anti-diagonals against a double loop; GCA-LSTM against its formulas."""

import itertools

import pytest
import torch
from torch import Tensor

from skelfew.data.joints.body_parts import PARTS, body_parts
from skelfew.data.joints.layouts import LAYOUTS, layout_from_dict, load_layout
from skelfew.encoders import build_encoder
from skelfew.encoders.gca_lstm import FUSIONS, SkeletonGCALSTM
from skelfew.encoders.stlstm import STLSTM, traversal
from skelfew.errors import SkelfewError


def gca(**changes: object) -> SkeletonGCALSTM:
    torch.manual_seed(0)
    settings = {"width": 0.125, "bodies": 1, **changes}
    encoder = build_encoder("gca-lstm", "joints-15", **settings).double().eval()
    assert isinstance(encoder, SkeletonGCALSTM)
    return encoder


def clips(n: int = 2, frames: int = 6, joints: int = 15, bodies: int = 1) -> Tensor:
    return torch.randn(n, 3, frames, joints, bodies, dtype=torch.float64)


def double_loop(cell: STLSTM, x: Tensor, shares: Tensor | None) -> Tensor:
    """The recurrence, one cell after the other, for x (N, J, T, channels)."""
    n, joints, frames = x.shape[:3]
    zero = x.new_zeros(n, cell.before.out_features // 5)
    h: dict[tuple[int, int], Tensor] = {}
    c: dict[tuple[int, int], Tensor] = {}
    for j in range(joints):
        for t in range(frames):
            by_joint, by_frame = (j - 1, t), (j, t - 1)
            heard = [x[:, j, t], h.get(by_joint, zero), h.get(by_frame, zero)]
            weight = torch.cat([cell.inputs.weight, cell.before.weight], dim=1)
            gates = torch.cat(heard, dim=1) @ weight.T + cell.inputs.bias
            i, f_s, f_t, o, u = gates.chunk(5, dim=1)
            new = i.sigmoid() * u.tanh()
            old = f_s.sigmoid() * c.get(by_joint, zero) + f_t.sigmoid() * c.get(by_frame, zero)
            if shares is not None:
                r = shares[:, j, t, None]
                new, old = r * new, (1 - r) * old
            c[j, t] = new + old
            h[j, t] = o.sigmoid() * c[j, t].tanh()
    return torch.stack(
        [torch.stack([h[j, t] for t in range(frames)], dim=1) for j in range(joints)], dim=1
    )


@pytest.mark.parametrize("with_shares", [False, True])
@pytest.mark.parametrize(("joints", "frames"), [(5, 8), (8, 5), (4, 4), (6, 1), (1, 6)])
def test_diagonals_equal_the_double_loop(joints: int, frames: int, with_shares: bool) -> None:
    torch.manual_seed(0)
    cell = STLSTM(3, 4).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(2, joints, frames, 3, dtype=torch.float64, requires_grad=True)
    shares = torch.rand(2, joints, frames, dtype=torch.float64, requires_grad=True)
    given = shares if with_shares else None
    towards = torch.randn(2, joints, frames, 4, dtype=torch.float64)
    found = []
    for h in (cell(cell.inputs(x), given), double_loop(cell, x, given)):
        wanted = [x, *cell.parameters(), *([shares] if with_shares else [])]
        found.append([h, *torch.autograd.grad((h * towards).sum(), wanted)])
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)
    assert found[0][0].std() > 0.1


def test_walk_goes_along_bones_and_back() -> None:
    for layout in LAYOUTS.values():
        walk, bones = traversal(layout), {frozenset(bone) for bone in layout.bones}
        steps = [frozenset(step) for step in itertools.pairwise(walk)]
        assert len(walk) == 2 * len(layout) - 1 and walk[0] == walk[-1] == layout.centre
        assert all(steps.count(bone) == 2 for bone in bones) and set(steps) == bones


def test_parts_of_every_layout() -> None:
    for layout in LAYOUTS.values():
        parts = body_parts(layout)
        assert sorted(j for joints in parts.values() for j in joints) == list(range(len(layout)))
        for left, right in layout.mirror:  # a part has a mirror image, or is it
            sides = [next(p for p, js in parts.items() if j in js) for j in (left, right)]
            assert sides[0].replace("left", "right") == sides[1]
    v2 = load_layout("kinect-v2")
    named = {part: [v2.joints[j] for j in joints] for part, joints in body_parts(v2).items()}
    assert list(named) == list(PARTS) and len(named) == 11
    assert named["torso"] == ["spine_mid", "neck", "spine_shoulder"]
    assert named["left hand"] == ["left_wrist", "left_hand", "left_hand_tip", "left_thumb"]
    tail = {
        "name": "fox",
        "joints": ["head", "tail"],
        "bones": [["head", "tail"]],
        "centre": "head",
    }
    with pytest.raises(SkelfewError, match=r"layout fox: no part of the body .* joint 'tail'"):
        body_parts(layout_from_dict(tail))


def scaled(values: Tensor) -> Tensor:
    return values / values.square().mean(dim=-1, keepdim=True).sqrt()


def plain_parts(encoder: SkeletonGCALSTM, x: Tensor) -> Tensor:
    """Parts (N, P, D) of skeletons x (N, C, T, V, 1), formula by formula."""
    walk = traversal(encoder.layout)
    h1 = double_loop(encoder.first, x[..., 0].permute(0, 3, 2, 1)[:, walk], None)
    context = h1.mean(dim=(1, 2))
    for n in (1, 2):
        around = context[:, None, None].expand_as(h1)
        e = encoder.where.score(encoder.where.hidden(torch.cat([h1, around], dim=-1)).tanh())
        r = torch.exp(e) / torch.exp(e).sum(dim=(1, 2), keepdim=True)
        h2 = double_loop(encoder.second, h1, r[..., 0])
        if n == 1:
            seen = scaled(h2.mean(dim=(1, 2)))
            context = encoder.refine(torch.cat([seen, context], dim=1)).relu()
    parts = []
    for joints in body_parts(encoder.layout).values():
        visits = [h2[:, [i for i, w in enumerate(walk) if w == joint]] for joint in joints]
        parts.append(torch.stack([v.mean(dim=(1, 2)) for v in visits]).mean(dim=0))
    return scaled(torch.stack(parts, dim=1))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_features_equal_the_formulas(fusion: str) -> None:
    encoder, x = gca(fusion=fusion), clips()
    parts = plain_parts(encoder, x)
    assert parts.shape == (2, 11, 16) and encoder.parts[0] == "head"
    if fusion == "average":
        expected = parts.mean(dim=1)
    elif fusion == "fc":
        assert encoder.fc is not None
        expected = encoder.fc(parts.flatten(1))
    else:
        assert encoder.which is not None
        around = parts.mean(dim=1, keepdim=True).expand_as(parts)
        hidden = encoder.which.hidden(torch.cat([parts, around], dim=-1)).tanh()
        expected = (encoder.which.score(hidden).softmax(dim=1) * parts).sum(dim=1)
    # The weights of joints in a part are kept in single precision.
    torch.testing.assert_close(encoder(x), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(encoder.forward_parts(x), parts, rtol=1e-6, atol=1e-6)
    assert encoder.forward_sequence(x).shape == (2, 6, 11, 16)
    assert encoder(x).std(dim=0).mean() > 1e-3


@pytest.mark.parametrize("fusion", FUSIONS)
def test_it_learns_and_is_built_again(fusion: str) -> None:
    encoder, x = gca(fusion=fusion, bodies=2, feature_dim=24), clips(bodies=2)
    again = build_encoder(**encoder.config).double().eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x), encoder(x)) and encoder(x).shape == (2, 24)
    encoder(x)[:, 0].sum().backward()
    idle = [k for k, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_bodies() -> None:
    x = clips(bodies=2)
    x[1, ..., 1] = 0
    alone = gca()
    each = torch.stack([alone(x[..., :1]), alone(x[..., 1:])])
    torch.testing.assert_close(gca(bodies=2)(x), each.mean(dim=0))
    masked = gca(bodies=2, body_pool="masked_mean")
    expected = torch.stack([each[:, 0].mean(dim=0), each[0, 1]])
    torch.testing.assert_close(masked(x), expected)
    assert masked(torch.zeros_like(x)).isfinite().all()


def test_2d_and_wrong_settings() -> None:
    flat = build_encoder("gca-lstm", "coco", channels=2, bodies=1, width=0.125)
    assert flat(torch.randn(1, 2, 4, 17, 1)).shape == (1, 16)
    assert len(flat.parts) == 10, "no torso"
    assert build_encoder("gca-lstm", "kinect-v1").feature_dim == 128
    with pytest.raises(SkelfewError, match="fusion is 'sum'; expected average, fc, attention"):
        gca(fusion="sum")
    with pytest.raises(SkelfewError, match="encoder 'tcn' has no setting 'fusion'"):
        build_encoder("tcn", "kinect-v2", fusion="fc")

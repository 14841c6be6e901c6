"""ST-LSTM by anti-diagonals against a double loop; GCA-LSTM against its formulas."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from skelfew.data.joints.body_parts import PARTS, body_parts
from skelfew.data.joints.layouts import LAYOUTS, Layout, layout_from_dict, load_layout
from skelfew.encoders import build_encoder, completed
from skelfew.encoders.checkpoints import load_encoder, save_encoder
from skelfew.encoders.gca_lstm import FUSIONS, SkeletonGCALSTM
from skelfew.encoders.stlstm import STLSTM, traversal, walked
from skelfew.errors import SkelfewError


def gca(**changes: object) -> SkeletonGCALSTM:
    torch.manual_seed(0)
    settings = {"layout": "joints-15", "width": 0.125, "bodies": 1, **changes}
    encoder = build_encoder("gca-lstm", **settings).double().eval()  # type: ignore[arg-type]
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


# Joints of Kinect v2, from 1, in the order of the authors' code: 16 joints, 31 steps.
OFFICIAL = (2, 21, 4, 21, 9, 10, 24, 10, 9, 21, 5, 6, 22, 6, 5, 21, 2, 1, 17, 18, 19, 18, 17, 1,
            13, 14, 15, 14, 13, 1, 2)  # fmt: skip


def test_walk_is_the_official_one_on_kinect() -> None:
    layout = load_layout("kinect-v2")
    assert [joint + 1 for joint in traversal(layout, walked(layout))] == [*OFFICIAL]
    v1 = load_layout("kinect-v1")
    named = [v1.joints[joint] for joint in traversal(v1, walked(v1))]
    assert len(named) == 31 and len({*named}) == 16 and named[0] == named[-1] == "spine"
    assert named[4:10] == ["right_shoulder", "right_elbow", "right_hand", "right_elbow",
                           "right_shoulder", "shoulder_centre"]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_walks_over_every_layout(layout: Layout) -> None:
    walk, bones = traversal(layout), {frozenset(bone) for bone in layout.bones}
    steps = [frozenset(step) for step in itertools.pairwise(walk)]
    assert len(walk) == 2 * len(layout) - 1 and walk[0] == walk[-1] == layout.centre
    assert all(steps.count(bone) == 2 for bone in bones) and set(steps) == bones
    chosen = walked(layout)
    short = traversal(layout, chosen)
    steps = [frozenset(step) for step in itertools.pairwise(short)]
    assert {*short} == {*chosen} and len(short) == 2 * len(chosen) - 1
    assert len({*steps}) == len(chosen) - 1, "a tree of the chosen joints"
    assert all({*chosen} & {*joints} for joints in body_parts(layout).values())


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


def plain_parts(encoder: SkeletonGCALSTM, steps: Tensor, walk: list[int]) -> Tensor:
    """Parts (N, P, D) of what each step of the walk reads (N, J, T, channels)."""
    h1 = double_loop(encoder.first, steps, None)
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
        visits = [h2[:, [i for i, w in enumerate(walk) if w == j]] for j in joints if j in walk]
        parts.append(torch.stack([v.mean(dim=(1, 2)) for v in visits]).mean(dim=0))
    return scaled(torch.stack(parts, dim=1))


def fused(encoder: SkeletonGCALSTM, parts: Tensor) -> Tensor:
    if encoder.fc is not None:
        return encoder.fc(parts.flatten(1))
    if encoder.which is None:
        return parts.mean(dim=1)
    around = parts.mean(dim=1, keepdim=True).expand_as(parts)
    hidden = encoder.which.hidden(torch.cat([parts, around], dim=-1)).tanh()
    return (encoder.which.score(hidden).softmax(dim=1) * parts).sum(dim=1)


def assert_equal(encoder: SkeletonGCALSTM, x: Tensor, parts: Tensor, frames: int) -> None:
    # The weights of joints in a part are kept in single precision.
    torch.testing.assert_close(encoder(x), fused(encoder, parts), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(encoder.forward_parts(x), parts, rtol=1e-6, atol=1e-6)
    assert encoder.forward_sequence(x).shape == (2, frames, *parts.shape[1:])
    assert encoder(x).std(dim=0).mean() > 1e-3


@pytest.mark.parametrize(("fusion", "frames"), [("average", 18), ("fc", 20), ("attention", 6)])
def test_features_follow_the_authors_code(fusion: str, frames: int) -> None:
    """A step reads a joint in three frames of both people: 18 values."""
    encoder = gca(layout="kinect-v2", fusion=fusion, bodies=2)
    x = clips(frames=frames, joints=25, bodies=2)
    steps = []
    for joint in OFFICIAL:
        row = []
        for first in range(0, frames, 3):
            values = []
            for person in (0, 1):
                for t in range(first, first + 3):
                    values.append(x[:, :, min(t, frames - 1), joint - 1, person])
            row.append(torch.cat(values, dim=1))
        steps.append(torch.stack(row, dim=1))
    read = torch.stack(steps, dim=1)
    assert read.shape == (2, 31, -(-frames // 3), 18)
    parts = plain_parts(encoder, read, [joint - 1 for joint in OFFICIAL])
    assert parts.shape == (2, 11, 16)
    assert_equal(encoder, x, parts, -(-frames // 3))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_features_of_the_earlier_form(fusion: str) -> None:
    encoder, x = gca(fusion=fusion, form="description"), clips()
    walk = traversal(encoder.layout)
    parts = plain_parts(encoder, x[..., 0].permute(0, 3, 2, 1)[:, walk], walk)
    assert_equal(encoder, x, parts, 6)


def test_first_weights_and_dropout() -> None:
    """Forget gates begin at 1, all else within 0.08; half of each layer's output is dropped."""
    encoder = build_encoder("gca-lstm", "kinect-v2")
    assert isinstance(encoder, SkeletonGCALSTM) and encoder.feature_dim == 128
    for layer in (encoder.first, encoder.second):
        weights = dict(layer.named_parameters())
        forget, rest = weights["inputs.bias"][128:384], weights["inputs.bias"][[*range(128)]]
        assert torch.equal(forget, torch.ones(256)) and rest.std() > 0.03
        for values in (rest, weights["inputs.weight"], weights["before.weight"]):
            assert 0.075 < values.abs().max() <= 0.08 + 1e-6
    seen: list[Tensor] = []
    encoder.dropout.register_forward_hook(lambda module, given, made: seen.append(made))
    encoder.train()(clips(joints=25, bodies=2).float())
    assert len(seen) == 2
    for values in seen:
        assert (values == 0).float().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("form", ["code", "description"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_it_learns_and_is_built_again(fusion: str, form: str) -> None:
    encoder = gca(fusion=fusion, bodies=2, feature_dim=24, form=form)
    x = clips(bodies=2)
    again = build_encoder(**encoder.config).double().eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x), encoder(x)) and encoder(x).shape == (2, 24)
    encoder(x)[:, 0].sum().backward()
    idle = [k for k, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_bodies() -> None:
    x = clips(bodies=2)
    both = gca(bodies=2)
    assert not torch.allclose(both(x), both(x.flip(-1))), "who comes first is read"
    x[1, ..., 1] = 0
    assert torch.equal(gca(bodies=2, body_pool="masked_mean")(x), both(x))
    alone = gca(form="description")
    each = torch.stack([alone(x[..., :1]), alone(x[..., 1:])])
    torch.testing.assert_close(gca(bodies=2, form="description")(x), each.mean(dim=0))
    masked = gca(bodies=2, body_pool="masked_mean", form="description")
    expected = torch.stack([each[:, 0].mean(dim=0), each[0, 1]])
    torch.testing.assert_close(masked(x), expected)
    assert masked(torch.zeros_like(x)).isfinite().all()


def test_files_of_earlier_versions_keep_their_form(tmp_path: Path) -> None:
    for own, expected in (({}, "description"), ({"form": "code"}, "code")):
        assert completed({"name": "gca-lstm", **own})["form"] == expected
    encoder = gca(form="description")
    del encoder.config["form"]
    save_encoder(tmp_path / "old.safetensors", encoder, {})
    again, metadata = load_encoder(tmp_path / "old.safetensors")
    x = clips()
    assert "form" not in metadata["encoder"] and again.config["form"] == "description"
    torch.testing.assert_close(again.double()(x), encoder(x))


def test_2d_and_wrong_settings() -> None:
    flat = build_encoder("gca-lstm", "coco", channels=2, bodies=1, width=0.125)
    assert flat(torch.randn(1, 2, 4, 17, 1)).shape == (1, 16)
    assert len(flat.parts) == 10, "no torso"
    assert build_encoder("gca-lstm", "kinect-v1").feature_dim == 128
    with pytest.raises(SkelfewError, match="fusion is 'sum'; expected average, fc, attention"):
        gca(fusion="sum")
    with pytest.raises(SkelfewError, match="encoder 'tcn' has no setting 'fusion'"):
        build_encoder("tcn", "kinect-v2", fusion="fc")

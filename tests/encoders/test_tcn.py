"""TCN-Oneshot: features of a body and the network, each against its description written out."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.data.joints.layouts import load_layout
from skelfew.encoders import build_encoder
from skelfew.encoders.body_features import BodyFeatures
from skelfew.encoders.tcn import SkeletonTCN
from skelfew.errors import SkelfewError

# Joint between the shoulders, then the way down to the base; "hips" is the point between them.
TORSO = {
    "kinect-v2": ("spine_shoulder", "spine_mid", "spine_base"),
    "kinect-v1": ("shoulder_centre", "spine", "hip_centre"),
    "h36m": ("thorax", "spine", "pelvis"),
    "smpl": ("neck", "spine2", "pelvis"),
    "openpose-25": ("neck", "mid_hip"),
    "openpose-18": ("neck", "hips"),
    "joints-15": ("neck", "torso", "hips"),
}


def tcn(**changes: object) -> SkeletonTCN:
    torch.manual_seed(0)
    encoder = (
        build_encoder("tcn", "joints-15", **{"width": 0.125, "bodies": 1, **changes})
        .double()
        .eval()
    )
    assert isinstance(encoder, SkeletonTCN)
    return encoder


def clips(n: int = 3, frames: int = 30, joints: int = 15, bodies: int = 1) -> Tensor:
    return torch.randn(n, 3, frames, joints, bodies, dtype=torch.float64)


def plain_features(frame: np.ndarray, layout: str) -> list[float]:
    """One frame (V, 3), sentence by sentence."""
    joint = dict(zip(load_layout(layout).joints, frame, strict=True))
    joint["hips"] = (joint["left_hip"] + joint["right_hip"]) / 2
    way = [joint[name] for name in TORSO[layout]]
    torso = sum(math.dist(a, b) for a, b in itertools.pairwise(way))
    frame = frame * 0.4 / torso
    joint = {name: place * 0.4 / torso for name, place in joint.items()}

    def direction(to: np.ndarray) -> np.ndarray:
        return to / math.sqrt(sum(to**2))

    x = direction(joint["left_hip"] - joint["hips"])
    z = direction(joint[TORSO[layout][0]] - joint["hips"])
    to_body = np.linalg.inv(np.column_stack([x, np.cross(x, z), z]))
    places = [(to_body @ (p - joint["hips"])).tolist() for p in frame]
    distances = [math.dist(a, b) for a, b in itertools.combinations(places, 2)]
    ways = [[b - a for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(places)]
    elevations = [math.atan2(c, math.hypot(a, b)) for a, b, c in ways]
    azimuths = [math.atan2(b, a) for a, b, _ in ways]
    return [*distances, *(value for place in places for value in place), *elevations, *azimuths]


@pytest.mark.parametrize("layout", list(TORSO))
def test_features_equal_the_description(layout: str) -> None:
    measure, joints = BodyFeatures(load_layout(layout)), len(load_layout(layout))
    body = clips(2, 3, joints)[..., 0].permute(0, 2, 3, 1)
    expected = [[plain_features(frame, layout) for frame in clip] for clip in body.numpy()]
    assert measure.size == len(expected[0][0]) == joints * (joints - 1) // 2 + 5 * joints - 2
    apart = measure(body) - torch.tensor(expected, dtype=torch.float64)
    turns = (apart / (2 * math.pi)).round()  # smpl's hips follow each other: azimuth pi or -pi
    assert not turns[..., : -2 * (joints - 1)].any()
    assert (apart - 2 * math.pi * turns).abs().max() < 1e-10


def test_423_features_and_3_43_million_parameters() -> None:
    encoder = build_encoder("tcn", "kinect-v2")
    assert encoder.measure.size == 423 and encoder.feature_dim == 256
    assert sum(p.numel() for p in encoder.parameters()) == 3_428_352


def test_features_of_impossible_bodies_are_finite() -> None:
    measure = BodyFeatures(load_layout("kinect-v2"))
    bodies = torch.zeros(3, 1, 25, 3, dtype=torch.float64)
    bodies[1] = 1  # all joints in one place
    bodies[2, ..., 2] = torch.arange(25)  # all on one line
    bodies.requires_grad_()
    features = measure(bodies)
    features.square().sum().backward()
    assert not features[0].any()
    assert features.isfinite().all() and features.abs().max() < 100
    assert bodies.grad is not None and bodies.grad.isfinite().all()


def plain_network(encoder: SkeletonTCN, y: Tensor) -> Tensor:
    """The sum of the blocks' outputs (D, T) for features y (F, T), tap by tap."""

    def causal(conv: torch.nn.Conv1d, x: Tensor, dilation: int) -> Tensor:
        out = []
        for t in range(x.shape[1]):
            value = conv.bias
            for tap in range(4):
                source = t - dilation * (3 - tap)
                if source >= 0:
                    value = value + conv.weight[:, :, tap] @ x[:, source]
            out.append(value.relu())
        return torch.stack(out, dim=1)

    total = torch.zeros((), dtype=torch.float64)
    for block, dilation in zip(encoder.blocks, [1, 2, 4, 1, 2, 4], strict=True):
        out = causal(block.conv2, causal(block.conv1, y, dilation), dilation)
        total = total + out
        if isinstance(block.residual, torch.nn.Conv1d):
            y = block.residual.weight[:, :, 0] @ y + block.residual.bias[:, None]
        y = (out + y).relu()
    return total


def test_network_equals_the_description() -> None:
    encoder, x = tcn(), clips(2, 12)
    sums = encoder.forward_features(x)
    assert sums.shape == (2, 1, 32, 12, 1)
    features = encoder.measure(x[..., 0].permute(0, 2, 3, 1)).transpose(1, 2)
    expected = torch.stack([plain_network(encoder, clip) for clip in features])
    torch.testing.assert_close(sums[:, 0, :, :, 0], expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(encoder(x), F.normalize(expected[:, :, -1], dim=1))
    torch.testing.assert_close(encoder.pool(sums, x), encoder(x))
    torch.testing.assert_close(encoder.forward_sequence(x)[:, -1, 0], encoder(x))


def test_frames_without_the_body_do_not_count() -> None:
    """After its last frame nothing counts; the feature is that of the clip that ends there."""
    encoder, x = tcn(), clips(2, 24)
    x[0, :, 15:] = 0
    x[1, :, 4:7] = 0
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1, :, :15]))
    features = encoder.measure(x[..., 0].permute(0, 2, 3, 1))
    assert not features[1, 4:7].any()
    x.zero_().requires_grad_()
    encoder(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_one_body_is_read() -> None:
    encoder, x = tcn(bodies=2), clips(3, 20, bodies=2)
    x[0, :, 12:, :, 1] = 0
    x[0, ..., 1] *= 5  # varies more, but is there in fewer frames
    x[1, ..., 0] *= 0.5
    x[2, ..., 0] = 0
    expected = torch.cat(
        [tcn()(clip[None, ..., body, None]) for clip, body in zip(x, (0, 1, 1), strict=True)]
    )
    torch.testing.assert_close(encoder(x), expected)
    encoder.train()
    for block in encoder.blocks:
        block.dropout.p = 0.0
    drawn = torch.stack([encoder(x) for _ in range(20)])
    varies = drawn.std(dim=0).amax(dim=1) > 1e-3
    assert varies.tolist() == [True, True, False], "in training any body that is there"


def test_it_learns_and_is_built_again() -> None:
    encoder = tcn(feature_dim=40)
    x = clips()
    again = build_encoder(**encoder.config).double().eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x), encoder(x)) and encoder(x).shape == (3, 40)
    torch.testing.assert_close(encoder(x).square().sum(dim=1), torch.ones(3, dtype=torch.float64))
    encoder.train()(x)[:, 0].sum().backward()
    assert [k for k, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bodies_it_cannot_measure() -> None:
    with pytest.raises(SkelfewError, match=r"layout coco lacks joints .* one of spine_shoulder"):
        build_encoder("tcn", "coco")
    with pytest.raises(SkelfewError, match="joints have 2 values instead of x, y and z"):
        build_encoder("tcn", "kinect-v2", channels=2)

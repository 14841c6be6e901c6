"""ResNet-18 on images of skeletons: torchvision's numbers and names, and the images themselves."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from skelfew.encoders import build_encoder
from skelfew.encoders.checkpoints import (
    WeightsError,
    is_own,
    load_encoder,
    load_initial,
    load_public,
    save_encoder,
)
from skelfew.encoders.images import SkeletonImage
from skelfew.encoders.outputs import read
from skelfew.encoders.resnet18 import SkeletonResNet
from skelfew.errors import SkelfewError


def resnet(**changes: object) -> SkeletonResNet:
    encoder = build_encoder("resnet18", "joints-15", **{"image_size": 64, **changes})
    assert isinstance(encoder, SkeletonResNet)
    return encoder


def torchvision_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """The state dict of torchvision's ResNet-18 with statistics that matter."""
    torch.manual_seed(seed)
    state = torchvision.models.resnet18().state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var")):
            state[key] = value + 0.1 * torch.rand_like(value)
    return state


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_equals_torchvision(tmp_path: Path, suffix: str) -> None:
    state = torchvision_weights()
    path = tmp_path / f"resnet18.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    encoder = resnet()
    own = {key: value.shape for key, value in encoder.state_dict().items()}
    assert own == {key: v.shape for key, v in state.items() if not key.startswith("fc.")}
    assert not is_own(path)
    assert set(load_initial(path, encoder)) == {"fc.weight", "fc.bias"}
    theirs = torchvision.models.resnet18()
    theirs.load_state_dict(state)
    theirs.fc = torch.nn.Identity()
    encoder.double().eval(), theirs.double().eval()
    x = torch.randn(2, 3, 9, 15, 2).double()
    torch.testing.assert_close(encoder(x), theirs(encoder.image(x)), rtol=1e-12, atol=1e-12)
    encoder.train(), theirs.train()
    torch.testing.assert_close(encoder(x), theirs(encoder.image(x)), rtol=1e-12, atol=1e-12)


def test_starts_like_torchvision() -> None:
    """The same spread of every convolution, BatchNorm at 1 and 0."""
    own, theirs = resnet().state_dict(), torchvision.models.resnet18().state_dict()
    for key, value in own.items():
        if value.ndim == 4:
            assert float(value.std() / theirs[key].std()) == pytest.approx(1, abs=0.05), key
        else:
            torch.testing.assert_close(value, theirs[key])


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    state = torchvision_weights()
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    embedded = resnet(embedding=16)
    assert embedded.embedder is not None
    before = embedded.embedder.weight.clone()
    load_public(tmp_path / "old.pth", embedded)
    assert torch.equal(embedded.embedder.weight, before)
    assert torch.equal(embedded.conv1.weight, state["conv1.weight"])
    with pytest.raises(WeightsError, match=r"do not fit resnet18 .*width=0\.25"):
        load_public(tmp_path / "old.pth", resnet(width=0.25))
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(WeightsError, match=r"resnet34\.pth: .* with unknown layer1\.2\.conv1"):
        load_initial(tmp_path / "resnet34.pth", resnet())
    with pytest.raises(WeightsError, match=r"old\.pth: the weights do not fit agcn"):
        load_initial(tmp_path / "old.pth", build_encoder("agcn", "joints-15"))
    with pytest.raises(WeightsError, match=r"absent\.safetensors: no such file"):
        load_initial(tmp_path / "absent.safetensors", resnet())


def test_a_file_of_ours_builds_it_again(tmp_path: Path) -> None:
    encoder = resnet(image="skeleton-dml", width=0.125, embedding=12).eval()
    save_encoder(tmp_path / "encoder.safetensors", encoder, {})
    assert is_own(tmp_path / "encoder.safetensors")
    again, _ = load_encoder(tmp_path / "encoder.safetensors")
    assert again.config == encoder.config and again.feature_dim == 12
    x = torch.randn(2, 3, 8, 15, 2)
    assert torch.equal(again(x), encoder(x))


# Images


def plain_image(x: torch.Tensor, kind: str, size: int) -> torch.Tensor:
    """One clip (C, T, V, M) as the description has it, step by step."""
    bodies = [x[..., m] for m in range(x.shape[-1]) if x[..., m].any()] or [x[..., 0]]
    joints = torch.cat([body.permute(2, 0, 1) for body in bodies])  # (k V, C, T)
    joints = joints - joints.min()
    joints = joints / joints.max() if joints.max() > 0 else joints
    if joints.shape[1] < 3:
        joints = torch.cat([joints, torch.zeros_like(joints[:, :1])], dim=1)
    if kind == "sl-dml":
        image = joints.permute(1, 0, 2)
    else:
        rows = [torch.cat(list(joint)).view(-1, 3) for joint in joints]  # x, y, z in threes
        image = torch.stack(rows).permute(2, 0, 1)
    return torch.nn.functional.interpolate(image[None], (size, size), mode="bilinear")[0]


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("frames", [7, 40])
@pytest.mark.parametrize("kind", ["sl-dml", "skeleton-dml"])
def test_images_of_a_batch_equal_those_of_single_clips(
    kind: str, frames: int, channels: int
) -> None:
    x = torch.randn(5, channels, frames, 15, 2).double()
    x[1, ..., 1] = 0
    x[2, ..., 0] = 0
    x[3] = 0
    x[4] = 2.5
    images = SkeletonImage(kind, 32, 15, 2, channels)(x)
    assert images.min() >= 0 and images.max() <= 1 + 1e-6
    expected = torch.stack([plain_image(clip, kind, 32) for clip in x])
    torch.testing.assert_close(images, expected, atol=1e-6, rtol=1e-6)
    assert images[0].std() > 0.05


# Like other encoders


@pytest.mark.parametrize("embedding", [None, 10])
def test_features_in_places_have_the_mean_that_is_pooled(embedding: int | None) -> None:
    encoder = resnet(width=0.125, embedding=embedding).double().eval()
    x = torch.randn(3, 3, 12, 15, 2).double()
    pooled = encoder(x)
    assert pooled.shape == (3, encoder.feature_dim) == (3, embedding or 64)
    maps = encoder.forward_features(x)
    assert maps.shape == (3, 1, 64, 2, 2)
    torch.testing.assert_close(encoder.pool(maps, x), pooled)
    joints = read(encoder, x, "joints")
    assert joints.shape == (3, 2, 2, encoder.feature_dim)
    torch.testing.assert_close(joints.mean(dim=(1, 2)), pooled)
    assert read(encoder, x, "mirrored").shape == (3, 2, encoder.feature_dim)
    torch.manual_seed(0)
    encoder.train()(x).square().sum().backward()
    assert [k for k, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_places_of_the_image_are_in_the_order_of_time() -> None:
    """What changes late in the clip changes the late places only."""
    encoder = resnet(width=0.125, image_size=256).double().eval()
    x = torch.randn(1, 3, 64, 15, 1).double().clamp(-2, 2)
    x[0, 0, 30, 0] = torch.tensor([-3.0])  # smallest and largest value stay where they are
    x[0, 1, 30, 0] = torch.tensor([3.0])
    x = torch.cat([x, x], dim=-1)
    other = x.clone()
    other[:, :, 62:] = -other[:, :, 62:]
    change = (encoder.conv1(encoder.image(x)) - encoder.conv1(encoder.image(other))).abs()
    assert change[..., -3:].max() > 0 and change[..., :100].max() == 0
    with pytest.raises(SkelfewError, match="not frames in order"):
        resnet(image="skeleton-dml").forward_sequence(x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "heatmap"}, "image is 'heatmap'; expected sl-dml, skeleton-dml"),
        ({"image_size": 16}, "image_size is 16"),
        ({"channels": 4}, "joints of 4 values"),
        ({"embedding": 0}, "embedding is 0"),
        ({"embedding": 8, "feature_dim": 64}, "contradict each other"),
    ],
)
def test_impossible_images(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SkelfewError, match=message):
        resnet(**changes)
    with pytest.raises(SkelfewError, match="encoder 'agcn' has no setting 'image_size'"):
        build_encoder("agcn", "joints-15", image_size=64)

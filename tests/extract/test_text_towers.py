"""The text towers of CLIP and X-CLIP as teachers that see no video."""

from pathlib import Path
from typing import Any

import pytest
import torch
from skelfew_extract.open_clip_door import open_clip
from skelfew_extract.teachers import build_text_teacher
from skelfew_extract.teachers.xclip_teacher import build_xclip, save_teacher

from skelfew.errors import SkelfewError
from skelfew.io.files import file_sha256

TEXTS = ["Draw circle (counter clockwise)", "throw"]
SMALL = "ViT-S-32-alt"  # the smallest text tower of open_clip


@pytest.fixture(scope="module")
def clip() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return open_clip.create_model(SMALL, load_weights=False).eval()


@pytest.fixture(scope="module")
def weights(clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(clip.state_dict(), path)
    return path


def test_open_clip(clip: Any, weights: Path) -> None:
    teacher = build_text_teacher(weights=f"open_clip:{SMALL}/{weights}")
    with torch.inference_mode():
        expected = clip.encode_text(open_clip.get_tokenizer(SMALL)(TEXTS), normalize=True)
    found = teacher.encode_text(TEXTS)
    assert found.shape == (2, teacher.dim) == (2, 256)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    about = teacher.describe()
    assert about["weights"] == f"{SMALL}/small.safetensors" and about["trained"] is True
    assert about["weights_sha256"] == file_sha256(weights) and about["frames"] == 0
    with pytest.raises(SkelfewError, match="402 tokens, but the text tower reads 75"):
        teacher.encode_text(["kick punch " * 201])


def test_xclip(tmp_path: Path) -> None:
    whole = build_xclip("xclip-demo", untrained=True, seed=5)
    save_teacher(whole, tmp_path / "demo.safetensors", dtype=torch.float32)
    teacher = build_text_teacher(weights=f"xclip:xclip-demo/{tmp_path / 'demo.safetensors'}")
    expected = torch.nn.functional.normalize(whole.encode_text(TEXTS), dim=-1)
    assert torch.equal(teacher.encode_text(TEXTS), expected)
    about = teacher.describe()
    assert about["trained"] is False and "xclip-demo" in about["architecture"]
    assert about["weights_sha256"] == file_sha256(tmp_path / "demo.safetensors")
    seeded = build_text_teacher(weights="xclip:xclip-demo", untrained=True, seed=5)
    assert torch.equal(seeded.encode_text(TEXTS), expected)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("open_clip:ViT-B-23/laion2b_s34b_b79k", "did you mean ViT-B-"),
        ("open_clip:ViT-B-32/nothing", "neither a file nor a tag.*laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32", "neither a file nor a tag"),
        ("open_clip:ViT-B-16-SigLIP/webli", "does not read CLIP's 77 tokens"),
        ("xclip:xclip-base-patch61", "did you mean xclip-base-patch"),
        ("xclip:xclip-demo/absent.safetensors", "absent.safetensors: no such file"),
    ],
)
def test_errors(asked: str, message: str) -> None:
    with pytest.raises(SkelfewError, match=message):
        build_text_teacher(weights=asked)


def test_weights_of_another_model(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"logit_scale": torch.ones(())}, tmp_path / "other.safetensors")
    with pytest.raises(SkelfewError, match=f"not the weights of {SMALL}"):
        build_text_teacher(weights=f"open_clip:{SMALL}/{tmp_path / 'other.safetensors'}")

"""X-CLIP against transformers' XCLIPModel: the same weights give the same numbers."""

from dataclasses import replace

import pytest
import torch
from skelfew_extract.teachers.variants import VARIANTS, Variant
from skelfew_extract.teachers.xclip import XCLIP
from skelfew_extract.teachers.xclip_names import to_hugging_face, to_native
from torch import Tensor, nn
from xclip_case import TINY, TOKENS, clips, fill, our_outputs, reference, reference_outputs


def perturb(model: nn.Module) -> None:
    """Move biases, LayerNorms, alpha and the cramped position tables, so that none is inert."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1 or "positional_embedding" in name:
                p.add_(torch.randn(p.shape, generator=generator), alpha=0.1)


def close(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    assert set(ours) == set(theirs)
    for what, expected in theirs.items():
        assert ours[what].dtype == expected.dtype
        difference = (ours[what] - expected).abs().max().item()
        assert difference < atol, f"{what} differs by {difference}"


@pytest.mark.parametrize(
    "variant",
    [TINY, replace(TINY, frames=3, width=192, text_width=128, dim=64, patch=16)],
    ids=["tiny", "other-widths"],
)
def test_small_in_float64(variant: Variant) -> None:
    model = XCLIP(variant).eval()
    fill(model)
    theirs = reference(variant, joint_heads=variant.dim // 64).double()
    theirs.load_state_dict(to_hugging_face(model.state_dict()))
    pixels = clips(variant, 2)
    close(our_outputs(model, pixels, TOKENS), reference_outputs(theirs, pixels, TOKENS), 1e-10)


def test_small_in_float64_from_their_weights() -> None:
    """The other direction: their names and their own random weights load strictly."""
    theirs = reference(TINY, joint_heads=2)
    for module in theirs.prompts_generator.modules():
        if isinstance(module, nn.Linear):  # transformers leaves them at std 1
            nn.init.normal_(module.weight, std=0.02)
    perturb(theirs)
    theirs = theirs.double()
    model = XCLIP(TINY).eval().double()
    model.load_state_dict(to_native(theirs.state_dict()))
    pixels = clips(TINY, 2)
    close(our_outputs(model, pixels, TOKENS), reference_outputs(theirs, pixels, TOKENS), 1e-10)


@pytest.mark.parametrize(("forced", "agree"), [(8, True), (None, False)])
def test_their_head_count_where_d_is_768(forced: int | None, agree: bool) -> None:
    """transformers keeps 8 heads for X-CLIP L/14, which was trained with D / 64 = 12."""
    variant = replace(TINY, dim=768)
    model = XCLIP(variant, joint_heads=forced).eval()
    fill(model)
    theirs = reference(variant, joint_heads=8).double()
    theirs.load_state_dict(to_hugging_face(model.state_dict()))
    pixels = clips(variant, 1)
    with torch.no_grad():
        ours = model.encode_video(pixels)[0]
    difference = (ours - reference_outputs(theirs, pixels, TOKENS)["video"]).abs().max()
    assert (difference < 1e-10) == agree
    assert model.mit.resblocks[0].attn.num_heads == (forced or 12)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_has_their_parameters(name: str) -> None:
    """Names and shapes of both models, without allocating either."""
    variant = VARIANTS[name]
    with torch.device("meta"):
        ours = to_hugging_face(XCLIP(variant).state_dict())
        theirs = reference(variant, joint_heads=variant.dim // 64).state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in ours.items()}
    assert shapes == {key: tuple(tensor.shape) for key, tensor in theirs.items()}

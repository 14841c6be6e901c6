"""A small X-CLIP whose every number follows from a formula, and the same model in transformers."""

import zlib
from typing import Any

import numpy as np
import torch
from skelfew_extract.teachers.variants import Variant
from torch import Tensor, nn

TINY = Variant(
    "tiny",
    clip=None,
    patch=8,
    frames=4,
    image_size=32,
    width=128,
    layers=2,
    text_width=64,
    text_layers=2,
    dim=128,
    vocabulary=60,
)
# Three labels, the end-of-text token (59) being the highest; padded with zeros as CLIP does.
TOKENS = torch.tensor([[58, 7, 59, 0, 0, 0], [58, 12, 33, 4, 59, 0], [58, 1, 2, 3, 7, 59]])


def formula(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return float64 numbers in [-1, 1) from the name and the position alone (SplitMix64)."""
    position = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
    x = position * np.uint64(0x9E3779B97F4A7C15) + np.uint64(zlib.crc32(name.encode()))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return torch.from_numpy((x >> np.uint64(11)).astype(np.float64) / 2**52 - 1).reshape(shape)


def parameters(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return float64 parameters of native names, none of them inert."""
    state = {}
    for name, shape in shapes.items():
        x = formula(name, shape)
        if name == "logit_scale":
            x = 2.5 + 0.1 * x
        elif name.endswith("alpha"):
            x = 0.3 + 0.2 * x
        elif len(shape) == 1 and name.endswith("weight"):  # of a LayerNorm
            x = 1 + 0.3 * x
        elif len(shape) == 1:
            x = 0.2 * x
        elif len(shape) == 2 and "embedding" not in name:
            x = x * (3 / shape[1]) ** 0.5
        state[name] = x
    return state


def fill(model: nn.Module) -> None:
    """Give a model with native names the parameters of the formula."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.double().load_state_dict(parameters(shapes))


def clips(variant: Variant, count: int) -> Tensor:
    """Return float64 normalised clips (count, T, 3, S, S)."""
    shape = (count, variant.frames, 3, variant.image_size, variant.image_size)
    return 2 * formula("clips", shape)


def reference(variant: Variant, joint_heads: int) -> Any:
    """Return transformers' XCLIPModel of the same shapes."""
    from transformers import XCLIPConfig, XCLIPModel

    text = {
        "vocab_size": variant.vocabulary,
        "hidden_size": variant.text_width,
        "intermediate_size": 4 * variant.text_width,
        "num_hidden_layers": variant.text_layers,
        "num_attention_heads": variant.text_width // 64,
        "max_position_embeddings": variant.context_length,
    }
    vision = {
        "hidden_size": variant.width,
        "intermediate_size": 4 * variant.width,
        "num_hidden_layers": variant.layers,
        "num_attention_heads": variant.width // 64,
        "mit_hidden_size": variant.dim,
        "mit_intermediate_size": 4 * variant.dim,
        "mit_num_attention_heads": joint_heads,
        "image_size": variant.image_size,
        "patch_size": variant.patch,
        "num_frames": variant.frames,
    }
    config = XCLIPConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=variant.dim,
        prompt_num_attention_heads=joint_heads,
    )
    return XCLIPModel(config).eval()


@torch.no_grad()
def reference_outputs(model: Any, pixels: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Return what transformers computes: raw features, conditioned text and logits."""
    prompted = []
    # The forward pass normalises the conditioned text; what went in and out of the prompt generator
    # gives it raw.
    hook = model.prompts_generator.register_forward_hook(
        lambda module, inputs, output: prompted.append(inputs[0] + output)
    )
    try:
        result = model(input_ids=tokens, pixel_values=pixels)
    finally:
        hook.remove()
    return {
        "video": _pooled(model.get_video_features(pixel_values=pixels)),
        "text": _pooled(model.get_text_features(input_ids=tokens)),
        "conditioned": prompted[0],
        "logits": result.logits_per_video,
    }


def _pooled(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output  # transformers 4 or 5


@torch.no_grad()
def our_outputs(model: Any, pixels: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Return the same of an XCLIP."""
    video, context = model.encode_video(pixels)
    text = model.encode_text(tokens)
    conditioned = model.condition(text.expand(len(video), -1, -1), context)
    logits = model(pixels, tokens)
    return {"video": video, "text": text, "conditioned": conditioned, "logits": logits}

"""ActionCLIP: CLIP's frame features and a transformer over time; texts in sixteen templates.

Source: Wang et al., "ActionCLIP: A New Paradigm for Video Action Recognition" (2021), its code
(sallymmx/ActionCLIP) and the port in mmaction2 (projects/actionclip). Only the fusion of the
published models ("Transf") is here.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.errors import SkelfewError
from skelfew.io.files import Document
from skelfew_extract.open_clip_door import CLIP, VERSION, QuickGELU, ResidualAttentionBlock
from skelfew_extract.teachers import Shape
from skelfew_extract.teachers.actionclip_weights import (
    PORTED_EPS,
    ActionCheckpoint,
    open_actionclip,
    problems,
)
from skelfew_extract.teachers.frame_teacher import FrameTeacher
from skelfew_extract.teachers.variants import ACTION_VARIANTS, ActionVariant
from skelfew_extract.text import CONTEXT_LENGTH, tokenize
from skelfew_extract.weight_files import find_action_weights
from skelfew_extract.weights import state_sha256

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
TEMPLATES = (
    "a photo of action {}", "a picture of action {}", "Human action of {}", "{}, an action",
    "{} this is an action", "{}, a video of action", "Playing action of {}", "{}",
    "Playing a kind of action, {}", "Doing a kind of action, {}", "Look, the human is {}",
    "Can you recognize the action of {}?", "Video classification of {}", "A video of {}",
    "The man is {}", "The woman is {}",
)  # fmt: skip
_HEAD_WIDTH = 64


class Fusion(nn.Module):
    """Attention over the frames of a clip, then the mean of it and its input.

    ``rows`` positions, the first T are used; ``eps`` is 1e-12 in the original code, 1e-5 in the
    port.
    """

    def __init__(self, dim: int, heads: int, layers: int, rows: int, eps: float):
        super().__init__()
        self.frame_position_embeddings = nn.Embedding(rows, dim)
        self.transformer = nn.Module()
        blocks = [ResidualAttentionBlock(dim, heads, act_layer=QuickGELU) for _ in range(layers)]
        self.transformer.resblocks = nn.Sequential(*blocks)
        for block in blocks:
            block.ln_1.eps = block.ln_2.eps = eps

    def forward(self, frames: Tensor) -> Tensor:
        """Return the video feature (B, D) of frame features (B, T, D)."""
        x = frames + self.frame_position_embeddings.weight[: frames.shape[1]]
        x = self.transformer.resblocks(x)  # type: ignore[operator]
        return (x + frames).mean(dim=1)


class ActionCLIP(nn.Module):
    """The network, randomly initialised: ``clip`` and ``fusion``."""

    def __init__(self, variant: ActionVariant, layers: int, rows: int, eps: float):
        super().__init__()
        heads = variant.text_width // _HEAD_WIDTH
        self.clip = CLIP(
            embed_dim=variant.dim,
            vision_cfg={
                "image_size": variant.image_size,
                "patch_size": variant.patch,
                "width": variant.width,
                "layers": variant.layers,
                "head_width": _HEAD_WIDTH,
            },
            text_cfg={
                "context_length": CONTEXT_LENGTH,
                "vocab_size": variant.vocabulary,
                "width": variant.text_width,
                "heads": heads,
                "layers": variant.text_layers,
            },
            quick_gelu=True,
        )
        self.fusion = Fusion(variant.dim, heads, layers, rows, eps)


class ActionCLIPTeacher(FrameTeacher):
    """A frozen ActionCLIP (see ``Teacher``)."""

    def encode_one_text(self, text: str) -> Tensor:
        """Return the feature of a text, (1, D)."""
        tokens = tokenize(text)
        tokens = F.pad(tokens, (0, CONTEXT_LENGTH - tokens.shape[1])).to(self.device)
        feature: Tensor = self.model.clip.encode_text(tokens)
        return feature

    def encode_video(self, pixels: Tensor) -> Tensor:
        """Return f_v (B, D), as the fusion gives it, of normalised frames (B, T, 3, S, S)."""
        with self._blocks():
            frames = self.model.clip.encode_image(pixels.flatten(0, 1))
        fused: Tensor = self.model.fusion(frames.float().unflatten(0, (-1, self.frames)))
        return fused


def build(
    name: str,
    *,
    weights: str | None = None,
    untrained: bool = False,
    seed: int = 0,
    **placement: Any,
) -> ActionCLIPTeacher:
    """Return an ActionCLIP teacher; see ``build_teacher``."""
    variant = ACTION_VARIANTS[name]
    if untrained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ActionCLIP(variant, variant.fusion_layers, variant.frames, PORTED_EPS)
        about: Document = {"weights": f"untrained seed {seed}"}
        about |= {"weights_sha256": state_sha256(model.state_dict())}
    else:
        checkpoint = open_actionclip(find_action_weights(variant, weights))
        model = _load(checkpoint, variant)
        about = {"weights": checkpoint.path.name, "weights_sha256": checkpoint.sha256}
    about = {
        "name": name,
        "architecture": f"ActionCLIP, ViT-{variant.layers}x{variant.width}/{variant.patch} at "
        f"{variant.image_size} pixels, {len(model.fusion.transformer.resblocks)} blocks over time",  # type: ignore[arg-type]
        "activation": "quickgelu",
        "trained": not untrained,
        **about,
        "open_clip": VERSION,
    }
    return ActionCLIPTeacher(
        model,
        about,
        frames=variant.frames,
        image_size=variant.image_size,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        templates=TEMPLATES,
        interpolation="bicubic",
        **placement,
    )


def shape_of(name: str) -> Shape:
    """Return what the teacher takes, without its weights."""
    variant = ACTION_VARIANTS[name]
    return Shape(variant.frames, variant.image_size, variant.width, "bicubic", False)


def _load(checkpoint: ActionCheckpoint, variant: ActionVariant) -> ActionCLIP:
    """Return the network with all parameters of a checkpoint and nothing left over."""
    rows = checkpoint.rows
    if rows < variant.frames or (checkpoint.ported and rows != variant.frames):
        raise SkelfewError(
            f"{checkpoint.path}: trained on clips of {rows} frames, but {variant.name} takes "
            f"{variant.frames}; {checkpoint.advice}"
        )
    with torch.device("meta"):
        model = ActionCLIP(variant, checkpoint.layers, rows, checkpoint.eps)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if wrong := problems(checkpoint.state, expected):
        raise SkelfewError(
            f"{checkpoint.path}: does not fit {variant.name} ({wrong}); {checkpoint.advice}"
        )
    model.load_state_dict({n: t.float() for n, t in checkpoint.state.items()}, assign=True)
    # Not a parameter, so no checkpoint brings it.
    length = model.clip.positional_embedding.shape[0]
    model.clip.attn_mask = torch.full((length, length), float("-inf")).triu(1)
    return model

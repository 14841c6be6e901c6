"""X-CLIP on open_clip's CLIP: the network alone; xclip_teacher.py freezes and feeds it.

Source: Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition"
(2022). Parameter names are those of the authors' checkpoints, and the values agree with both their
code and `transformers` (docs/teachers.md).

Shapes: B clips, T frames, P patches, W vision width, D joint width, C labels, L tokens.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew_extract.open_clip_door import CLIP, QuickGELU, ResidualAttentionBlock
from skelfew_extract.teachers.variants import Variant

HEAD_WIDTH = 64
_QUICK = 1.702  # of QuickGELU


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Return scaled dot-product attention of projected q (N, Q, W) over k, v (N, K, W)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def self_attention(module: nn.MultiheadAttention, tokens: Tensor) -> Tensor:
    """Return ``module(tokens, tokens, tokens)`` for tokens (N, L, W), in one projection."""
    q, k, v = F.linear(tokens, module.in_proj_weight, module.in_proj_bias).chunk(3, dim=-1)
    return module.out_proj(attend(q, k, v, module.num_heads))


@torch.no_grad()
def add_mlp(mlp: nn.Sequential, normed: Tensor, to: Tensor) -> None:
    """Add ``mlp(normed)`` to ``to`` in place; both (N, L, W).

    z sigmoid(1.702 z) is silu(1.702 z) / 1.702, and both factors are part of the matrix products:
    so QuickGELU is one pass over memory in place of three.
    """
    inner: nn.Linear = mlp.get_submodule("c_fc")  # type: ignore[assignment]
    outer: nn.Linear = mlp.get_submodule("c_proj")  # type: ignore[assignment]
    rows = normed.flatten(0, 1)
    h = torch.addmm(inner.bias, rows, inner.weight.t(), beta=_QUICK, alpha=_QUICK)
    F.silu(h, inplace=True)
    to.flatten(0, 1).addmm_(h, outer.weight.t(), alpha=1 / _QUICK).add_(outer.bias)


class CrossFrameBlock(ResidualAttentionBlock):
    """A vision block whose frames tell each other what they see (Ni et al., Sec. 3.2).

    Each frame sends a message made from its class token; the messages of a clip attend to each
    other, and every frame then attends to its own message as one more token, which is dropped.
    """

    def __init__(self, width: int, heads: int, frames: int):
        super().__init__(width, heads, act_layer=QuickGELU)
        self.frames = frames
        self.message_fc = nn.Linear(width, width)
        self.message_ln = nn.LayerNorm(width)
        self.message_attn = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(
        self, x: Tensor, k_x: None = None, v_x: None = None, attn_mask: None = None
    ) -> Tensor:
        """Map tokens (B * T, P + 1, W), clip-major and class token first, to the same shape."""
        message = self.message_fc(x[:, 0]).unflatten(0, (-1, self.frames))
        h = self.message_ln(message)
        message = message + self_attention(self.message_attn, h)
        h = self.ln_1(torch.cat([x, message.flatten(0, 1).unsqueeze(1).to(x.dtype)], dim=1))
        x = x + self_attention(self.attn, h)[:, :-1]  # a product for all is faster than for some
        if x.device.type != "cpu" or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return x + self.mlp(self.ln_2(x))
        add_mlp(self.mlp, self.ln_2(x), x)
        return x


class MultiframeIntegration(nn.Module):
    """One attention block over the frame features of a clip, then their mean (Sec. 3.2)."""

    def __init__(self, dim: int, heads: int, frames: int, layers: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(1, frames, dim))
        self.resblocks = nn.Sequential(
            *(ResidualAttentionBlock(dim, heads, act_layer=QuickGELU) for _ in range(layers))
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Return the video feature (B, D) of frame features (B, T, D)."""
        return (self.resblocks(frames + self.positional_embedding) + frames).mean(dim=1)


class PromptAttention(nn.Module):
    """Attention of the prompt generator: projections without bias, output with."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, text: Tensor, video: Tensor) -> Tensor:
        return self.proj(
            attend(self.q_proj(text), self.k_proj(video), self.v_proj(video), self.heads)
        )


class PromptLayer(nn.Module):
    """A decoder layer of the prompt generator; there is no norm2 and no text self-attention."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.cross_attn = PromptAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        # The empty Dropout keeps the second Linear at "mlp.3", its name in the checkpoints.
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), QuickGELU(), nn.Dropout(0.0), nn.Linear(4 * dim, dim)
        )

    def forward(self, text: Tensor, video: Tensor) -> Tensor:
        text = text + self.cross_attn(self.norm1(text), video)
        return text + self.mlp(self.norm3(text))


class PromptGenerator(nn.Module):
    """Video-specific prompting (Sec. 3.3): adds to the text of each label."""

    def __init__(self, dim: int, heads: int, layers: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.decoder = nn.ModuleList(PromptLayer(dim, heads) for _ in range(layers))
        self.alpha = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, text: Tensor, context: Tensor) -> Tensor:
        """Return the addition to text (B, C, D) given patches (B, P, D); labels stay apart."""
        video = self.norm(context)
        for layer in self.decoder:
            text = layer(text, video)
        return self.alpha * text


class XCLIP(CLIP):
    """X-CLIP, randomly initialised.

    Args:
        joint_heads: Heads of the multi-frame integration and the prompt generator; D / 64 if not
            given, as the released weights were trained. `transformers` uses 8 also where D is 768;
            only a comparison with it should force that.
    """

    def __init__(self, variant: Variant, joint_heads: int | None = None):
        super().__init__(
            embed_dim=variant.dim,
            vision_cfg={
                "image_size": variant.image_size,
                "patch_size": variant.patch,
                "width": variant.width,
                "layers": variant.layers,
                "head_width": HEAD_WIDTH,
            },
            text_cfg={
                "context_length": variant.context_length,
                "vocab_size": variant.vocabulary,
                "width": variant.text_width,
                "heads": variant.text_width // HEAD_WIDTH,
                "layers": variant.text_layers,
            },
            quick_gelu=True,
        )
        width, dim = variant.width, variant.dim
        heads = joint_heads or dim // HEAD_WIDTH
        self.frames = variant.frames
        self.block_dtype: torch.dtype | None = None
        self.attn_mask = None  # encode_text makes its own, as long as the text
        self.visual.transformer.resblocks = nn.ModuleList(
            CrossFrameBlock(width, width // HEAD_WIDTH, variant.frames)
            for _ in range(variant.layers)
        )
        self.prompts_visual_ln = nn.LayerNorm(width)
        self.prompts_visual_proj = nn.Parameter(torch.empty(width, dim))
        self.mit = MultiframeIntegration(dim, heads, variant.frames, variant.mit_layers)
        self.prompts_generator = PromptGenerator(dim, heads, variant.prompt_layers)
        self._initialise_video_parts()

    def _initialise_video_parts(self) -> None:
        nn.init.normal_(self.prompts_visual_proj, std=self.prompts_visual_proj.shape[0] ** -0.5)
        nn.init.trunc_normal_(self.mit.positional_embedding, std=0.02)
        for module in self.prompts_generator.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _block_precision(self, device: torch.device) -> AbstractContextManager:
        if self.block_dtype is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=self.block_dtype)

    def encode_video(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return f_v (B, D) and the prompt context (B, P, D) of frames (B, T, 3, S, S).

        With ``block_dtype`` set, only the vision blocks compute in it, under autocast; their
        residual stream, the embedding and everything after the blocks stay float32.
        """
        visual = self.visual
        patches = visual.conv1(pixels.flatten(0, 1)).flatten(2).transpose(1, 2)
        token = visual.class_embedding.expand(len(patches), 1, -1)
        x = visual.ln_pre(torch.cat([token, patches], dim=1) + visual.positional_embedding)
        with self._block_precision(x.device):
            for block in visual.transformer.resblocks:
                x = block(x)
        frames = visual.ln_post(x[:, 0]) @ visual.proj
        # The patches skip ln_post. Their mean over T commutes with the projection, and is T times
        # less work before it.
        patches = self.prompts_visual_ln(x[:, 1:]).unflatten(0, (-1, self.frames)).mean(dim=1)
        feature = self.mit(frames.unflatten(0, (-1, self.frames)))
        return feature, patches @ self.prompts_visual_proj

    def encode_text(self, tokens: Tensor, normalize: bool = False) -> Tensor:
        """Return text features (C, D), before prompting, of token ids (C, L), L <= 77.

        Columns after the last end-of-text token change nothing: attention is causal.
        """
        length = tokens.shape[1]
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        causal = x.new_full((length, length), float("-inf")).triu(1)
        x = self.ln_final(self.transformer(x, attn_mask=causal))
        end = tokens.argmax(dim=1)  # the end-of-text token has the highest id
        x = x[torch.arange(len(x), device=x.device), end] @ self.text_projection
        return F.normalize(x, dim=-1) if normalize else x

    def condition(self, text: Tensor, context: Tensor) -> Tensor:
        """Return text features (B, C, D) prompted by the videos with this context (B, P, D)."""
        return text + self.prompts_generator(text, context)

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Return logits (B, C) of videos (B, T, 3, S, S) and labels (C, L)."""
        feature, context = self.encode_video(pixels)
        text = self.encode_text(tokens).expand(len(feature), -1, -1)
        text = F.normalize(self.condition(text, context), dim=-1)
        cosine = torch.einsum("bd,bcd->bc", F.normalize(feature, dim=-1), text)
        return self.logit_scale.exp() * cosine


def wrong_activations(model: nn.Module) -> list[str]:
    """Return the names of activations that are not QuickGELU; CLIP weights load without a word."""
    return [
        name
        for name, module in model.named_modules()
        if name.rpartition(".")[2] == "gelu" or isinstance(module, nn.GELU | nn.ReLU | nn.SiLU)
        if not isinstance(module, QuickGELU)
    ]

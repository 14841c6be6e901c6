"""ActionCLIP against the formulas of its description, from checkpoints of both spellings."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from skelfew_extract.open_clip_door import open_clip
from skelfew_extract.teachers import build_teacher, shape_of
from skelfew_extract.teachers.actionclip import CLIP_MEAN, CLIP_STD, TEMPLATES, ActionCLIP
from skelfew_extract.teachers.variants import ACTION_VARIANTS, ActionVariant
from torch import Tensor
from xclip_case import parameters

from skelfew.errors import SkelfewError
from skelfew.io.files import file_sha256

TINY = ActionVariant(
    "actionclip-tiny",
    patch=16,
    frames=4,
    file="vit-tiny-4f",
    image_size=32,
    width=64,
    layers=2,
    text_width=128,
    text_layers=1,
    dim=128,
    vocabulary=49408,
)
LAYERS = 3  # of the fusion, which the checkpoint says


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTION_VARIANTS, TINY.name, TINY)
    monkeypatch.setitem(
        __import__("skelfew_extract.teachers", fromlist=["TEACHERS"]).TEACHERS,
        TINY.name,
        "skelfew_extract.teachers.actionclip",
    )


@pytest.fixture(scope="module")
def states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters of CLIP and of the fusion (T positions), by the names of their own."""
    with torch.device("meta"):
        model = ActionCLIP(TINY, LAYERS, TINY.frames, 1e-5)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    state = {name: t.float() for name, t in parameters(shapes).items()}
    clip, fusion = (
        {name.removeprefix(p): t for name, t in state.items() if name.startswith(p)}
        for p in ("clip.", "fusion.")
    )
    return clip, fusion


def original(states: tuple[dict[str, Tensor], dict[str, Tensor]], path: Path) -> Path:
    """Write a checkpoint as the authors' training script does: DataParallel, 77 positions."""
    clip, fusion = (dict(s) for s in states)
    rows = torch.full((77, TINY.dim), 9.0)
    rows[: TINY.frames] = fusion["frame_position_embeddings.weight"]
    fusion["frame_position_embeddings.weight"] = rows
    content = {
        "epoch": 49,
        "model_state_dict": {n: t.half() for n, t in clip.items()},
        "fusion_model_state_dict": {f"module.{n}": t for n, t in fusion.items()},
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 5e-6, "params": [0]}]},
    }
    torch.save(content, path)
    return path


def ported(states: tuple[dict[str, Tensor], dict[str, Tensor]], path: Path) -> Path:
    """Write a checkpoint as mmaction2 publishes it."""
    clip, fusion = states
    state = {f"clip.{n}": t for n, t in clip.items()}
    torch.save({"state_dict": state | {f"adapter.{n}": t for n, t in fusion.items()}}, path)
    return path


# ---- the formulas, written down a second time ------------------------------------------------


def norm(x: Tensor, state: dict[str, Tensor], name: str, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    x = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps)
    return state[f"{name}.weight"] * x + state[f"{name}.bias"]


def block(
    x: Tensor,
    state: dict[str, Tensor],
    name: str,
    heads: int,
    eps: float = 1e-5,
    causal: bool = False,
) -> Tensor:
    """Return a block of CLIP on tokens (L, W): x + attention(ln_1 x), then x + MLP(ln_2 x)."""
    h = norm(x, state, f"{name}.ln_1", eps)
    qkv = h @ state[f"{name}.attn.in_proj_weight"].T + state[f"{name}.attn.in_proj_bias"]
    q, k, v = (part.view(len(x), heads, -1).transpose(0, 1) for part in qkv.chunk(3, dim=-1))
    scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
    if causal:
        later = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    mixed = (scores.softmax(-1) @ v).transpose(0, 1).reshape(len(x), -1)
    out = mixed @ state[f"{name}.attn.out_proj.weight"].T + state[f"{name}.attn.out_proj.bias"]
    x = x + out
    h = norm(x, state, f"{name}.ln_2", eps)
    h = h @ state[f"{name}.mlp.c_fc.weight"].T + state[f"{name}.mlp.c_fc.bias"]
    h = h * torch.sigmoid(1.702 * h)
    return x + h @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]


def image(pixels: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Return CLIP's feature (D,) of one picture (3, S, S)."""
    kernel = state["visual.conv1.weight"]
    patches = F.conv2d(pixels[None], kernel, stride=kernel.shape[-1])[0].flatten(1).T
    x = torch.cat([state["visual.class_embedding"][None], patches])
    x = norm(x + state["visual.positional_embedding"], state, "visual.ln_pre")
    for i in range(TINY.layers):
        x = block(x, state, f"visual.transformer.resblocks.{i}", TINY.width // 64)
    return norm(x[0], state, "visual.ln_post") @ state["visual.proj"]


def video(pixels: Tensor, clip: dict[str, Tensor], fusion: dict[str, Tensor], eps: float) -> Tensor:
    """Return the feature (D,) of a clip (T, 3, S, S)."""
    frames = torch.stack([image(picture, clip) for picture in pixels])
    x = frames + fusion["frame_position_embeddings.weight"][: len(frames)]
    for i in range(LAYERS):
        x = block(x, fusion, f"transformer.resblocks.{i}", TINY.text_width // 64, eps)
    return (x + frames).mean(0)


def text(label: str, state: dict[str, Tensor]) -> Tensor:
    """Return the mean of the templates' unit features (D,), scaled to length one."""
    features = []
    for template in TEMPLATES:
        tokens = open_clip.get_tokenizer("ViT-B-32")([template.format(label)])[0]
        x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
        for i in range(TINY.text_layers):
            x = block(x, state, f"transformer.resblocks.{i}", TINY.text_width // 64, causal=True)
        x = norm(x, state, "ln_final")[tokens.argmax()] @ state["text_projection"]
        features.append(x / x.norm())
    mean = torch.stack(features).mean(0)
    return mean / mean.norm()


def small(states: tuple[dict[str, Tensor], dict[str, Tensor]]) -> tuple[dict, dict]:  # type: ignore[type-arg]
    clip, fusion = ({n: t.double() for n, t in s.items()} for s in states)
    return clip, fusion


@pytest.mark.parametrize("spelling", [original, ported])
def test_features_are_those_of_the_formulas(states: Any, tmp_path: Path, spelling: Any) -> None:
    path = spelling(states, tmp_path / "actionclip.pth")
    teacher = build_teacher(TINY.name, weights=str(path))
    eps = 1e-12 if spelling is original else 1e-5
    clip, fusion = small(states)
    if spelling is original:  # its CLIP is stored in half precision
        clip = {n: t.half().double() for n, t in clip.items()}
    frames = torch.randint(0, 256, (2, 4, 3, 32, 32), dtype=torch.uint8)
    pixels = frames.double() / 255 - torch.tensor(CLIP_MEAN).double().view(3, 1, 1)
    pixels = pixels / torch.tensor(CLIP_STD).double().view(3, 1, 1)
    expected = torch.stack([video(p, clip, fusion, eps) for p in pixels])
    found, context = teacher.encode_clips(frames)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    texts = teacher.encode_text(["kick", "sit down"])
    torch.testing.assert_close(texts[1].double(), text("sit down", clip), atol=1e-5, rtol=0)
    assert teacher.condition(texts, context) is texts
    about = teacher.describe()
    assert about["weights_sha256"] == file_sha256(path) and about["trained"] is True
    assert "3 blocks over time" in about["architecture"] and len(about["templates"]) == 16
    assert teacher.interpolation == shape_of(TINY.name).interpolation == "bicubic"


def test_the_two_spellings_differ_by_their_layer_norms(states: Any, tmp_path: Path) -> None:
    """A clip of one colour has frame features whose norms make eps matter not; blocks have it."""
    one = build_teacher(TINY.name, weights=str(original(states, tmp_path / "a.pth")))
    two = build_teacher(TINY.name, weights=str(ported(states, tmp_path / "b.pth")))
    blocks = [t.model.fusion.transformer.resblocks for t in (one, two)]  # type: ignore[attr-defined]
    assert {b.ln_1.eps for b in blocks[0]} == {1e-12} and {b.ln_2.eps for b in blocks[1]} == {1e-5}


def test_what_is_not_this_actionclip_says_what_it_is(
    states: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, fusion = states

    def message(state: Any, name: str = TINY.name) -> str:
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(SkelfewError) as caught:
            build_teacher(name, weights=str(tmp_path / "x.pth"))
        return str(caught.value)

    assert "plain CLIP, without the fusion over time" in message(clip)
    assert "it is X-CLIP; ask for --teacher xclip-" in message(
        {"model": {**clip, "prompts_visual_proj": torch.zeros(2, 2)}}
    )
    assert "none of its tensors begins with adapter." in message({"a": torch.zeros(1)})
    state = {f"clip.{n}": t for n, t in clip.items()}
    state |= {f"adapter.{n}": t for n, t in fusion.items()}
    fewer = {n: t for n, t in state.items() if n != "clip.visual.proj"}
    assert "1 missing: clip.visual.proj" in message({"state_dict": fewer})
    other = state | {"clip.visual.proj": torch.zeros(64, 32)}
    assert "clip.visual.proj (64, 32) instead of (64, 128)" in message({"state_dict": other})
    no_rows = {n: t for n, t in state.items() if "frame_position" not in n}
    assert "not the transformer of the published models" in message({"state_dict": no_rows})
    longer = ActionVariant(**{**vars(TINY), "name": "actionclip-longer", "frames": 6})
    monkeypatch.setitem(ACTION_VARIANTS, longer.name, longer)
    teachers = __import__("skelfew_extract.teachers", fromlist=["TEACHERS"]).TEACHERS
    monkeypatch.setitem(teachers, longer.name, "skelfew_extract.teachers.actionclip")
    words = message({"state_dict": state}, longer.name)
    assert "trained on clips of 4 frames, but actionclip-longer takes 6" in words
    assert "the shapes are those of actionclip-tiny" in words
    for content in ({"state_dict": state}, {"model_state_dict": {}, "fusion_model_state_dict": {}}):
        assert "ActionCLIP, not X-CLIP" in message(content, "xclip-demo")
    with pytest.raises(SkelfewError, match=r"put the authors' file, or vit-tiny-4f.pth"):
        build_teacher(TINY.name)


def test_untrained(tmp_path: Path) -> None:
    one, same = (build_teacher(TINY.name, untrained=True, seed=4).describe() for _ in range(2))
    assert one["trained"] is False and one["weights_sha256"] == same["weights_sha256"]

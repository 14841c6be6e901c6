"""What makes X-CLIP X-CLIP, and what the extraction engine relies on."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from skelfew_extract.teachers import PAPER_TEACHER, TEACHERS, build_teacher
from skelfew_extract.teachers.variants import VARIANTS
from skelfew_extract.teachers.xclip import XCLIP
from skelfew_extract.teachers.xclip_teacher import XCLIPTeacher
from torch import Tensor, nn
from xclip_case import TINY, TOKENS, clips, fill, our_outputs

from skelfew.errors import SkelfewError


@pytest.fixture(scope="module")
def model() -> XCLIP:
    model = XCLIP(TINY).eval()
    fill(model)
    return model


@pytest.fixture(scope="module")
def demo() -> XCLIPTeacher:
    teacher = build_teacher("xclip-demo", untrained=True)
    assert isinstance(teacher, XCLIPTeacher)
    return teacher


def pictures(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 8, 3, 64, 64), dtype=torch.uint8, generator=generator)


# ---- the network ---------------------------------------------------------------------------


def test_what_is_done_in_place_equals_the_plain_blocks(demo: XCLIPTeacher) -> None:
    """With gradients the blocks compute QuickGELU by itself, without in the products around it."""
    pixels = demo.normalise(pictures(3))
    plain = demo.model.encode_video(pixels)
    with torch.no_grad():
        fast = demo.model.encode_video(pixels)
    for ours, theirs in zip(fast, plain, strict=True):
        assert torch.cosine_similarity(ours, theirs, dim=-1).min() >= 0.99999
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_padding_and_its_length_change_nothing(model: XCLIP) -> None:
    padded = torch.cat([TOKENS, torch.zeros(3, 71, dtype=torch.long)], dim=1)
    torch.testing.assert_close(
        model.encode_text(padded), model.encode_text(TOKENS), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(
        model.encode_text(TOKENS[:1, :3]), model.encode_text(TOKENS)[:1], atol=1e-12, rtol=0
    )


def test_bfloat16_blocks_stay_close_to_float32() -> None:
    torch.manual_seed(0)
    model = XCLIP(TINY).eval()
    pixels = clips(TINY, 4).float()
    exact = our_outputs(model, pixels, TOKENS)
    model.block_dtype = torch.bfloat16
    rounded = our_outputs(model, pixels, TOKENS)
    for what in ("video", "conditioned"):
        assert rounded[what].dtype == torch.float32
        cosine = torch.cosine_similarity(exact[what], rounded[what], dim=-1)
        assert cosine.min() >= 0.9999
        assert not torch.equal(exact[what], rounded[what]), "bfloat16 was not used at all"


def test_the_papers_teacher_has_443_tensors() -> None:
    """As counted in the official checkpoint; other variants: test_xclip_parity.py."""
    with torch.device("meta"):
        state = XCLIP(VARIANTS[PAPER_TEACHER]).state_dict()
    assert len(state) == 443
    assert round(sum(t.numel() for t in state.values()) / 1e6, 2) == 194.93


@pytest.mark.parametrize("name", [n for n, v in VARIANTS.items() if v.clip])
def test_towers_are_open_clips(name: str) -> None:
    """Our table repeats what open_clip's configuration says."""
    import open_clip

    variant = VARIANTS[name]
    config = open_clip.get_model_config(variant.clip)
    assert config["quick_gelu"] is True
    assert config["embed_dim"] == variant.dim
    assert config["vision_cfg"] == {
        "image_size": variant.image_size,
        "patch_size": variant.patch,
        "width": variant.width,
        "layers": variant.layers,
    }
    assert config["text_cfg"] == {
        "context_length": variant.context_length,
        "vocab_size": variant.vocabulary,
        "width": variant.text_width,
        "heads": variant.text_width // 64,
        "layers": variant.text_layers,
    }


def test_variants_are_those_released() -> None:
    assert len(VARIANTS) == 19
    assert VARIANTS[PAPER_TEACHER].file == "k400_16_8.pth"
    frames = {name: v.frames for name, v in VARIANTS.items()}
    assert frames["xclip-base-patch16-zero-shot"] == frames["xclip-base-patch16-ucf-16-shot"] == 32
    assert VARIANTS["xclip-large-patch14-16-frames"].image_size == 336
    assert set(TEACHERS) >= set(VARIANTS)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="width must be a multiple of 64, got 100"):
        replace(TINY, width=100)
    with pytest.raises(ValueError, match="patches of 7 do not tile 32 pixels"):
        replace(TINY, patch=7)


# ---- the teacher ---------------------------------------------------------------------------


def test_gelu_is_refused() -> None:
    """CLIP weights load into nn.GELU without a word, and give other features."""
    model = XCLIP(TINY)
    model.visual.transformer.resblocks[1].mlp.gelu = nn.GELU()
    with pytest.raises(SkelfewError, match=r"1 activations are not QuickGELU.*resblocks\.1\.mlp"):
        XCLIPTeacher(model, TINY, weights="none", trained=False)


def test_features(demo: XCLIPTeacher) -> None:
    text = demo.encode_text(["drink water", "wave a hand"])
    feature, context = demo.encode_clips(pictures(2))
    conditioned = demo.condition(text, context)
    for x in (text, feature, conditioned):
        assert x.shape == (2, demo.dim)
        assert x.dtype == torch.float32
        assert x.isfinite().all()
    pixels = demo.normalise(pictures(2))
    tokens = torch.nn.utils.rnn.pad_sequence(
        [demo.tokens(label)[0] for label in ("drink water", "wave a hand")], batch_first=True
    )
    ours = our_outputs(demo.model, pixels, tokens)
    torch.testing.assert_close(feature, ours["video"], atol=1e-5, rtol=1e-5)
    diagonal = ours["conditioned"][[0, 1], [0, 1]]
    torch.testing.assert_close(conditioned, diagonal, atol=1e-5, rtol=1e-5)


def test_normalisation_is_imagenets(demo: XCLIPTeacher) -> None:
    grey = demo.normalise(torch.full((1, 8, 3, 64, 64), 128, dtype=torch.uint8))
    expected = (128 / 255 - torch.tensor(demo.mean)) / torch.tensor(demo.std)
    torch.testing.assert_close(grey[0, 0, :, 0, 0], expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_clip_gives_the_same_bits_in_any_company(precision: str) -> None:
    teacher = build_teacher("xclip-demo", untrained=True, precision=precision)  # type: ignore[arg-type]
    frames = pictures(4)
    text = teacher.encode_text(["a", "b", "c", "d"])
    together, context = teacher.encode_clips(frames)
    prompted = teacher.condition(text, context)
    for i in range(4):
        alone, own = teacher.encode_clips(frames[i : i + 1])
        assert torch.equal(alone, together[i : i + 1])
        assert torch.equal(teacher.condition(text[i : i + 1], own), prompted[i : i + 1])
    company = torch.cat([frames[:1], pictures(2, seed=9), frames[1:2]])
    assert torch.equal(teacher.encode_clips(company)[0][[0, 3]], together[:2])


def test_a_label_gives_the_same_bits_in_any_company(demo: XCLIPTeacher) -> None:
    many = demo.encode_text(["clap", "put on a hat", "drink water from a bottle"])
    assert torch.equal(demo.encode_text(["put on a hat"]), many[1:2])
    assert demo.encode_text([]).shape == (0, demo.dim)


def test_prompting_is_of_the_own_video(demo: XCLIPTeacher) -> None:
    text = demo.encode_text(["clap", "clap"])
    _, context = demo.encode_clips(pictures(2))
    conditioned = demo.condition(text, context)
    assert (conditioned[0] - conditioned[1]).abs().max() > 1e-5


@pytest.mark.parametrize(
    "frames",
    [
        torch.zeros(1, 4, 3, 64, 64, dtype=torch.uint8),
        torch.zeros(1, 8, 3, 32, 32, dtype=torch.uint8),
        torch.zeros(1, 8, 3, 64, 64),
    ],
    ids=["frames", "size", "type"],
)
def test_other_clips_are_refused(demo: XCLIPTeacher, frames: Tensor) -> None:
    with pytest.raises(SkelfewError, match=r"takes uint8 clips of \(8, 3, 64, 64\), got"):
        demo.encode_clips(frames)


def test_seeds(demo: XCLIPTeacher) -> None:
    state = torch.random.get_rng_state()
    same = build_teacher("xclip-demo", untrained=True, seed=0).describe()
    other = build_teacher("xclip-demo", untrained=True, seed=1).describe()
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was touched"
    assert same == demo.describe()
    assert other["weights_sha256"] != same["weights_sha256"]
    assert other["weights"] == "untrained seed 1"


def test_provenance(demo: XCLIPTeacher) -> None:
    about = json.loads(json.dumps(demo.describe()))
    assert about["trained"] is False
    assert (about["name"], about["dim"], about["frames"]) == ("xclip-demo", 128, 8)
    assert about["mean"] == [0.485, 0.456, 0.406]
    assert about["precision"] == "float32"
    assert about["prompting"] == "video-conditioned"
    assert about["activation"] == "quickgelu"
    assert about["open_clip"].startswith("3.3.")


def test_bad_requests_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SkelfewError, match="did you mean xclip-base-patch16"):
        build_teacher("xclip-base-patch-16", untrained=True)
    with pytest.raises(SkelfewError, match="contradict each other"):
        build_teacher("xclip-demo", untrained=True, weights=str(tmp_path))
    with pytest.raises(SkelfewError, match="device 'cuda:77': not to be had here"):
        build_teacher("xclip-demo", untrained=True, device="cuda:77")
    with pytest.raises(SkelfewError, match="precision 'float8'"):
        build_teacher("xclip-demo", untrained=True, precision="float8")  # type: ignore[arg-type]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_listing_teachers_loads_nothing_heavy() -> None:
    code = (
        "import sys; from skelfew_extract.teachers import TEACHERS, build_teacher\n"
        "print(sorted(set(sys.modules) & {'torch', 'numpy', 'open_clip', 'torchvision'}))"
    )
    assert run(code) == "[]"


def test_a_torchvision_that_cannot_load_its_operators_is_no_obstacle() -> None:
    """As with a CUDA-built torchvision beside a CPU-only torch: its library does not open."""
    broken = (
        "import torch\n"
        "load = torch.ops.load_library\n"
        "def fail(path): raise OSError(f'{path}: libtorch_cuda.so: cannot open')\n"
        "torch.ops.load_library = fail\n"
    )
    bare = "try:\n    import torchvision\nexcept RuntimeError as error: print(error)\n"
    code = broken + bare + "from skelfew_extract.open_clip_door import CLIP; print(CLIP.__name__)"
    assert run(code).splitlines() == ["operator torchvision::nms does not exist", "CLIP"]

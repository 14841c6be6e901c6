"""Models of open_clip as teachers of clips: the mean of their frames."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from extraction_world import make_world
from skelfew_extract import extract as extraction
from skelfew_extract.cli import main
from skelfew_extract.open_clip_door import open_clip
from skelfew_extract.teachers import build_teacher, shape_of
from skelfew_extract.teachers.frame_averaged import TEMPLATES
from stand_in_teachers import MODELS, write

from skelfew.cache import TeacherCache
from skelfew.errors import SkelfewError
from skelfew.io.files import file_sha256

CONFIG = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 1,
            "layers": 1,
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.3],
        "interpolation": "bicubic",
    },
}


def clip_model(path: Path, layers: int = 1) -> Path:
    """Write a model of open_clip's own layout, as its hub repositories are."""
    from safetensors.torch import save_file

    config = copy.deepcopy(CONFIG)
    config["model_cfg"]["vision_cfg"]["layers"] = layers  # type: ignore[index]
    path.mkdir()
    (path / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = open_clip.create_model(f"local-dir:{path}", load_weights=False)
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_model(tmp_path_factory.mktemp("models") / "tiny-clip")


def test_features_are_those_of_open_clip(folder: Path) -> None:
    teacher = build_teacher(f"open_clip:{folder}")
    assert (teacher.dim, teacher.frames, teacher.image_size) == (24, 8, 32)
    assert shape_of(f"open_clip:{folder}").image_size == 32 and teacher.interpolation == "bicubic"
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    clips = torch.randint(0, 256, (2, 8, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(CONFIG["preprocess_cfg"][k]).view(3, 1, 1) for k in ("mean", "std"))
    with torch.inference_mode():
        frames = model.encode_image((clips.flatten(0, 1) / 255 - mean) / std, normalize=True)
        expected = frames.unflatten(0, (2, 8)).mean(dim=1)
        tokens = open_clip.get_tokenizer("ViT-B-32")([t.format("kick") for t in TEMPLATES])
        text = model.encode_text(tokens, normalize=True).mean(dim=0)
    video, context = teacher.encode_clips(clips)
    torch.testing.assert_close(video, expected, atol=1e-5, rtol=0)
    assert (video.norm(dim=-1) < 1).all()  # the mean of unit vectors, not scaled again
    found = teacher.encode_text(["wave", "kick"])
    torch.testing.assert_close(found[1], F.normalize(text, dim=0), atol=1e-5, rtol=0)
    assert teacher.condition(found, context) is found
    about = teacher.describe()
    assert about["name"] == "open_clip:tiny-clip" and about["trained"] is True
    assert about["weights"] == "tiny-clip/open_clip_model.safetensors"
    assert about["weights_sha256"] == file_sha256(folder / "open_clip_model.safetensors")
    assert about["mean"] == [0.5, 0.4, 0.3] and about["templates"] == list(TEMPLATES)


def test_bfloat16_rounds_products_and_not_their_sum(tmp_path: Path) -> None:
    name = f"open_clip:{clip_model(tmp_path / 'deep', layers=10)}"
    clip = torch.randint(0, 256, (2, 8, 3, 32, 32), dtype=torch.uint8)
    exact, kept = build_teacher(name).encode_clips(clip)[0], []
    teacher: Any = build_teacher(name, precision="bfloat16")
    for block in teacher.model.visual.transformer.resblocks:
        block.register_forward_hook(lambda module, given, stream: kept.append(stream.dtype))
    near = teacher.encode_clips(clip)[0]
    assert near.dtype == torch.float32 and not torch.equal(near, exact)
    assert set(kept) == {torch.float32}
    assert F.cosine_similarity(near, exact).min().item() > 0.9999


def test_bfloat16_is_for_those_who_ask(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How near it is differs from model to model, and the released weights were never tried."""
    monkeypatch.setattr(
        extraction, "choose_precision", lambda asked, *_: "bfloat16" if asked == "auto" else asked
    )
    for asked, taken in (("auto", "float32"), ("bfloat16", "bfloat16")):
        teacher = extraction.build_chosen(f"open_clip:{folder}", device="cpu", precision=asked)
        assert teacher.describe()["precision"] == taken
    demo = extraction.build_chosen("xclip-demo", device="cpu", precision="auto", untrained=True)
    assert demo.describe()["precision"] == "bfloat16"


def test_a_name_with_a_file_of_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    name = "ViT-S-32-alt"
    seeded = build_teacher(f"open_clip:{name}", untrained=True, seed=3)
    assert seeded.describe()["trained"] is False and seeded.dim == 256
    file = tmp_path / "small.safetensors"
    state: dict[str, Any] = seeded.model.state_dict()  # type: ignore[attr-defined]
    save_file(state, file)
    given = build_teacher(f"open_clip:{name}", weights=str(file))
    after = build_teacher(f"open_clip:{name}/{file}")
    clip = torch.zeros(1, 8, 3, 224, 224, dtype=torch.uint8)
    assert torch.equal(given.encode_clips(clip)[0], seeded.encode_clips(clip)[0])
    assert after.describe()["weights"] == f"{name}/small.safetensors"


def test_from_videos_to_a_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_world(tmp_path, count=3))
    given = ["spots", "--videos", "videos", "--teacher", f"open_clip:{folder}", "--workers", "1"]
    done = CliRunner().invoke(main, given)
    assert done.exit_code == 0, done.output
    cache = TeacherCache.open("cache/spots.zarr")
    assert len(cache) == 3 and cache.dim == 24 and cache.video is not None
    attrs = cache.attrs
    assert attrs["preprocessing"]["interpolation"] == "bicubic, antialiased, uint8"
    assert attrs["teacher"]["prompting"] == "class"
    assert attrs["classes"][1]["sentences"] == ["kick", "a video of kick", "a video of a person "
                                                "doing kick"]  # fmt: skip
    texts = cache.class_texts()
    np.testing.assert_allclose(cache.text[cache.row["clip_001"], 0], texts[2], atol=1e-3)


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        ("open_clip:ViT-B-23/openai", {}, "did you mean ViT-B-"),
        ("open_clip:ViT-B-16/nothing", {}, "neither a file nor a tag.*openai"),
        ("open_clip:ViT-B-16", {}, "neither a file nor a tag"),
        ("open_clip:ViT-B-16/openai", {"weights": "x.pt"}, "both name weights"),
        ("openclip:ViT-B-16/openai", {}, "no teacher is called.*or open_clip:MODEL/WEIGHTS"),
        ("open_clip:{empty}", {}, "holds no open_clip_config.json"),
        ("open_clip:{folder}", {"weights": "x.pt"}, "brings its weights"),
    ],
)
def test_errors(
    folder: Path, tmp_path: Path, asked: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkelfewError, match=message):
        build_teacher(asked.format(folder=folder, empty=tmp_path), **options)


def test_every_family_of_table_xii_has_a_small_random_one(tmp_path: Path) -> None:
    """What `make test-tables` puts in the place of weights that cannot be had."""
    clip = torch.randint(0, 256, (1, 8, 3, 32, 32), dtype=torch.uint8)
    for key in ("clip", "siglip2", "eva"):
        write(tmp_path / key, MODELS[key], seed=0)
        teacher = build_teacher(f"open_clip:{tmp_path / key}")
        side = teacher.image_size
        video, _ = teacher.encode_clips(
            F.interpolate(clip.flatten(0, 1), side).unflatten(0, (1, 8))
        )
        assert video.shape == (1, teacher.dim) and video.norm() > 0
        assert teacher.encode_text(["kick a ball"]).norm() > 0

    config = json.loads((tmp_path / "eva" / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"]["image_size"] = 32
    (tmp_path / "eva" / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(SkelfewError, match=r"image_size 32, but eva02_tiny_patch14_224 takes 224"):
        build_teacher(f"open_clip:{tmp_path / 'eva'}")


def test_weights_of_another_model(folder: Path) -> None:
    weights = folder / "open_clip_model.safetensors"
    with pytest.raises(SkelfewError, match=r"not the weights of ViT-S-32-alt \(.*"):
        build_teacher(f"open_clip:ViT-S-32-alt/{weights}")


def test_a_text_that_is_too_long(folder: Path) -> None:
    with pytest.raises(SkelfewError, match="but open_clip:tiny-clip reads 77; shorten"):
        build_teacher(f"open_clip:{folder}").encode_text(["kick punch " * 60])

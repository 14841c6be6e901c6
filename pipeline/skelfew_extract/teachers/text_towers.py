"""The text towers of CLIP models and X-CLIP as teachers that see no video."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew_extract.teachers.variants import VARIANTS
from skelfew_extract.teachers.xclip_teacher import XCLIPTeacher, build_xclip
from skelfew_extract.text import bpe_ids, tokenize
from skelfew_extract.weights import file_sha256, state_sha256


class XCLIPText:
    """X-CLIP's text tower, before any conditioning on a video (see ``TextTeacher``)."""

    name = "text"

    def __init__(self, teacher: XCLIPTeacher):
        self.teacher, self.dim = teacher, teacher.dim

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return (n, D), float32, each of length one."""
        return torch.nn.functional.normalize(self.teacher.encode_text(texts).float(), dim=-1)

    def describe(self) -> dict[str, Any]:
        """Return the provenance of the features, as JSON can hold it."""
        about = self.teacher.describe()
        kept = ("trained", "weights", "weights_sha256", "open_clip")
        return {
            "name": self.name,
            "architecture": f"text tower of {about['name']} ({about['architecture']}), "
            "scaled to length one",
            **{key: about[key] for key in kept},
            "frames": 0,
            "dim": self.dim,
            "precision": "float32",
            "prompting": "class",
            "template": "{}",
        }


class CLIPText:
    """The text tower of a model of open_clip (see ``TextTeacher``).

    Args:
        model: As open_clip builds it; it is frozen.
        architecture: Its name there.
        about: What provenance says about the weights.
    """

    name = "text"

    def __init__(self, model: Any, architecture: str, about: dict[str, Any], device: str = "cpu"):
        self.model = model.eval().requires_grad_(False).to(device)
        self.architecture, self.about, self.device = architecture, about, torch.device(device)
        self.length = int(model.context_length)
        self.dim = self.encode_text(["a person waves"]).shape[1]

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Return (n, D), float32, each of length one and the same whatever else is asked for."""
        rows = []
        for text in texts:
            bpe_ids(text)  # refuses what would be cut off without a word
            tokens = torch.nn.functional.pad(tokenize(text), (0, self.length))[:, : self.length]
            rows.append(self.model.encode_text(tokens.to(self.device), normalize=True).float())
        return torch.cat(rows) if rows else torch.empty(0, self.dim, device=self.device)

    def describe(self) -> dict[str, Any]:
        """Return the provenance of the features, as JSON can hold it."""
        from skelfew_extract.open_clip_door import VERSION

        return {
            "name": self.name,
            "architecture": f"text tower of open_clip's {self.architecture}, scaled to length one",
            **self.about,
            "frames": 0,
            "dim": self.dim,
            "precision": "float32",
            "prompting": "class",
            "template": "{}",
            "open_clip": VERSION,
        }


def build_xclip_text(asked: str, *, untrained: bool, seed: int, device: str) -> XCLIPText:
    """Return the text tower of ``VARIANT`` or ``VARIANT/WEIGHTS``."""
    variant, _, weights = asked.partition("/")
    if variant not in VARIANTS:
        raise SkelfewError(_unknown("X-CLIP", variant, list(VARIANTS)))
    if weights and untrained:
        raise SkelfewError(f"--untrained and the weights {weights} contradict each other; drop one")
    return XCLIPText(
        build_xclip(variant, weights=weights or None, untrained=untrained, seed=seed, device=device)
    )


def build_clip_text(asked: str, *, untrained: bool, seed: int, device: str) -> CLIPText:
    """Return the text tower of open_clip's ``MODEL/TAG`` or ``MODEL/FILE``."""
    from skelfew_extract.open_clip_door import open_clip

    name, _, source = asked.partition("/")
    config = open_clip.get_model_config(name)
    if config is None:
        raise SkelfewError(_unknown("open_clip", name, open_clip.list_models()))
    text = config.get("text_cfg", {})
    odd = {"hf_model_name", "hf_tokenizer_name", "tokenizer_kwargs"} & set(text)
    if odd or text.get("context_length", 77) != 77:
        raise SkelfewError(f"open_clip:{name}: does not read CLIP's 77 tokens; choose another")
    if untrained:
        if source:
            raise SkelfewError(f"--untrained and the weights {source} contradict each other")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = open_clip.create_model(name, load_weights=False)
        about = {"weights": f"untrained seed {seed}"}
        about |= {"weights_sha256": state_sha256(model.state_dict())}
    else:
        path, quick = _weights(name, source)
        try:
            model = open_clip.create_model(name, pretrained=str(path), force_quick_gelu=quick)
        except Exception as error:  # RuntimeError, UnpicklingError, SafetensorError, ...
            line = str(error).strip().partition("\n")[0]
            raise SkelfewError(f"{path}: not the weights of {name} ({line})") from None
        shown = Path(source).name if Path(source).is_file() else source
        about = {"weights": f"{name}/{shown}", "weights_sha256": file_sha256(path)}
    return CLIPText(model, name, {"trained": not untrained, **about}, device)


def _weights(name: str, source: str) -> tuple[Path, bool]:
    """Return the file of weights, and whether they were trained with QuickGELU."""
    from skelfew_extract.open_clip_door import open_clip

    if source and Path(source).is_file():
        return Path(source), False  # the model's own name says so: ViT-B-32-quickgelu
    tags = open_clip.list_pretrained_tags_by_model(name)
    if source not in tags:
        raise SkelfewError(
            f"open_clip:{name}/{source}: neither a file nor a tag of its weights; after the slash "
            f"give one of {', '.join(tags) or 'your files, there are no tags'}"
        )
    config = open_clip.get_pretrained_cfg(name, source)
    try:
        return Path(open_clip.download_pretrained(config)), bool(config.get("quick_gelu"))
    except Exception as error:  # which ones, depends on the HTTP library of the hub's client
        raise SkelfewError(
            f"open_clip:{name}/{source}: cannot be downloaded ({type(error).__name__}); "
            f"get the file elsewhere and give open_clip:{name}/PATH"
        ) from None


def _unknown(kind: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"{kind} has no model {name!r}; {hint}"

"""Models of open_clip by name: which there are, what they take, and their weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from skelfew.errors import SkelfewError
from skelfew.io.files import Document, file_sha256
from skelfew_extract.weights import state_sha256

_CONFIG = "open_clip_config.json"
_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth"}


@dataclass(frozen=True)
class Asked:
    """The parts of a name after ``open_clip:``: model, tag or file, folder."""

    model: str
    source: str = ""
    folder: Path | None = None

    @classmethod
    def parse(cls, text: str, weights: str | None = None) -> "Asked":
        """Read ``MODEL``, ``MODEL/TAG``, ``MODEL/FILE`` or ``FOLDER``; SkelfewError if unknown."""
        from skelfew_extract.open_clip_door import open_clip

        folder = Path(text)
        if text and folder.is_dir():
            if not (folder / _CONFIG).is_file():
                raise SkelfewError(f"{folder}: holds no {_CONFIG}, so no model of open_clip")
            if weights is not None:
                raise SkelfewError(f"{folder} brings its weights; leave --weights {weights} out")
            return cls(f"local-dir:{folder}", "", folder)
        name, _, source = text.partition("/")
        if open_clip.get_model_config(name) is None:
            raise SkelfewError(unknown("open_clip", name, open_clip.list_models()))
        if source and weights is not None:
            raise SkelfewError(f"open_clip:{text} and --weights {weights} both name weights")
        return cls(name, weights or source)

    def config(self) -> Document:
        """Return the model's configuration, as open_clip writes it."""
        from skelfew_extract.open_clip_door import open_clip

        if self.folder is None:
            return open_clip.get_model_config(self.model)
        import json

        try:
            config: Document = json.loads((self.folder / _CONFIG).read_text())["model_cfg"]
        except (ValueError, KeyError, TypeError):
            raise SkelfewError(f"{self.folder / _CONFIG}: holds no model_cfg") from None
        return config


def build_model(asked: Asked, *, untrained: bool, seed: int) -> tuple[Any, Document]:
    """Return a model of open_clip, and what provenance says about its weights."""
    shown = asked.folder.name if asked.folder else asked.model
    if untrained:
        if asked.source:
            raise SkelfewError(f"--untrained and the weights {asked.source} contradict each other")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _create(asked, "its configuration", load_weights=False)
        digest = state_sha256(model.state_dict())
        about = {"weights": f"untrained seed {seed}", "weights_sha256": digest}
        return model, {"trained": False, **about}
    if asked.folder is not None:
        path = _only_weights(asked.folder)
        model = _create(asked, str(path), require_pretrained=True)
        shown = f"{shown}/{path.name}"
    else:
        path, quick, preprocess = find_weights(asked.model, asked.source)
        model = _create(
            asked,
            str(path),
            pretrained=str(path),
            force_quick_gelu=quick,
            force_preprocess_cfg=preprocess,
        )
        is_file = Path(asked.source).is_file()
        shown = f"{shown}/{Path(asked.source).name if is_file else asked.source}"
    return model, {"trained": True, "weights": shown, "weights_sha256": file_sha256(path)}


def _create(asked: Asked, what: str, **options: Any) -> Any:
    from skelfew_extract.open_clip_door import open_clip

    try:
        model = open_clip.create_model(asked.model, **options)
    except Exception as error:  # RuntimeError, UnpicklingError, SafetensorError, OSError, ...
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        line = " ".join(lines[:2])[:300] or type(error).__name__
        raise SkelfewError(f"{what}: not the weights of {asked.model} ({line})") from None
    _check_side(asked, model)
    return model


def _check_side(asked: Asked, model: Any) -> None:
    """Towers of timm have the side of their pictures whatever a configuration says."""
    patches = getattr(getattr(model.visual, "trunk", None), "patch_embed", None)
    side = getattr(patches, "img_size", None)
    if side is None or not getattr(patches, "strict_img_size", False):
        return
    if tuple(side) != tuple(model.visual.image_size):
        vision = asked.config()["vision_cfg"]
        raise SkelfewError(
            f"{asked.folder or asked.model}: its configuration has image_size "
            f"{vision['image_size']}, but {vision.get('timm_model_name')} takes {side[0]}"
        )


def _only_weights(folder: Path) -> Path:
    found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if len(found) != 1:
        raise SkelfewError(
            f"{folder}: holds {len(found)} weight files; one beside {_CONFIG} is expected"
        )
    return found[0]


def find_weights(name: str, source: str) -> tuple[Path, bool, Document]:
    """Return the file of weights, whether they want QuickGELU, and how pictures are prepared."""
    from skelfew_extract.open_clip_door import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if source and Path(source).is_file():
        # The model's own name says the activation: ViT-B-32-quickgelu. All its tags, if they agree,
        # say how pictures are prepared (SigLIP's are not prepared like CLIP's).
        prepared = [_preprocess(open_clip.get_pretrained_cfg(name, tag)) for tag in tags]
        agreed = bool(prepared) and all(p == prepared[0] for p in prepared)
        return Path(source), False, prepared[0] if agreed else {}
    if source not in tags:
        raise SkelfewError(
            f"open_clip:{name}/{source}: neither a file nor a tag of its weights; after the slash "
            f"give one of {', '.join(tags) or 'your files, there are no tags'}"
        )
    config = open_clip.get_pretrained_cfg(name, source)
    try:
        path = Path(open_clip.download_pretrained(config))
    except Exception as error:  # which ones, depends on the HTTP library of the hub's client
        raise SkelfewError(
            f"open_clip:{name}/{source}: cannot be downloaded ({type(error).__name__}); "
            f"get the file elsewhere and give open_clip:{name}/PATH"
        ) from None
    return path, bool(config.get("quick_gelu")), _preprocess(config)


def _preprocess(config: Document) -> Document:
    return {k: config[k] for k in ("mean", "std", "interpolation") if config.get(k) is not None}


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence that there is no such model, with the nearest name or all names."""
    near = get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"{kind} has no model {name!r}; {hint}"

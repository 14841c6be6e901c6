"""The two spellings of X-CLIP's parameters.

"Native" names are those of the official checkpoints, which are open_clip's wherever open_clip has
the module. Hugging Face names differ in spelling, in q/k/v being apart, and in two transposes.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]

# native -> Hugging Face. Whole names and prefixes; a name takes the longest that fits.
_PREFIXES = {
    "token_embedding.": "text_model.embeddings.token_embedding.",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.": "text_model.final_layer_norm.",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.": "vision_model.embeddings.patch_embedding.",
    "visual.ln_pre.": "vision_model.pre_layernorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "visual.proj": "visual_projection.weight",
    "prompts_visual_ln.": "prompts_visual_layernorm.",
    "prompts_visual_proj": "prompts_visual_projection",
    "mit.positional_embedding": "mit.position_embedding",
    "prompts_generator.norm.": "prompts_generator.layernorm.",
    "transformer.resblocks.": "text_model.encoder.layers.",
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "mit.resblocks.": "mit.encoder.layers.",
}
# Inside a block, between the block's number and the last word.
_MODULES = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn": "self_attn",
    "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
}  # fmt: skip
_TRANSPOSED = {"text_projection", "visual.proj"}
_FUSED = re.compile(r"(.+attn)\.in_proj_(weight|bias)")
_SPLIT = re.compile(r"((?!prompts_generator).+attn)\.([qkv])_proj\.(weight|bias)")
_BLOCK = re.compile(r"(.+\.(?:resblocks|layers)\.\d+\.)(.+)\.(\w+)")


def _rename(name: str, prefixes: Mapping[str, str], modules: Mapping[str, str]) -> str:
    if block := _BLOCK.fullmatch(name):
        name = f"{block[1]}{modules.get(block[2], block[2])}.{block[3]}"
    fits = [p for p in prefixes if name == p or (p.endswith(".") and name.startswith(p))]
    if not fits:
        return name
    prefix = max(fits, key=len)
    return prefixes[prefix] + name.removeprefix(prefix)


def _attention(name: str, prefixes: Mapping[str, str], modules: Mapping[str, str]) -> str:
    """Rename an attention module as a whole, without the parameter that follows."""
    return _rename(f"{name}.weight", prefixes, modules).removesuffix(".weight")


def _inverse(table: Mapping[str, str]) -> dict[str, str]:
    return {value: key for key, value in table.items()}


def to_hugging_face(native: Mapping[str, Tensor]) -> State:
    """Return the state dict under the names and shapes of ``transformers``' XCLIPModel."""
    state: State = {}
    for name, tensor in native.items():
        if fused := _FUSED.fullmatch(name):
            stem = _attention(fused[1], _PREFIXES, _MODULES)
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                state[f"{stem}.{letter}_proj.{fused[2]}"] = part
        else:
            tensor = tensor.T.contiguous() if name in _TRANSPOSED else tensor
            state[_rename(name, _PREFIXES, _MODULES)] = tensor
    return state


def to_native(hugging_face: Mapping[str, Tensor]) -> State:
    """Return the state dict under native names; what has no native name keeps its own."""
    prefixes, modules = _inverse(_PREFIXES), _inverse(_MODULES)
    state: State = {}
    split: dict[str, dict[str, Tensor]] = {}
    for name, tensor in hugging_face.items():
        if name.endswith(".position_ids"):  # a constant that old files carry along
            continue
        if match := _SPLIT.fullmatch(name):
            stem = _attention(match[1], prefixes, modules)
            split.setdefault(f"{stem}.in_proj_{match[3]}", {})[match[2]] = tensor
        else:
            native = _rename(name, prefixes, modules)
            state[native] = tensor.T.contiguous() if native in _TRANSPOSED else tensor
    for name, parts in split.items():
        if set(parts) == set("qkv"):  # else the name stays missing, and the strict load says so
            state[name] = torch.cat([parts[letter] for letter in "qkv"])
    return state

"""A sentence encoder as a teacher that sees no video: the only importer of transformers.

Reads models in the layout of the sentence-transformers library (a transformer, pooling over its
tokens, scaling to length one) without that library, whose import takes three times as long.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.io.files import Document, file_sha256
from skelfew_extract.teachers.frozen import TextOnly
from skelfew_extract.weight_files import (
    SENTENCE_ADVICE,
    find_sentence_encoder,
    weight_files,
    weights_sha256,
)
from skelfew_extract.weights import state_sha256


class SentenceEncoder(TextOnly):
    """A frozen sentence encoder on transformers' AutoModel."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        layout: "SentenceSettings",
        about: Document,
        device: str = "cpu",
    ):
        config = model.config
        named = (
            f"{config.model_type}, {config.num_hidden_layers} layers of {config.hidden_size}, "
            f"{layout.pooling} of the tokens, scaled to length one"
        )
        super().__init__(model.float(), {"name": "text", "architecture": named, **about}, device)
        self.tokenizer, self.layout, self.dim = tokenizer, layout, int(config.hidden_size)
        self.template = layout.prefix + "{}"

    def read(self, text: str) -> Tensor:
        """Return the feature of a text, (1, D), of length one."""
        if not text.strip():
            raise SkelfewError(f"text {text!r} is blank; every class needs a text to be read")
        text = self.layout.prefix + text
        tokens = self.tokenizer(
            text.lower() if self.layout.lower else text, return_tensors="pt", verbose=False
        )
        count = tokens["input_ids"].shape[1]
        if count > self.layout.most_tokens:
            raise SkelfewError(
                f"text {text[:60]!r}... has {count} tokens, but {self.about['weights']} reads "
                f"{self.layout.most_tokens}; shorten it or cut it into several sentences"
            )
        hidden = self.model(**tokens.to(self.device)).last_hidden_state
        if self.layout.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled.float(), dim=-1)


class SentenceSettings:
    """Settings of a sentence-transformers folder beside its transformer.

    Attributes:
        pooling: "mean" of the tokens, or "cls", the first one.
        most_tokens: Longest text, with the tokens that begin and end it.
        lower: Whether texts are put into lower case first.
        prefix: What the model wants before every text.
    """

    def __init__(self, folder: Path, config: Document):
        self.folder = folder
        pooling = "."
        for module in self._json("modules.json") or []:
            kind = str(module.get("type")).rpartition(".")[2]
            if kind not in ("Transformer", "Pooling", "Normalize"):
                raise SkelfewError(
                    f"{folder}: has a module {kind!r}; sentence encoders of a Transformer, "
                    "Pooling and Normalize can be read"
                )
            if kind == "Pooling":
                pooling = str(module.get("path"))
        self.pooling = self._pooling(self._json(f"{pooling}/config.json") if pooling != "." else {})
        settings = self._json("sentence_bert_config.json") or {}
        most = settings.get("max_seq_length") or config.get("max_position_embeddings")
        self.most_tokens = int(most or 512)
        self.lower = bool(settings.get("do_lower_case"))
        prompting = self._json("config_sentence_transformers.json") or {}
        prompts = prompting.get("prompts") or {}
        self.prefix = str(prompts.get(prompting.get("default_prompt_name"), ""))

    def _pooling(self, settings: Document | None) -> str:
        settings = settings or {}
        named = settings.get("pooling_mode")
        modes = {str(named)} if named else {k for k, v in settings.items() if v is True}
        modes = {mode.removeprefix("pooling_mode_").removesuffix("_tokens") for mode in modes}
        modes = {mode.removesuffix("_token") for mode in modes} - {"include_prompt"}
        if len(modes) > 1 or not modes <= {"mean", "cls"}:
            raise SkelfewError(
                f"{self.folder}: pools tokens by {', '.join(sorted(modes))}; mean and cls are known"
            )
        return modes.pop() if modes else "mean"

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            raise SkelfewError(f"{self.folder / name}: not JSON; get the folder again") from None


def build_sentence_encoder(
    weights: str | None = None, *, untrained: bool = False, seed: int = 0, device: str = "cpu"
) -> SentenceEncoder:
    """Return the sentence encoder in a folder; see ``build_text_teacher``."""
    try:
        from transformers import AutoConfig, AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise SkelfewError(
            f"the text teacher needs the package transformers; {SENTENCE_ADVICE}"
        ) from None
    folder, source = find_sentence_encoder(weights)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    here: Document = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **here)
        tokenizer = AutoTokenizer.from_pretrained(folder, **here)
        layout = SentenceSettings(folder, config.to_dict())
        about: Document = {"trained": not untrained}
        if untrained:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = AutoModel.from_config(config)
            about |= {"weights": f"untrained seed {seed}"}
            about |= {"weights_sha256": state_sha256(model.state_dict())}
        else:
            model, found = AutoModel.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **here
            )
            # The pooler is not read; models trained for sentences often come without it.
            missing = [k for k in found["missing_keys"] if not k.startswith("pooler.")]
            if missing:
                raise SkelfewError(
                    f"{folder}: {len(missing)} parameters are missing, first {min(missing)}; "
                    "get the folder again"
                )
            about |= {"weights": source, "weights_sha256": weights_sha256(weight_files(folder))}
        if (rules := folder / "tokenizer.json").is_file():
            about |= {"tokenizer_sha256": file_sha256(rules)}
        teacher = SentenceEncoder(model, tokenizer, layout, about, device)
        teacher.encode_text(["a person waves"])
    except SkelfewError:
        raise
    except Exception as error:  # transformers raises whatever it meets in a foreign folder
        line = str(error).strip().partition("\n")[0]
        raise SkelfewError(
            f"{folder}: cannot be used as a sentence encoder ({type(error).__name__}: {line})"
        ) from None
    return teacher

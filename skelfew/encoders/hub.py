"""Encoders on the Hugging Face Hub: ``push_to_hub`` and ``from_pretrained``.

::

    from skelfew.encoders.hub import PretrainedEncoder

    PretrainedEncoder("runs/mine/encoder.safetensors").push_to_hub("me/ntu-agcn")
    encoder = PretrainedEncoder.from_pretrained("me/ntu-agcn").load()

Addresses and tokens are huggingface_hub's: HF_ENDPOINT, HF_TOKEN, ``hf auth login``. Nothing of a
repository is executed. Needs the extra ``remote``.
"""

import shutil
from pathlib import Path

from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from skelfew.encoders.checkpoints import WeightsError, load_encoder, read_metadata
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.io.clean import markdown
from skelfew.io.files import brief
from skelfew.runs.folder import ENCODER

_CARD = """---
library_name: skelfew
tags:
- skelfew
- skeleton
- action-recognition
- few-shot-learning
---

# Skeleton encoder {name}

| | |
|---|---|
{table}

```python
from skelfew.encoders.hub import PretrainedEncoder

encoder = PretrainedEncoder.from_pretrained("USER/NAME").load()
```

The licence of an encoder follows from the data that it was trained on; add it here.
"""


class PretrainedEncoder(ModelHubMixin, library_name="skelfew"):
    """An ``encoder.safetensors`` that can go to the Hub and come from there; else WeightsError."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.metadata = read_metadata(self.path)

    def load(self) -> SkeletonEncoder:
        """Return the encoder, in evaluation mode."""
        return load_encoder(self.path)[0]

    def generate_model_card(self, *args: object, **kwargs: object) -> ModelCard:
        """Return the card: what the encoder is, and what it was trained on."""
        about, config = self.metadata, self.metadata["encoder"]
        teacher = about.get("teacher") or {}
        layout = config["layout"]
        rows = {
            "encoder": f"{config['name']}, width {config.get('width', 1)}",
            "joints": layout if isinstance(layout, str) else "a layout of its own",
            "data set": about.get("dataset"),
            "protocol": about.get("protocol"),
            "trained on classes": ", ".join(map(str, about.get("base") or [])),
            "teacher": teacher.get("name") if isinstance(teacher, dict) else teacher,
            "skelfew": about.get("skelfew"),
        }
        table = "\n".join(f"| {k} | {markdown(v)} |" for k, v in rows.items() if v)
        return ModelCard(_CARD.format(name=markdown(config["name"]), table=table))

    def _save_pretrained(self, save_directory: Path) -> None:
        shutil.copyfile(self.path, save_directory / ENCODER)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **kwargs: object,
    ) -> "PretrainedEncoder":
        if Path(model_id).is_dir():
            return cls(Path(model_id) / ENCODER)
        try:
            path = hf_hub_download(
                model_id, ENCODER, revision=revision, cache_dir=cache_dir, token=token,
                force_download=force_download, local_files_only=local_files_only,
            )  # fmt: skip
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            raise WeightsError(f"{model_id}: no {ENCODER} to be had ({brief(error)})") from None
        return cls(path)

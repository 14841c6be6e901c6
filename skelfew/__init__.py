"""Few-shot recognition of actions from skeletons.

The public names below are loaded when they are first used; docs/tutorial.md shows them at work.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skelfew.cache import TeacherCache
    from skelfew.config import TrainConfig, override, preset
    from skelfew.data.episodes import sample_episodes
    from skelfew.data.input.bank import SkeletonBank
    from skelfew.data.input.pipeline import Pipeline
    from skelfew.data.joints.layouts import load_layout
    from skelfew.data.manifest import Manifest
    from skelfew.data.protocols.protocol import load_protocol
    from skelfew.data.store import SkeletonStore
    from skelfew.encoders import build_encoder
    from skelfew.encoders.checkpoints import load_encoder
    from skelfew.errors import SkelfewError
    from skelfew.evaluation.document import evaluate_runs as evaluate
    from skelfew.fewshot import build_classifier
    from skelfew.predict.model import Model
    from skelfew.predict.recogniser import Prediction, Recogniser
    from skelfew.predict.sliding import Stream
    from skelfew.runs.folder import Run
    from skelfew.training.run import train
    from skelfew.training.seeding import generator, seeded
    from skelfew.training.stages.byol import CrossModalBYOL as TransferModel
    from skelfew.training.stages.byol import byol_loss as transfer_loss

__all__ = [
    "Manifest", "Model", "Pipeline", "Prediction", "Recogniser", "Run", "SkeletonBank",
    "SkeletonStore", "SkelfewError", "Stream", "TeacherCache", "TrainConfig", "TransferModel",
    "build_classifier", "build_encoder", "evaluate", "generator", "load_encoder", "load_layout",
    "load_protocol", "override", "preset", "sample_episodes", "seeded", "train", "transfer_loss",
]  # fmt: skip

_HOMES = {
    "Manifest": "skelfew.data.manifest:Manifest",
    "Model": "skelfew.predict.model:Model",
    "Pipeline": "skelfew.data.input.pipeline:Pipeline",
    "Prediction": "skelfew.predict.recogniser:Prediction",
    "Recogniser": "skelfew.predict.recogniser:Recogniser",
    "Run": "skelfew.runs.folder:Run",
    "SkeletonBank": "skelfew.data.input.bank:SkeletonBank",
    "SkeletonStore": "skelfew.data.store:SkeletonStore",
    "SkelfewError": "skelfew.errors:SkelfewError",
    "Stream": "skelfew.predict.sliding:Stream",
    "TeacherCache": "skelfew.cache:TeacherCache",
    "TrainConfig": "skelfew.config:TrainConfig",
    "TransferModel": "skelfew.training.stages.byol:CrossModalBYOL",
    "build_classifier": "skelfew.fewshot:build_classifier",
    "build_encoder": "skelfew.encoders:build_encoder",
    "evaluate": "skelfew.evaluation.document:evaluate_runs",
    "generator": "skelfew.training.seeding:generator",
    "load_encoder": "skelfew.encoders.checkpoints:load_encoder",
    "load_layout": "skelfew.data.joints.layouts:load_layout",
    "load_protocol": "skelfew.data.protocols.protocol:load_protocol",
    "override": "skelfew.config:override",
    "preset": "skelfew.config:preset",
    "sample_episodes": "skelfew.data.episodes:sample_episodes",
    "seeded": "skelfew.training.seeding:seeded",
    "train": "skelfew.training.run:train",
    "transfer_loss": "skelfew.training.stages.byol:byol_loss",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("skelfew")
    if name not in _HOMES:
        raise AttributeError(f"module 'skelfew' has no attribute {name!r}; it has {__all__}")
    module, attribute = _HOMES[name].split(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

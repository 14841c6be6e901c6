"""Few-shot recognition of actions from skeletons.

The public names below are loaded when they are first used; docs/tutorial.md shows them at work.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skelfew.cache import TeacherCache
    from skelfew.data.joints.layouts import load_layout
    from skelfew.encoders.checkpoints import load_encoder
    from skelfew.errors import SkelfewError
    from skelfew.predict.model import Model
    from skelfew.predict.recogniser import Prediction, Recogniser
    from skelfew.predict.sliding import Stream
    from skelfew.runs.folder import Run

__all__ = [
    "Model",
    "Prediction",
    "Recogniser",
    "Run",
    "SkelfewError",
    "Stream",
    "TeacherCache",
    "load_encoder",
    "load_layout",
]

_HOMES = {
    "Model": "skelfew.predict.model",
    "Prediction": "skelfew.predict.recogniser",
    "Recogniser": "skelfew.predict.recogniser",
    "Run": "skelfew.runs.folder",
    "SkelfewError": "skelfew.errors",
    "Stream": "skelfew.predict.sliding",
    "TeacherCache": "skelfew.cache",
    "load_encoder": "skelfew.encoders.checkpoints",
    "load_layout": "skelfew.data.joints.layouts",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("skelfew")
    if name not in _HOMES:
        raise AttributeError(f"module 'skelfew' has no attribute {name!r}; it has {__all__}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Facts about data sets that come with the program: class names, official lists of samples.

They are committed under ``manifests/`` and packed into the wheel.
"""

import json
from functools import cache
from pathlib import Path

from skelfew.errors import SkelfewError

_REPOSITORY = Path(__file__).resolve().parents[2] / "manifests"
_PACKAGE = Path(__file__).resolve().parents[1]


def _file(kind: str, name: str) -> Path:
    """Return ``manifests/KIND/NAME`` in a checkout, ``skelfew/_KIND/NAME`` in a wheel."""
    for path in (_REPOSITORY / kind / name, _PACKAGE / f"_{kind}" / name):
        if path.is_file():
            return path
    raise SkelfewError(
        f"manifests/{kind}/{name} did not come with this installation; reinstall skelfew"
    )


@cache
def class_names(name: str) -> dict[int, str]:
    """Return the class names of a data set by its own class numbers, from 1."""
    names = json.loads(_file("class_names", f"{name}.json").read_text(encoding="utf-8"))["names"]
    return {int(number): label for number, label in names.items()}


@cache
def missing_skeletons(name: str) -> frozenset[str]:
    """Return the samples that NTU's authors list as having no usable skeleton (ntu60, ntu120)."""
    lines = _file("missing_skeletons", f"{name}.csv").read_text(encoding="utf-8").split()
    return frozenset(lines[1:])

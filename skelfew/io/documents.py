"""Our safetensors files: tensors, a format with a version, and one JSON text in the header.

One file, so that one rename commits all of it; no pickle, so that opening it executes nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skelfew.errors import SkelfewError
from skelfew.io.budget import check_safetensors
from skelfew.io.files import Document, Values, brief, check_file, parse_json, shown
from skelfew.io.writing import writing

if TYPE_CHECKING:
    from torch import Tensor

_HASH = "content_sha256"


@dataclass(frozen=True)
class Form:
    """One kind of document.

    Attributes:
        absent, foreign: What to do if there is no such file, or one of another kind.
    """

    name: str  # what its header calls it, e.g. ``skelfew-encoder``.
    key: str  # key of the JSON text in the header
    error: type[SkelfewError] = SkelfewError
    absent: str = "no such file"
    foreign: str = ""
    version: int = 1  # newest that is read; a file without one is of the first

    def write(self, path: Path, tensors: Mapping[str, "Tensor"], about: Values) -> None:
        """Write tensors and plain values (exact), replacing only when complete on disk."""
        text = json.dumps(dict(about), ensure_ascii=False)
        header = {"format": self.name, "format_version": str(self.version), self.key: text}
        write_tensors(path, tensors, header)

    def read(self, path: str | Path, tensors: bool = True) -> tuple[Document, dict[str, "Tensor"]]:
        """Return the values and, if wanted, tensors; ``error`` if absent, foreign or damaged."""
        try:
            header, found = read_tensors(path, tensors, self.name)
        except FileNotFoundError:
            raise self.error(f"{path}: {self.absent}") from None
        except (OSError, ValueError) as error:
            raise self.error(f"{path}: not a readable safetensors file ({brief(error)})") from None
        if header.get("format") != self.name:
            raise self.error(f"{path}: a safetensors file, but not a {self.name}{self.foreign}")
        version = header.get("format_version", "1")
        if not (version.isascii() and version.isdecimal()) or len(version) > 9:
            raise self.error(f"{path}: format_version is {shown(version)}, expected a number")
        if int(version) > self.version:
            raise self.error(
                f"{path}: format version {version}, this skelfew reads up to {self.version}; "
                "upgrade skelfew to read it"
            )
        try:
            about = parse_json(header[self.key])
        except (KeyError, ValueError) as error:
            raise self.error(
                f"{path}: damaged, its {self.key} is no JSON ({brief(error)})"
            ) from None
        if not isinstance(about, dict):
            raise self.error(f"{path}: damaged, its {self.key} is {shown(about)}, not an object")
        return about, found


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], header: Mapping[str, str]) -> None:
    """Write any safetensors file, whole or not at all, with a hash of its content."""
    from safetensors.torch import save

    # Clones, because safetensors refuses tensors that share memory.
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    header = {**header, _HASH: _content(header, plain)}
    with writing(path, durable=True) as file:
        file.write(save(plain, dict(header)))


def read_tensors(
    path: str | Path, tensors: bool = True, only: str | None = None
) -> tuple[dict[str, str], dict[str, "Tensor"]]:
    """Return header and, if wanted and the format is ``only``, tensors of a safetensors file.

    Raises OSError: it cannot be read, or has too many tensors; ValueError: it is damaged, or its
    content is not what its hash says. Files of earlier versions and of others have no hash.
    """
    from safetensors import SafetensorError, safe_open

    check_file(Path(path), most=None)
    check_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if not tensors or (only is not None and header.get("format") != only):
                return header, {}
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if _HASH in header and header[_HASH] != _content(header, found):
        raise ValueError("it was changed since it was written: its content has another hash")
    return header, found


def _content(header: Mapping[str, str], tensors: Mapping[str, "Tensor"]) -> str:
    """Return the SHA-256 of header and tensors, contiguous on the processor."""
    import torch

    about = {key: value for key, value in header.items() if key != _HASH}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f"\n{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

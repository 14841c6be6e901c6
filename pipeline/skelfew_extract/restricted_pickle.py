"""Opening PyTorch checkpoints from strangers: tensors and plain values come out, nothing runs.

A pickle is a program that may call any function it can name. Here it can name the few below and
nothing else; a name is looked up in this table, never imported. torch's own ``weights_only=True``
is as strict but refuses the official X-CLIP files, which carry their training configuration, a
yacs CfgNode, along.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
import torch

from skelfew.errors import SkelfewError
from skelfew.io.files import brief, check_file, check_member

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of torch before 1.6


class _Refused(pickle.UnpicklingError):
    """A pickle named something outside the table."""


def _table() -> dict[tuple[str, str], Any]:
    """Return what a pickle may name.

    Our stand-ins are made anew for each file: a pickle can set attributes of what it can name, and
    so changes nothing that outlives it.
    """

    class Config(dict):
        """What a yacs CfgNode becomes: a dict; the attributes it sets on itself are dropped."""

        def __setstate__(self, state: object) -> None:
            pass

    class DType:
        """The name of a NumPy dtype."""

        def __init__(self, code: str, *_: object):
            self.code = code

        def __setstate__(self, state: object) -> None:
            pass

    def number(dtype: object, value: bytes) -> float:
        """What a NumPy scalar, such as the best accuracy, becomes."""
        if not isinstance(dtype, DType) or dtype.code not in {"f2", "f4", "f8", "i4", "i8", "b1"}:
            raise _Refused("a NumPy scalar of an unusual type")
        return np.frombuffer(value, dtype="<" + dtype.code)[0].item()

    def latin1(text: str, encoding: str) -> bytes:
        """How protocol 2 writes bytes; ``codecs.encode`` itself looks codecs up by name."""
        if encoding != "latin1":
            raise _Refused(f"bytes in the encoding {encoding!r}")
        return text.encode("latin1")

    def tensor(*args: Any) -> torch.Tensor:
        made = torch._utils._rebuild_tensor_v2(*args)
        if made.numel() * made.element_size() > made.untyped_storage().nbytes():
            raise _Refused(f"a tensor of shape {tuple(made.shape)} with fewer numbers in it")
        return made

    def names(items: object = ()) -> set[Any]:
        if not isinstance(items, list) or not all(isinstance(i, str | int | float) for i in items):
            raise _Refused("a set of odd things")
        return set(items)

    def parameter(*args: Any) -> torch.Tensor:
        return torch._utils._rebuild_parameter(*args)

    table: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): parameter,
        ("torch", "Size"): torch.Size,
        ("yacs.config", "CfgNode"): Config,
        ("_codecs", "encode"): latin1,
        ("numpy", "dtype"): DType,
    }
    for builtins in ("builtins", "__builtin__"):
        table[builtins, "set"] = names
    for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
        table[core, "scalar"] = number
    for dtype in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"):
        table["torch", dtype] = getattr(torch, dtype)
    return table


_Python: Any = pickle._Unpickler


class _Unpickler(_Python):
    """Finds classes and functions in the table only.

    Written in Python: the unpickler in C sets aside as much memory as a number in the file says.
    """

    dispatch = dict(_Python.dispatch)  # noqa: RUF012

    def __init__(self, file: IO[bytes], **kwargs: Any):
        super().__init__(file, **kwargs)
        self._table = _table()

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        _Python.load_setitem(self)

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        _Python.load_setitems(self)

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        _Python.load_dict(self)

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    for _code in (pickle.FROZENSET, pickle.ADDITEMS, pickle.INST, pickle.OBJ):
        del dispatch[_code[0]]

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._table:
            raise _Refused(f"{module}.{name}")
        return self._table[module, name]


def _check_keys(keys: list[Any]) -> None:
    """A tuple as a key, holding itself many times over, would be hashed for ever."""
    if not all(isinstance(key, str | int | float | bytes | None) for key in keys):
        raise _Refused("a dict with odd keys")


def _load(file: IO[bytes], **kwargs: Any) -> Any:
    return _Unpickler(file, **kwargs).load()


# torch.load asks for a module with these names.
_PICKLE = ModuleType("skelfew_restricted_pickle")
_PICKLE.Unpickler = _Unpickler  # type: ignore[attr-defined]
_PICKLE.load = _load  # type: ignore[attr-defined]
_PICKLE.UnpicklingError = pickle.UnpicklingError  # type: ignore[attr-defined]


def read_checkpoint(path: Path) -> Any:
    """Return the content of a file that torch.save wrote, on the CPU, without running code of it.

    Raises:
        SkelfewError: If it is not such a file, is damaged, or names anything outside the table.
    """
    try:
        check_file(path, most=None)
        with path.open("rb") as file:
            start = file.read(len(_LEGACY))
        if start.startswith(_ZIP):
            _check_archive(path)
        elif start != _LEGACY:
            raise SkelfewError(f"{path}: not a PyTorch checkpoint; download it again")
        return torch.load(path, map_location="cpu", pickle_module=_PICKLE, weights_only=False)
    except _Refused as error:
        raise SkelfewError(
            f"{path}: refused: opening it would run {brief(error)}; a checkpoint of X-CLIP holds "
            "only tensors and its settings; get it from its authors, or as safetensors"
        ) from None
    except SkelfewError:
        raise
    except (pickle.UnpicklingError, zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
        line = brief(error)
        raise SkelfewError(f"{path}: damaged or incomplete ({line}); download it again") from None
    except Exception as error:
        raise SkelfewError(
            f"{path}: its pickle is malformed ({type(error).__name__}: {brief(error)}); download "
            "it again"
        ) from None


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            check_member(info)
        if any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist()):
            raise SkelfewError(f"{path}: a TorchScript program, not a checkpoint; use the weights")

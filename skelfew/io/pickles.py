"""Opening pickles of strangers: arrays, tensors and plain containers come out, nothing runs.

A pickle is a program that may call any function it can name. Here a name is looked up in a short
table and never imported, so that a file with code in it is refused, not run; what the names get
are functions and classes of ours, which make arrays of plain numbers, tensors that are whole, and
no others. The program is run by Python's own unpickler written in Python, since the one in C sets
aside as much memory as a number in the file says; and without the instructions that make other
objects. ``torch.load(weights_only=True)`` is as strict, but refuses the official X-CLIP files,
which carry their training configuration, a yacs CfgNode, along.
"""

import math
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import IO, Any, ClassVar

import numpy as np

from skelfew.errors import SkelfewError
from skelfew.io.budget import ReadBudget, open_zip
from skelfew.io.files import Document, brief, check_file, check_member

_NUMBERS = re.compile(r"[<>|=]?[fiub][1248]")
_PLAIN = (str, int, float, bool, bytes, type(None))


_TORCH_TYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip


class _Refused(pickle.UnpicklingError):
    """A pickle asks for something outside the table."""


def _refuse(what: object) -> _Refused:
    return _Refused(f"{what}, which is neither an array nor a plain container")


class _StandIn:
    """Classes that a pickle may give a state to."""

    def __setstate__(self, state: object) -> None:
        pass


class _Config(_StandIn, dict):
    """Replaces a yacs CfgNode by a dict; the attributes that it sets on itself are dropped."""


class _Ordered(_StandIn, dict):
    """An OrderedDict, without the attributes that PyTorch adds to state dicts."""


class _Type(_StandIn):
    """Takes the place of a NumPy dtype: numbers of a known size only."""

    def __init__(self, code: object = None, align: object = 0, copy: object = 1):
        if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
            raise _refuse(f"it holds values of type {brief(code)}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        """Take the byte order; the rest says nothing about numbers."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise _refuse(f"it holds a type in the state {brief(order)}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(_StandIn):
    """Takes the place of a NumPy array while it is put together."""

    def __init__(self) -> None:
        self.values: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _refuse("it holds an array in an odd state")
        _, shape, kind, fortran, data = state
        self.values = _array(data, kind, shape, "F" if fortran else "C")


def _array(data: object, kind: object, shape: object, order: object) -> np.ndarray:
    if isinstance(data, str):
        data = data.encode("latin1")
    if (
        not isinstance(data, bytes | bytearray)
        or not isinstance(kind, _Type)
        or not isinstance(shape, tuple)
        or not all(type(n) is int and n >= 0 for n in shape)
        or len(shape) > 8
    ):
        raise _refuse("it holds an array of odd parts")
    needed = math.prod(shape) * kind.dtype.itemsize
    if needed != len(data):
        raise pickle.UnpicklingError(
            f"an array claims shape {shape} of {kind.dtype}, but holds {len(data)} bytes"
        )
    values = np.frombuffer(data, dtype=kind.dtype)
    return values.reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    if kind is not _ndarray:
        raise _refuse("it holds a special array")
    return _Array()


def _ndarray(*_: object) -> None:
    raise _refuse("it makes an array of no data")


def _scalar(kind: object, data: object = None) -> int | float | bool:
    return _array(data, kind, (), "C").item()


def _frombuffer(data: object, kind: object, shape: object, order: object) -> np.ndarray:
    return _array(data, kind, shape, order)


def _latin1(text: object, encoding: object) -> bytes:
    """Return bytes of protocol 2; ``codecs.encode`` itself would look codecs up by name."""
    if encoding != "latin1" or not isinstance(text, str):
        raise _refuse(f"it holds bytes in the encoding {brief(encoding)}")
    return text.encode("latin1")


def _ordered(*items: object) -> _Ordered:
    if items:
        raise _refuse("it holds a dict made of something else")
    return _Ordered()


def _set(items: object = ()) -> set[Any]:
    if not isinstance(items, list | tuple) or not all(isinstance(item, _PLAIN) for item in items):
        raise _refuse("it holds a set of odd things")
    return set(items)


_HARMLESS: Document = {
    "numpy.ndarray": _ndarray,
    "numpy.dtype": _Type,
    "_codecs.encode": _latin1,
    "collections.OrderedDict": _ordered,
    "builtins.set": _set,
    "__builtin__.set": _set,
} | {
    f"numpy.{core}.{name}": function
    for core in ("core", "_core")  # before and since NumPy 2
    for name, function in (
        ("multiarray._reconstruct", _reconstruct),
        ("multiarray.scalar", _scalar),
        ("numeric._frombuffer", _frombuffer),
    )
}
_LEFT_OUT = (
    pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4,
    pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET,
)  # fmt: skip


_Python: Any = pickle._Unpickler


class _Unpickler(_Python):
    """Python's unpickler with fewer instructions."""

    table: ClassVar[Document] = _HARMLESS
    dispatch: ClassVar[dict[int, Any]] = {k: v for k, v in _Python.dispatch.items()
                if k not in {code[0] for code in _LEFT_OUT}}  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.table[f"{module}.{name}"]
        except KeyError:
            raise _refuse(f"it names {brief(module)}.{brief(name)}") from None

    def load_reduce(self) -> None:
        function = self.stack[-2]
        known = any(function is value for value in self.table.values())
        if not known or function is _Config:
            raise _refuse("it calls something")
        _Python.load_reduce(self)

    def load_newobj(self) -> None:
        if self.stack[-2] is not _Config or self.stack[-1] != ():
            raise _refuse("it makes something")
        _Python.load_newobj(self)

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], _StandIn):
            raise _refuse("it gives a state to something")
        _Python.load_build(self)

    def load_setitem(self) -> None:
        _check_keys(self.stack[-3:-2], self.stack[-2:-1])
        _Python.load_setitem(self)

    def load_setitems(self) -> None:
        _check_keys(self.metastack[-1][-1:], self.stack[::2])
        _Python.load_setitems(self)

    def load_dict(self) -> None:
        _check_keys([{}], self.stack[::2])
        _Python.load_dict(self)

    def load_append(self) -> None:
        _check_list(self.stack[-2])
        _Python.load_append(self)

    def load_appends(self) -> None:
        _check_list(self.metastack[-1][-1])
        _Python.load_appends(self)

    for _code, _method in (
        (pickle.REDUCE, load_reduce), (pickle.BUILD, load_build), (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems), (pickle.DICT, load_dict), (pickle.APPEND, load_append),
        (pickle.APPENDS, load_appends), (pickle.NEWOBJ, load_newobj),
    ):  # fmt: skip
        dispatch[_code[0]] = _method


def _check_keys(holders: list[Any], keys: list[Any]) -> None:
    """A tuple as a key, holding itself many times over, would be hashed for ever."""
    if not holders or not isinstance(holders[0], dict):
        raise _refuse("it puts items into something")
    if not all(isinstance(key, _PLAIN) for key in keys):
        raise _refuse("it has a dict with odd keys")


def _check_list(holder: Any) -> None:
    if type(holder) is not list:
        raise _refuse("it appends to something")


class _Counted(dict[int, Any]):
    """The instructions, counted as they are looked up."""

    def __init__(self, dispatch: dict[int, Any], budget: ReadBudget):
        super().__init__(dispatch)
        self._budget = budget

    def __getitem__(self, code: int) -> Any:
        self._budget.count("instructions of a pickle")
        return super().__getitem__(code)


def load_arrays(file: IO[bytes], where: str, size: int = 0) -> Any:
    """Return what a pickle of arrays holds; SkelfewError if damaged, too costly, or other."""
    try:
        unpickler: Any = _Unpickler(file)
        unpickler.dispatch = _Counted(unpickler.dispatch, ReadBudget(where, max(size, 0)))
        return _finished(unpickler.load())
    except SkelfewError:
        raise
    except pickle.UnpicklingError as error:
        raise SkelfewError(f"{where}: refused to open this pickle: {brief(error)}") from None
    except Exception as error:  # damaged pickles raise whatever their bytes happen to ask for
        raise SkelfewError(
            f"{where}: not a readable pickle ({type(error).__name__}: {brief(error)})"
        ) from None


def _finished(value: Any) -> Any:
    """Return the content with arrays in the place of what stood for them."""
    done: dict[int, Any] = {}

    def finish(item: Any) -> Any:
        if isinstance(item, _Array):
            if item.values is None:
                raise _refuse("it holds an array without values")
            return item.values
        if isinstance(item, _Type | Callable):
            raise _refuse("it holds a function or a type")
        if not isinstance(item, dict | list) and type(item) is not tuple:
            return item
        if id(item) in done:
            return done[id(item)]
        if isinstance(item, tuple):
            done[id(item)] = None  # while it is looked into: one that holds itself is cut there
            done[id(item)] = tuple(finish(part) for part in item)
            return done[id(item)]
        done[id(item)] = item
        for key in item if isinstance(item, dict) else range(len(item)):
            item[key] = finish(item[key])
        return item

    return finish(value)


# ---- PyTorch -------------------------------------------------------------------------------

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of torch before 1.6


def _torch_pickle() -> ModuleType:
    """Return a module with the names that torch.load asks for."""
    import torch

    def tensor(*args: Any) -> torch.Tensor:
        made = torch._utils._rebuild_tensor_v2(*args)
        if made.numel() * made.element_size() > made.untyped_storage().nbytes():
            raise _refuse(f"a tensor of shape {tuple(made.shape)} with fewer numbers in it")
        return made

    def parameter(*args: Any) -> torch.Tensor:
        return torch._utils._rebuild_parameter(*args)

    class Unpickler(_Unpickler):
        table = (
            _HARMLESS
            | {
                "torch._utils._rebuild_tensor_v2": tensor,
                "torch._utils._rebuild_parameter": parameter,
                "torch.Size": torch.Size,
                "yacs.config.CfgNode": _Config,
            }
            | {f"torch.{name}": getattr(torch, name) for name in _TORCH_TYPES}
        )

    module = ModuleType("skelfew_pickles")
    module.Unpickler = Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **kwargs: Unpickler(file, **kwargs).load()  # type: ignore[attr-defined]
    module.UnpicklingError = pickle.UnpicklingError  # type: ignore[attr-defined]
    return module


def load_torch(path: str | Path) -> Any:
    """Return what torch.save wrote, on the CPU, running none of it; SkelfewError if it is other."""
    import torch

    path = Path(path)
    try:
        check_file(path, most=None)
        with path.open("rb") as file:
            start = file.read(len(_LEGACY))
        if start.startswith(_ZIP):
            _check_archive(path)
        elif start != _LEGACY:
            raise SkelfewError(f"{path}: not a PyTorch checkpoint; download it again")
        loaded = torch.load(
            path, map_location="cpu", pickle_module=_torch_pickle(), weights_only=False
        )
        return _finished(loaded)
    except FileNotFoundError:
        raise SkelfewError(f"{path}: no such file") from None
    except _Refused as error:
        raise SkelfewError(
            f"{path}: refused to open this pickle: {brief(error)}; it may hold tensors and plain "
            "values only; save its state dict alone, or get it as safetensors"
        ) from None
    except (pickle.UnpicklingError, zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
        line = brief(error)
        raise SkelfewError(f"{path}: damaged or incomplete ({line}); download it again") from None
    except SkelfewError:
        raise
    except Exception as error:
        raise SkelfewError(
            f"{path}: its pickle is malformed ({type(error).__name__}: {brief(error)}); download "
            "it again"
        ) from None


def _check_archive(path: Path) -> None:
    with open_zip(path) as archive:
        for info in archive.infolist():
            check_member(info)
        if any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist()):
            raise SkelfewError(f"{path}: a TorchScript program, not a checkpoint; use the weights")

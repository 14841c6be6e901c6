"""Opening pickles from strangers that hold arrays and plain containers; nothing else comes out.

A pickle is a program that may call any function it can name. Here a name is looked up in the
short table below and never imported, so that a file with code in it is refused, not run; what the
names stand for are functions of ours, which make arrays of plain numbers and no others. The
program is run by Python's own unpickler written in Python, since the one in C sets aside as much
memory as a number in the file says; and without the instructions that make other objects.
"""

import math
import pickle
import re
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from skelfew.errors import SkelfewError
from skelfew.io.files import brief

_NUMBERS = re.compile(r"[<>|=]?[fiub][1248]")
_PLAIN = (str, int, float, bool, bytes, type(None))


def _refuse(what: object) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(f"{what}, which is neither an array nor a plain container")


class _Type:
    """What stands for a NumPy dtype: numbers of a known size only."""

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


class _Array:
    """What stands for a NumPy array while it is put together."""

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
    value: int | float | bool = _array(data, kind, (), "C").item()
    return value


def _frombuffer(data: object, kind: object, shape: object, order: object) -> np.ndarray:
    return _array(data, kind, shape, order)


def _latin1(text: object, encoding: object) -> bytes:
    """How protocol 2 writes bytes; ``codecs.encode`` itself would look codecs up by name."""
    if encoding != "latin1" or not isinstance(text, str):
        raise _refuse(f"it holds bytes in the encoding {brief(encoding)}")
    return text.encode("latin1")


def _ordered(*items: object) -> dict[Any, Any]:
    if items:
        raise _refuse("it holds a dict made of something else")
    return {}


_HARMLESS: dict[str, Any] = {
    "numpy.ndarray": _ndarray,
    "numpy.dtype": _Type,
    "_codecs.encode": _latin1,
    "collections.OrderedDict": _ordered,
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
    pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.PERSID, pickle.BINPERSID,
    pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
    pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET,
)  # fmt: skip


_Python: Any = pickle._Unpickler


class _Unpickler(_Python):
    """Python's unpickler with fewer instructions."""

    dispatch = {k: v for k, v in _Python.dispatch.items()
                if k not in {code[0] for code in _LEFT_OUT}}  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _HARMLESS[f"{module}.{name}"]
        except KeyError:
            raise _refuse(f"it names {brief(module)}.{brief(name)}") from None

    def load_reduce(self) -> None:
        function = self.stack[-2]
        if not any(function is known for known in _HARMLESS.values()):
            raise _refuse("it calls something")
        _Python.load_reduce(self)

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], _Type | _Array):
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
        (pickle.APPENDS, load_appends),
    ):  # fmt: skip
        dispatch[_code[0]] = _method


def _check_keys(holders: list[Any], keys: list[Any]) -> None:
    """A tuple as a key, holding itself many times over, would be hashed for ever."""
    if not holders or type(holders[0]) is not dict:
        raise _refuse("it puts items into something")
    if not all(isinstance(key, _PLAIN) for key in keys):
        raise _refuse("it has a dict with odd keys")


def _check_list(holder: Any) -> None:
    if type(holder) is not list:
        raise _refuse("it appends to something")


def load(file: IO[bytes], where: str) -> Any:
    """Return what a pickle holds; raise SkelfewError if it is damaged or holds anything else."""
    try:
        return _finished(_Unpickler(file).load())
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
        if not isinstance(item, dict | list | tuple):
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

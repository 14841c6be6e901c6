"""Opening pickles from strangers that hold arrays and plain containers; nothing else comes out.

A pickle is a program that may call any function it can name. Here a name is looked up in the
short table below and never imported, so that a file with code in it is refused, not run.
"""

import pickle
from typing import IO, Any

import numpy as np
from numpy._core.multiarray import _reconstruct, scalar
from numpy._core.numeric import _frombuffer  # type: ignore[attr-defined]

from skelfew.errors import SkelfewError


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes; ``codecs.encode`` itself would look codecs up by name."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_HARMLESS: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "_codecs.encode": _latin1,
    "collections.OrderedDict": dict,
} | {
    f"numpy.{core}.{name}": function
    for core in ("core", "_core")  # before and since NumPy 2
    for name, function in (
        ("multiarray._reconstruct", _reconstruct),
        ("multiarray.scalar", scalar),
        ("numeric._frombuffer", _frombuffer),
    )
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _HARMLESS[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is neither an array nor a plain container"
            ) from None


def load(file: IO[bytes], where: str) -> Any:
    """Return what a pickle holds; raise SkelfewError if it is damaged or holds anything else."""
    try:
        return _Unpickler(file).load()
    except pickle.UnpicklingError as error:
        raise SkelfewError(f"{where}: refused to open this pickle: {error}") from None
    except Exception as error:  # damaged pickles raise whatever their bytes happen to ask for
        raise SkelfewError(
            f"{where}: not a readable pickle ({type(error).__name__}: {error})"
        ) from None

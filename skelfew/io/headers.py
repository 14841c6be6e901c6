"""The header of an array in NumPy's format, before anything is believed of it."""

from typing import IO

import numpy as np
from numpy.lib import format as npy

from skelfew.io.files import brief


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether in Fortran order, and type; raise ValueError if it is damaged."""
    try:
        older = npy.read_magic(file) == (1, 0)
        return (npy.read_array_header_1_0 if older else npy.read_array_header_2_0)(file)
    except Exception as error:  # the header is a Python literal, and anything can be in it
        raise ValueError(f"damaged header ({brief(error)})") from None

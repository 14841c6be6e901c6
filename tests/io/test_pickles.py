"""Pickles of others: nothing in them runs or asks for much memory; honest ones are read."""

import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelfew.errors import SkelfewError
from skelfew.io.pickles import load_arrays, load_torch


class Call:
    """Pickles as the call of a function, which opening an ordinary pickle carries out."""

    def __init__(self, function: Callable, *args: Any):
        self.call = function, args

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self.call


# How a file of torch before 1.6 begins: magic number, protocol version, system.
LEGACY_START = b"".join(
    pickle.dumps(x, protocol=2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
)


def python(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


CALLS: dict[str, Callable[[Path], Call]] = {
    "os.system": lambda marker: Call(os.system, f"touch {marker}"),
    "eval": lambda marker: Call(eval, f"open({str(marker)!r}, 'w').close()"),
    "getattr": lambda marker: Call(getattr, OrderedDict, "fromkeys"),
    "__import__": lambda marker: Call(__import__, "antigravity"),
    "open": lambda marker: Call(open, str(marker), "w"),
    "pathlib": lambda marker: Call(Path.touch, marker),
    "torch.load": lambda marker: Call(torch.load, str(marker)),
    "numpy.save": lambda marker: Call(np.save, str(marker), 1),
    "module": lambda marker: Call(torch.nn.Linear, 1, 1),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", CALLS)
def test_malicious_pickles_do_not_run(tmp_path: Path, kind: str, zipped: bool) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    content = {"model": {"a": torch.ones(2)}, "config": CALLS[kind](marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(SkelfewError, match=r"evil\.pth: refused to open this pickle: it names "):
        load_torch(path)
    assert not marker.exists()


def test_the_trap_is_live(tmp_path: Path) -> None:
    """An ordinary load does run these: the marker would have been seen."""
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save(CALLS["os.system"](marker), path)
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch MARKER'\ntR.",
        b"(S'touch MARKER'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch MARKER'\no.",
        b"\x80\x04\x8c\x0bcollections\x8c\x16OrderedDict.__reduce__\x93.",
        b"cposix\nsystem\n(S'touch MARKER'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"ctorch._utils\n_rebuild_tensor\n.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"cos\nStorageType\n.",
        b"\x82\x01.",
    ],
)
def test_malicious_programs_do_not_run(tmp_path: Path, program: bytes) -> None:
    """Written by hand, in all the ways a pickle can name a function."""
    marker, path = tmp_path / "ran", tmp_path / "evil.pth"
    path.write_bytes(LEGACY_START + program.replace(b"MARKER", str(marker).encode()))
    with pytest.raises(SkelfewError, match=r"evil\.pth"):
        load_torch(path)
    assert not marker.exists()


def test_a_pickle_changes_none_of_our_functions(tmp_path: Path) -> None:
    """BUILD can set attributes of anything a pickle can name."""
    path = tmp_path / "graffiti.pth"
    program = b"ctorch._utils\n_rebuild_tensor_v2\n(N(S'__doc__'\nS'changed'\ndtb."
    path.write_bytes(LEGACY_START + program + pickle.dumps([], protocol=2))
    with pytest.raises(SkelfewError, match="gives a state"):
        load_torch(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    with pytest.raises(SkelfewError, match="TorchScript program"):
        load_torch(path)


def array_pickle(shape: tuple[int, ...], code: str = "<f4") -> bytes:
    """Pickle an array of two numbers that claims another shape."""
    whole = pickle.dumps(np.zeros((2, 1), code), 2)
    assert b"K\x02K\x01\x86" in whole
    return whole.replace(b"K\x02K\x01\x86", pickle.dumps(shape, 2)[2:-1].replace(b"q\x00", b""))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02Nr\xff\xff\xff\x7f.", None),  # the unpickler in C takes 32 GiB for this
        (b"\x80\x02)q\x000" + b"h\x00h\x00\x86q\x000" * 60 + b"}h\x00Ns.", "odd keys"),
        (array_pickle((10**9, 10**3)), "claims shape"),
        (pickle.dumps(np.array([None, 1], object)), "type O8"),
        (pickle.dumps(np.dtype([("a", "f4")])), "type V4"),
        (b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "array of no data"),
        (b"\x80\x02]NR.", "calls something"),
        (b"c_codecs\nencode\n}b.", "gives a state"),
        (b"cos\nsystem\n.", "names os.system"),
        (b"(S'x'\nios\nsystem\n.", "not a readable pickle"),
        (b"\x80\x04\x8d" + b"\xff" * 8 + b".", "exceeds"),
    ],
)
def test_pickles_that_ask_for_too_much(program: bytes, message: str | None) -> None:
    if message is None:
        assert load_arrays(io.BytesIO(program), "x.pkl") is None
        return
    with pytest.raises(SkelfewError, match=message):
        load_arrays(io.BytesIO(program), "x.pkl")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_honest_pickles_are_read(protocol: int) -> None:
    value = {"a": [np.arange(6, dtype=np.float16).reshape(2, 3), np.float32(2.5)], "b": (1, "x")}
    value["f"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))  # type: ignore[assignment]
    value["again"] = value["a"]
    found = load_arrays(io.BytesIO(pickle.dumps(value, protocol)), "x.pkl")
    np.testing.assert_array_equal(found["a"][0], value["a"][0])
    np.testing.assert_array_equal(found["f"], value["f"])
    assert found["a"][1] == 2.5 and found["b"] == (1, "x") and found["again"] is found["a"]
    assert found["a"][0].dtype == np.float16

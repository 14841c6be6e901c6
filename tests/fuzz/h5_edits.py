"""HDF5 files made hostile through the library itself: links, absurd shapes, odd types."""

import io

import h5py
import numpy as np
from edits import TEXTS, Draw, edited
from hypothesis import strategies as st

_KINDS = (
    "bytes", "bytes", "soft", "external", "raw", "virtual", "huge", "chunk", "type", "object",
    "reference", "compound", "vlen", "scalar", "empty", "group", "attribute", "delete", "strings",
    "values", "bomb", "filter", "ring",
)  # fmt: skip


@st.composite
def edited_h5(draw: Draw, content: bytes, spared: tuple[str, ...] = ()) -> bytes:
    """Return an HDF5 file with one or two of its members changed, or its bytes."""
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(_KINDS))
        if kind == "bytes":
            return edited(draw, content)
        try:
            content = _changed(draw, content, kind, spared)
        except Exception:  # the library does not write such a thing
            return edited(draw, content)
    return content


def _changed(draw: Draw, content: bytes, kind: str, spared: tuple[str, ...]) -> bytes:
    memory = io.BytesIO(content)
    with h5py.File(memory, "r+") as file:
        names = [n for n in file if n not in spared]
        if not names:
            return content
        name = draw(st.sampled_from(sorted(names)))
        if kind == "attribute":
            keys = sorted(file.attrs) or ["format"]
            key = draw(st.sampled_from(keys))
            file.attrs[key] = draw(st.sampled_from((
                0, -1, 2**40, 1.5, np.nan, "x", "[", "{}", "null", "[" * 900, np.arange(3),
                h5py.Empty("f4"), np.array([b"a"]), "x" * 5000, True, np.bytes_(b"\xff"),
            )))  # fmt: skip
            return _image(file, memory)
        old = file[name]
        shape = old.shape if isinstance(old, h5py.Dataset) and old.shape else (3,)
        small = isinstance(old, h5py.Dataset) and (old.size or 0) < 10**6
        values = old[()] if small and kind == "values" else np.zeros(3)
        if kind != "virtual":
            del file[name]
        _put(draw, file, name, kind, shape, values)
        return _image(file, memory)


def _image(file: h5py.File, memory: io.BytesIO) -> bytes:
    file.close()
    return memory.getvalue()


def _put(draw: Draw, file: h5py.File, name: str, kind: str, shape: tuple, values) -> None:  # type: ignore
    tail = shape[1:]
    many = draw(st.sampled_from((10**7, 10**9, 10**12, 2**40)))
    if kind == "soft":
        file[name] = h5py.SoftLink(draw(st.sampled_from(("/", "/positions", "/no", f"/{name}"))))
    elif kind == "external":
        where = draw(st.sampled_from(("../secret", "/etc/passwd", "f.h5", "absent")))
        file[name] = h5py.ExternalLink(where, "/text")
    elif kind == "raw":
        file.create_dataset(name, (3, *tail), "<f4", external=[("../secret", 0, 4)])
    elif kind == "virtual":
        del file[name]
        layout = h5py.VirtualLayout(shape, "<f4")
        layout[:] = h5py.VirtualSource("../secret", "text", shape)
        file.create_virtual_dataset(name, layout)
    elif kind == "huge":
        dtype = draw(st.sampled_from(("<f4", "<i4", "u1", h5py.string_dtype())))
        file.create_dataset(name, (many, *tail), dtype, chunks=(64, *tail))
    elif kind == "chunk":
        file.create_dataset(name, (10**6, *tail), "<f4", chunks=(10**6, *tail))
    elif kind == "type":
        dtype = draw(st.sampled_from(("<f8", ">f4", "<i8", "u1", "<f2", "?", "<c8", "S5")))
        file.create_dataset(name, shape, dtype)
    elif kind == "object":
        file.create_dataset(name, data=np.array([b"cos\nsystem\n."] * 3, dtype="V12"))
    elif kind == "reference":
        file.create_dataset(name, (3,), h5py.ref_dtype)
    elif kind == "compound":
        file.create_dataset(name, (3,), np.dtype([("a", "<f4"), ("b", "<i4")]))
    elif kind == "vlen":
        file.create_dataset(name, (3,), h5py.vlen_dtype(np.float32))
    elif kind == "scalar":
        file[name] = draw(st.sampled_from((1.5, 3, "text")))
    elif kind == "empty":
        file[name] = h5py.Empty("f4")
    elif kind == "group":
        file.create_group(name)
    elif kind == "strings":
        usable = [t for t in TEXTS if "\x00" not in t and "\ud800" not in t]
        chosen = draw(st.lists(st.sampled_from(usable), min_size=1, max_size=4))
        file.create_dataset(name, data=np.array(chosen, dtype=object), dtype=h5py.string_dtype())
    elif kind == "values" and isinstance(values, np.ndarray) and values.dtype.kind in "fiu":
        flat = values.ravel().copy()
        pool = (0, 1, 2, 255, 2**31 - 1) if values.dtype.kind != "f" else (np.nan, np.inf, 0, 1e38)
        if flat.size:
            at = draw(st.integers(0, flat.size - 1))
            flat[at] = np.array(draw(st.sampled_from(pool))).astype(values.dtype)
        file[name] = flat.reshape(values.shape)
    elif kind == "bomb":
        made = file.create_dataset(name, (64, *tail), "<f4", chunks=(64, *tail), compression="gzip")
        import zlib

        made.id.write_direct_chunk((0,) * len(made.shape), zlib.compress(bytes(30_000_000)))
    elif kind == "filter":
        made = file.create_dataset(name, (64, *tail), "<f4", chunks=(64, *tail), shuffle=True)
        made.id.write_direct_chunk((0,) * len(made.shape), b"\xff" * 10, filter_mask=1)
    elif kind == "ring":
        group = file.create_group(name)
        group["again"] = file["/"]

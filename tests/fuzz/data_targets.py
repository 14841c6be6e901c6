"""Fuzz targets: raw recordings of every reader, manifests, protocols, layouts, skeleton stores."""

import gzip
import io
import json
import pickle
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from edits import Draw, Files, Link, edited, edited_file, hostile
from engine import Target
from h5_edits import edited_h5
from hypothesis import strategies as st

from skelfew.cache.format.checks import brief
from skelfew.data.find import find_sample
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import load_layout
from skelfew.data.manifest import Manifest, Sample, file_name
from skelfew.data.prepare.check import check
from skelfew.data.prepare.walk import Outputs, prepare
from skelfew.data.protocols.protocol import load_protocol, split_names
from skelfew.data.readers import RawFolder, load_reader
from skelfew.data.store import Skeleton, SkeletonStore
from skelfew.data.store_writer import SkeletonStoreWriter

RNG = np.random.default_rng(0)
LAYOUT = """
joints = ["head", "neck", "left_hand", "right_hand", "pelvis"]
bones = [["head", "neck"], ["left_hand", "neck"], ["right_hand", "neck"], ["pelvis", "neck"]]
centre = "neck"
left_right = [["left_hand", "right_hand"]]
"""


def prepared(name: str, **options: str) -> Callable[[Path, Path], None]:
    """Return what runs the whole of skelfew-prepare on a folder."""

    def run(folder: Path, out: Path) -> None:
        outputs = Outputs(out / "manifests" / "x.csv", out / "data" / "x.h5")
        archives = sorted(folder.glob("raw.zip"))
        raw = RawFolder(archives[0] if archives else folder)
        defaults = load_reader(name).defaults
        given = {k: v.replace("IN", str(folder)) for k, v in options.items()}
        prepare(name, raw, outputs, {**defaults, **given})
        with SkeletonStore(outputs.store) as store:
            store.read_all()

    return run


# What the readers read


def ntu_text(frames: int, bodies: int, joints: int = 25) -> bytes:
    lines = [str(frames)]
    for t in range(frames):
        lines.append(str(bodies))
        for m in range(bodies):
            lines += [f"7205759403792793{m} 0 1 1 1 1 0 0.027 0.057 2", str(joints)]
            for j in range(joints):
                x, y, z = 0.2 * m + 0.01 * t, 0.05 * j, 2 + 0.1 * np.sin(j + t)
                lines.append(f"{x:.6f} {y:.6f} {z:.6f} 277.4 191.8 {900 + x:.4f} {500 - y:.4f} "
                             "-0.2 0.05 0.97 0.1 2")  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


@cache
def ntu() -> list[Files]:
    one, two = ntu_text(3, 1), ntu_text(2, 2)
    names = ("S001C002P003R001A001.skeleton", "S001C002P003R002A002.skeleton")
    return [{names[0]: one}, {names[0]: two, names[1]: one}, {names[0]: ntu_text(14, 3)}]


@cache
def ucla() -> list[Files]:
    def clip(label: int) -> bytes:
        joints = RNG.normal(size=(3, 20, 3)).round(3)
        joints[1, 3] = 0
        content = {"file_name": "x", "label": label, "skeletons": joints.tolist()}
        return json.dumps(content).encode()

    return [{"a08_s09_e04_v02.json": clip(7), "a01_s01_e01_v01.json": clip(1)}]


@cache
def raw_zips() -> list[Files]:
    found: list[Files] = []
    for files in (*ntu()[:2], *ucla()):
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                assert isinstance(content, bytes)
                archive.writestr(f"raw/{name}", content)
        found.append({"raw.zip": memory.getvalue()})
    return found


def use_raw_zip(folder: Path, out: Path) -> None:
    for name in ("ntu", "nw-ucla"):
        prepared(name)(folder, out)


@cache
def utd() -> list[Files]:
    from scipy.io import savemat

    found: list[Files] = []
    for compressed, version in ((False, "5"), (True, "5"), (False, "4")):
        memory = io.BytesIO()
        joints = RNG.uniform(1, 2, (20, 3, 4)) if version == "5" else RNG.uniform(1, 2, (20, 12))
        savemat(memory, {"d_skel": joints}, do_compression=compressed, format=version)
        found.append({"a3_s2_t4_skeleton.mat": memory.getvalue()})
    return found


@st.composite
def hostile_matlab(draw: Draw) -> Files:
    """Also with variables of other kinds, and compressed parts that unpack to much."""
    import zlib

    from scipy.io import savemat

    name = "a3_s2_t4_skeleton.mat"
    kind = draw(st.sampled_from(("edit", "edit", "edit", "other", "bomb", "inside")))
    if kind == "other":
        value = draw(st.sampled_from(({"a": 1}, [1, "a"], "text", 1 + 2j, [], np.zeros((20, 3)),
                                      np.full((20, 3, 2), np.nan), np.zeros((20, 3, 0)),
                                      np.array([[{"x": 1}]], dtype=object))))  # fmt: skip
        memory = io.BytesIO()
        savemat(memory, {draw(st.sampled_from(("d_skel", "x"))): value})
        return {name: edited(draw, memory.getvalue()) if draw(st.booleans()) else memory.getvalue()}
    if kind in ("bomb", "inside"):
        packed = utd()[1]["a3_s2_t4_skeleton.mat"]
        assert isinstance(packed, bytes)
        inner = bytearray(zlib.decompress(packed[136:]))
        if kind == "bomb":
            inner += bytes(40_000_000)
            inner[4:8] = draw(
                st.sampled_from((b"\xff\xff\xff\xff", (40_000_000).to_bytes(4, "little")))
            )
        else:
            inner = bytearray(edited(draw, bytes(inner)))
        data = zlib.compress(bytes(inner))
        return {name: packed[:132] + len(data).to_bytes(4, "little") + data}
    return draw(hostile(utd))


@cache
def pku() -> list[Files]:
    joints = RNG.uniform(-1, 3, (30, 2, 25, 3)).round(4)
    joints[:, 1] = 0
    text = b"".join(
        (" ".join(f"{v:.4f}" for v in row.ravel()) + "   \n").encode() for row in joints
    )
    label = b"8,1,10,2\n14,12,30,1\n"
    return [
        {"skeletons/0002-L.txt": text, "label/0002-L.txt": label},
        {"skeletons/0002-M.txt.gz": gzip.compress(text), "label/0002-M.txt": label},
    ]


@st.composite
def hostile_pku(draw: Draw) -> Files:
    if draw(st.integers(0, 15)) == 0:
        bomb = gzip.compress(bytes(draw(st.sampled_from((10**6, 300_000_000)))))
        return {"skeletons/0002-L.txt.gz": bomb, "label/0002-L.txt": b"8,1,10,2\n"}
    return draw(hostile(pku))


@cache
def msr() -> list[Files]:
    joints = RNG.uniform(0.1, 1, (4, 20, 3)).round(4) + np.array([0, 0, 2])
    rows = [" ".join(f"{v:.4f}" for v in row) + " 1" for row in joints.reshape(-1, 3)]
    counted = ["4 20"]
    for t in range(4):
        counted += ["20", *rows[20 * t : 20 * t + 20]]
    wide = [" ".join(rows[20 * t : 20 * t + 20]) for t in range(4)]
    return [{"a01_s02_e03.txt": "\n".join(part).encode()} for part in (rows, counted, wide)]


@cache
def pyskl() -> list[Files]:
    flat = {
        "frame_dir": "S001C002P003R002A001", "label": 0, "img_shape": (540, 960),
        "original_shape": (1080, 1920), "total_frames": 4,
        "keypoint": RNG.uniform(100, 400, (1, 4, 17, 2)).astype(np.float16),
        "keypoint_score": RNG.uniform(0.2, 1, (1, 4, 17)).astype(np.float16),
    }  # fmt: skip
    solid = {"frame_dir": "a/b", "label": np.int64(1), "total_frames": 3,
             "keypoint": RNG.normal(size=(2, 3, 25, 3)).astype(np.float32)}  # fmt: skip
    found: list[Files] = []
    for protocol in (0, 2, 4, 5):
        for one in (flat, solid):
            content = {"split": {"train": ["x"]}, "annotations": [one]}
            found.append({"anno.pkl": pickle.dumps(content, protocol)})
    return found


@st.composite
def hostile_pickle(draw: Draw) -> Files:
    """Programs put together of opcodes, beside edited files."""
    if draw(st.integers(0, 2)):
        return draw(hostile(pyskl))
    return {"anno.pkl": draw(pickle_program())}


@st.composite
def pickle_program(draw: Draw) -> bytes:
    names = (
        b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy.core.multiarray\nscalar\n", b"cnumpy.core.numeric\n_frombuffer\n",
        b"c_codecs\nencode\n", b"ccollections\nOrderedDict\n", b"cos\nsystem\n",
        b"cbuiltins\neval\n", b"cnumpy\nndarray.__reduce__\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch\nSize\n", b"cyacs.config\nCfgNode\n", b"cbuiltins\nset\n",
    )  # fmt: skip
    pieces = (
        *names, b"(", b")", b"}", b"]", b"N", b"\x88", b"K\x00", b"K\x01", b"J\xff\xff\xff\x7f",
        b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"X\x02\x00\x00\x00O8", b"X\x02\x00\x00\x00f8",
        b"U\x02|O", b"X\x06\x00\x00\x00latin1", b"C\x04abcd", b"G?\xf0\x00\x00\x00\x00\x00\x00",
        b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"l", b"d", b"a", b"e", b"s", b"u", b"2", b"0",
        b"1", b"\x81", b"\x92", b"o", b"q\x00", b"h\x00", b"r\xff\xff\xff\x7f",
        b"j\xff\xff\xff\x7f",
        b"p4000000000\n", b"\x94", b"\x8f", b"\x90", b"\x91", b"\x93", b"Pid\n", b"Q", b"\x82\x01",
        b"\x8d" + b"\xff" * 8, b"\x95" + b"\xff" * 8, b"\x96" + b"\xff\xff\xff\xff\x10\0\0\0",
        b"I" + b"9" * 5000 + b"\n", b"F1e400\n", b"B\xff\xff\xff\x7f", b"\x97", b"\x98",
        b"q\x01h\x01\x86" * 60, b"\x80\x02", b"Vx\n", b"S'a'\n", b"ios\nsystem\n",
    )  # fmt: skip
    chosen = draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=30))
    if draw(st.booleans()):
        return b"\x80\x04" + b"".join(chosen) + b"."
    # As an annotation, or a key, of an otherwise sound file
    before = draw(st.sampled_from((
        b"\x80\x02}X\x0b\x00\x00\x00annotations](",
        b"\x80\x02}X\x0b\x00\x00\x00annotations](}X\x05\x00\x00\x00label",
        b"\x80\x02}(X\x0b\x00\x00\x00annotations](}(X\x08\x00\x00\x00keypoint",
    )))  # fmt: skip
    return before + b"".join(chosen) + draw(st.sampled_from((b"es.", b"ses.", b"ueu.", b".")))


@cache
def ctrgcn() -> list[Files]:
    x = np.zeros((3, 20, 2, 25, 3), np.float32)
    x[:, :7, 0] = RNG.normal(size=(3, 7, 25, 3))
    memory = io.BytesIO()
    x = x.reshape(3, 20, 150)
    np.savez(memory, x_train=x, y_train=np.eye(60)[:3], x_test=x[:1], y_test=np.arange(1))
    return [{"x.npz": memory.getvalue()}]


def _csv(joints: np.ndarray, ends: str) -> bytes:
    names = ("head", "neck", "left_hand", "right_hand", "pelvis")
    header = ",".join(f"{n}_{e}" for n in names for e in ends)
    rows = [",".join(f"{v:.3f}" for v in frame.ravel()) for frame in joints]
    return ("\n".join([header, *rows]) + "\n").encode()


@cache
def own() -> list[Files]:
    solid = RNG.normal(size=(6, 5, 3)).astype(np.float32)
    flat = RNG.uniform(100, 400, (6, 5, 3)).astype(np.float32)
    flat[..., 2] = RNG.uniform(0.2, 1, (6, 5))
    npy, npz, two = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, solid)
    np.savez(npz, keypoints=np.stack([solid, solid]))
    np.savez(two, keypoints=flat[..., :2], keypoint_scores=flat[..., 2])
    head = b"id,recording,label,start,end,subject\n"
    layout = {"rig.toml": LAYOUT.encode()}
    people = [
        {"image_id": f"{t}.jpg", "keypoints": f.ravel().tolist(), "score": 2.5}
        for t, f in enumerate(flat)
    ]
    coco = {"images": [{"id": t, "file_name": f"{t}.jpg"} for t in range(6)],
            "annotations": [{**p, "image_id": t} for t, p in enumerate(people)]}  # fmt: skip
    video = {"instance_info": [
        {"frame_id": t, "instances": [{"keypoints": f[:, :2].tolist(), "track_id": 3,
                                       "keypoint_scores": f[:, 2].tolist()}]}
        for t, f in enumerate(flat)]}  # fmt: skip
    openpose = {
        f"o/c_{t:03}_keypoints.json": json.dumps(
            {"people": [{"person_id": [-1], "pose_keypoints_2d": f.ravel().tolist()}]}
        ).encode()
        for t, f in enumerate(flat[:3])
    }
    return [
        {**layout, "t.csv": head + b"a,s.npy,wave,0,4,x\nb,s.npy,kick,2,,y\nc,d.npz,wave,,,\n",
         "s.npy": npy.getvalue(), "d.npz": npz.getvalue()},
        {**layout, "t.csv": head + b"a,s.csv,wave,,,x\n", "s.csv": _csv(solid, "xyz")},
        {**layout, "t.csv": head + b"a,s.npz,wave,,,x\n", "s.npz": two.getvalue()},
        {**layout, "t.csv": head + b"a,a.json,wave,,,x\nb,c.json,kick,,,\nc,v.json,kick,1,3,\n",
         "a.json": json.dumps(people).encode(), "c.json": json.dumps(coco).encode(),
         "v.json": json.dumps(video).encode()},
        {**layout, "t.csv": head + b"a,o,wave,,,x\n", **openpose},
    ]  # fmt: skip


def use_own(folder: Path, out: Path) -> None:
    from skelfew.data.readers import own as reader
    from skelfew.data.readers import own_table

    reader._table_of.cache_clear()
    assert own_table is not None
    prepared("own", table="t.csv", layout="IN/rig.toml")(folder, out)


# What prepare writes


def samples() -> tuple[Sample, ...]:
    return tuple(
        Sample(f"S{i:03}", i % 4 + 1, f"class {i % 4}", 3, 1, f"v/{i}.avi", 0, 3, f"s{i}", "1", "2")
        for i in range(8)
    )


@cache
def manifests() -> list[Files]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "m.csv"
        Manifest("m", samples()).write(path)
        return [{"m.csv": path.read_bytes()}]


def use_manifest(folder: Path, out: Path) -> None:
    manifest = Manifest.read(folder / "m.csv")
    assert len(manifest.sha256) == 64
    for sample in manifest:
        assert "/" not in file_name(sample.sample_id)
        (out / f"{file_name(sample.sample_id)}.png").write_bytes(b"")
    find_sample(manifest.ids[0], folder=folder)
    manifest.write(out / "m.csv")
    assert Manifest.read(out / "m.csv").sha256 == manifest.sha256


@cache
def protocols() -> list[Files]:
    common = {"name": "m", "dataset": "m", "source": "x", "notes": ["a"],
              "episodes": {"ways": 2, "shots": 1, "queries": 1},
              "exclude_queries": {"a": ["S006"]}, "expected_queries": {"1": 2}}  # fmt: skip
    rule = {"pattern": "S(?P<number>\\d+)", "where": {"subject": "s3"}, "order": ["number"],
            "distinct": "subject"}  # fmt: skip
    listed = {"1": {"4": ["S003"]}, "2": {"4": ["S003", "S007"]}}
    documents: list[dict[str, Any]] = [
        {**common, "base": [1, 2], "validation": [3], "novel": [4], "exemplars": listed},
        {**common, "base": [1, 2], "validation": [3], "novel": [4], "exemplar_rule": rule},
        {**common, "splits": {"of": [1, 2, 3, 4], "choose": 2}, "exemplar_rule": {"order": []}},
        {**common, "splits": [{"name": "a", "base": [1], "validation": [], "novel": [3, 4]},
                              {"base": [3], "novel": [1]}]},
        {**common, "random": {"novel": 1, "validation": 1, "seeds": 3}},
    ]  # fmt: skip
    return [{"p.json": json.dumps(d).encode()} for d in documents]


def use_protocol(folder: Path, out: Path) -> None:
    manifest = Manifest("m", samples())
    path = folder / "p.json"
    for split in [None, *split_names(path, manifest)[:6]]:
        protocol = load_protocol(path, manifest, split)
        for shots in (1, 2):
            if protocol.has_exemplars:
                protocol.exemplars(shots)
                protocol.queries(shots, tuple(protocol.exclude_queries))
        json.dumps({"notes": list(protocol.notes), "episodes": dict(protocol.episodes)})


@cache
def layouts() -> list[Files]:
    return [{"rig.toml": LAYOUT.encode()}]


def use_layout(folder: Path, out: Path) -> None:
    layout = load_layout(folder / "rig.toml")
    assert len(layout.parents) == len(layout) and brief(layout.to_dict())


@cache
def skeleton_stores() -> list[Files]:
    found: list[Files] = []
    with tempfile.TemporaryDirectory() as scratch:
        for compress, pixels in ((True, False), (False, True)):
            path = Path(scratch) / "m.h5"
            manifest = Manifest("m", samples())
            attrs = {"dataset": "m", "manifest_sha256": manifest.sha256, "units": "metres",
                     "coordinates": 3}  # fmt: skip
            with SkeletonStoreWriter(
                path, "joints-15", 15, pixels=pixels, attrs=attrs, compress=compress
            ) as writer:
                for i, sample in enumerate(samples()):
                    joints = RNG.normal(size=(1 + i % 2, 3, 15, 3))
                    writer.append(sample.sample_id, Skeleton(joints))
            found.append({"m.h5": path.read_bytes()})
    return found


@st.composite
def hostile_skeletons(draw: Draw) -> Files:
    sets = skeleton_stores()
    content = sets[draw(st.integers(0, 1))]["m.h5"]
    assert isinstance(content, bytes)
    if draw(st.integers(0, 3)) == 0:
        return {"m.h5": edited_file(draw, "m.h5", content)}
    if draw(st.integers(0, 30)) == 0:
        return {"m.h5": Link(draw(st.sampled_from(("/dev/zero", "../secret"))))}
    return {"m.h5": draw(edited_h5(content))}


def use_skeletons(folder: Path, out: Path) -> None:
    manifest = Manifest("m", samples())
    manifest.write(out / "m.csv")
    with SkeletonStore(folder / "m.h5") as store:
        assert store.channels and store.coordinates
        store.content_digest()
        pipeline = Pipeline(length=4, coordinates=min(store.coordinates, store.channels))
        ids = [i for i in store.ids if i in manifest][:4]
        if len(store.joint_layout) and ids:
            SkeletonBank.from_store(store, ids, pipeline)
    check(Outputs(out / "m.csv", folder / "m.h5"))


TARGETS = [
    Target("ntu", hostile(ntu), prepared("ntu"), ntu),
    Target("nw-ucla", hostile(ucla), prepared("nw-ucla"), ucla),
    Target("raw-zip", hostile(raw_zips), use_raw_zip, raw_zips),
    Target("utd-mhad", hostile_matlab(), prepared("utd-mhad"), utd),
    Target("pku", hostile_pku(), prepared("pku"), pku),
    Target("msr", hostile(msr), prepared("msr"), msr),
    Target("pyskl", hostile_pickle(), prepared("pyskl"), pyskl),
    Target("ctrgcn-npz", hostile(ctrgcn), prepared("ctrgcn-npz"), ctrgcn),
    Target("own", hostile(own), use_own, own),
    Target("manifest", hostile(manifests), use_manifest, manifests),
    Target("protocol", hostile(protocols), use_protocol, protocols),
    Target("layout", hostile(layouts), use_layout, layouts),
    Target("skeletons", hostile_skeletons(), use_skeletons, skeleton_stores),
]

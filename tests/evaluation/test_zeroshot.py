"""Zero-shot: skeletons against the texts of classes without exemplars."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from small_world import BASE, DIM, FAST, NOVEL, VALIDATION, make_world

from skelfew.cache import CacheWriter, TeacherCache
from skelfew.cli.evaluate import main as evaluate_main
from skelfew.cli.train import main as train_main
from skelfew.config import InputConfig
from skelfew.data.manifest import Manifest
from skelfew.encoders.checkpoints import load_encoder
from skelfew.errors import SkelfewError
from skelfew.evaluation.scoring import Features, score_texts
from skelfew.evaluation.subjects import encoder_subject
from skelfew.evaluation.zeroshot import text_subject
from skelfew.runs.folder import Run
from skelfew.training.checkpoint import load_checkpoint
from skelfew.training.stages.bridge import Bridge, bridge_path, load_bridge, save_bridge
from skelfew.training.stages.byol import CrossModalBYOL


def run_command(main, *arguments: str):  # type: ignore[no-untyped-def]
    """Run a command in this process; return what click's runner gives."""
    return CliRunner().invoke(main, arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A world with one run, ``runs/one``, of transfer; the working folder is its root."""
    root = tmp_path_factory.mktemp("world")
    make_world(root, trained=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        given = ["--cache", "cache/tiny.zarr", "--run", "runs/one", "--epochs", "8", *FAST]
        more = ["--batch", "10", "--lr", "0.01", "--set", "transfer.optimizer.warmup=1"]
        done = run_command(train_main, *given, *more, "--stages", "transfer")
        assert done.exit_code == 0, done.output
        yield root


def as_if_of(run: Path, stages: list[str]) -> Path:
    """Copy ``runs/one`` and say that its stages were others."""
    shutil.copytree("runs/one", run)
    config = json.loads((run / "config.json").read_text()) | {"stages": stages}
    (run / "config.json").write_text(json.dumps(config))
    return run


def document(*arguments: str) -> dict:  # type: ignore[type-arg]
    done = run_command(evaluate_main, "--shots", "0", "--json", *arguments)
    assert done.exit_code == 0, done.output
    found: dict = json.loads(done.stdout)  # type: ignore[type-arg]
    return found


def test_score_against_texts_counts_what_is_nearest() -> None:
    values = torch.tensor([[1.0, 0.1], [3.0, 0.2], [0.1, 1.0], [2.0, 1.9]])
    features = Features(values, ("a", "b", "c", "d"), torch.tensor([7, 7, 9, 9]))
    result = score_texts(features, (7, 9), torch.tensor([[5.0, 0.0], [0.0, 0.1]]))
    assert result.confusion is not None
    np.testing.assert_array_equal(result.confusion, [[2, 0], [1, 1]])
    assert result.micro.value == 0.75 and result.chance == 0.5 and result.queries == 4
    assert result.micro.low is not None and result.micro.low < 0.75 < result.micro.high  # type: ignore[operator]


def test_a_run_without_exemplars(trained: Path) -> None:
    done = run_command(evaluate_main, "--shots", "0", "--run", "runs/one")
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "tiny: 2-way 0-shot, tiny" in text and "texts" in text
    assert "no exemplars; 20 queries; chance 50.0 %; 95 % interval by bootstrap" in text
    kept = list((trained / "runs" / "one" / "results").glob("tiny-0shot-texts-*.json"))
    row = json.loads(kept[0].read_text())["rows"][0]
    assert row["settings"]["shift"] is True and row["settings"]["stage"] == "transfer"
    assert row["micro"]["low"] <= row["micro"]["value"] <= row["micro"]["high"]


def test_scores_are_those_of_the_stage_itself(trained: Path) -> None:
    """Predictions and projected texts come out as the trained module gives them."""
    run = Run.open("runs/one")
    subject = text_subject(run, InputConfig())
    encoder = encoder_subject(run.encoder, subject.manifest, subject.store)
    module = CrossModalBYOL(torch.nn.Identity(), 32, DIM, 1.0, "pad", True, 32, 16).eval()
    kept = load_checkpoint(run.checkpoint)[0]["module"]
    module.load_state_dict({k: v for k, v in kept.items() if not k.startswith("encoder.")})
    cache = TeacherCache.open("cache/tiny.zarr")
    assert cache.class_text is not None
    unit = cache.class_text / np.linalg.norm(cache.class_text, axis=1, keepdims=True)
    place = {c: i for i, c in enumerate(subject.manifest.classes)}
    base, ids = subject.manifest.subset(BASE), subject.manifest.subset(NOVEL).ids
    mean_text = np.mean([unit[place[s.class_id]] for s in base], axis=0)
    shift = cache.targets(base.ids, "f_v+f_t", "unit").mean(axis=(0, 1)) - mean_text
    texts = torch.tensor(unit[[place[c] for c in NOVEL]] + shift, dtype=torch.float32)
    with torch.no_grad():
        predicted, projected = module(encoder.features(ids), texts)
    assert subject.texts is not None
    torch.testing.assert_close(F.normalize(subject.features(ids), dim=-1), predicted)
    found = F.normalize(subject.texts(NOVEL), dim=-1)
    torch.testing.assert_close(found, projected, atol=1e-5, rtol=1e-4)


def test_stages_after_transfer_take_no_part(trained: Path, tmp_path: Path) -> None:
    found = document("--run", str(as_if_of(tmp_path / "run", ["transfer", "episodic"])))
    assert any("transfer left it; episodic takes no part" in note for note in found["notes"])


def test_classes_that_were_trained_on_are_found_by_their_texts(trained: Path) -> None:
    subject = text_subject(Run.open(trained / "runs" / "one"), InputConfig())
    samples = subject.manifest.subset(BASE)
    labels = torch.tensor([s.class_id for s in samples])
    features = Features(subject.features(samples.ids), tuple(samples.ids), labels)
    assert subject.texts is not None
    assert score_texts(features, BASE, subject.texts(BASE)).micro.value > 0.45  # chance 0.25


def test_validation_classes_and_no_shift(trained: Path) -> None:
    found = document("--run", "runs/one", "--classes", "validation", "--no-shift")
    assert found["classes"] == "validation" and found["mode"] == "texts"
    assert found["rows"][0]["results"][0]["novel"] == list(NOVEL)
    assert [c["class_id"] for c in found["rows"][0]["results"][0]["classes"]] == list(VALIDATION)
    assert found["rows"][0]["settings"]["shift"] is False
    drawn = run_command(
        evaluate_main, "--run", "runs/one", "--classes", "validation", "--mode", "draws", "--json"
    )
    assert drawn.exit_code == 0, drawn.output
    classes = json.loads(drawn.stdout)["rows"][0]["results"][0]["classes"]
    assert [c["class_id"] for c in classes] == list(VALIDATION)


def other_texts(path: Path, dim: int = DIM, sha256: str | None = None, name: str = "tiny") -> Path:
    manifest = Manifest.read("manifests/tiny.csv")
    classes = [{"class_id": c, "label": n, "prompt": n} for c, n in manifest.classes.items()]
    provenance = {"dataset": name, "manifest_sha256": manifest.sha256, "classes": classes}
    provenance["teacher"] = {"name": "text", "weights_sha256": sha256}
    with CacheWriter.create_or_resume(
        path,
        manifest.ids,
        dim=dim,
        provenance=provenance,
        video=False,
        class_text=np.random.default_rng(0).normal(size=(len(classes), dim)),
    ):
        return path


def test_texts_of_another_cache(trained: Path, tmp_path: Path) -> None:
    path = other_texts(tmp_path / "texts.zarr")
    found = document("--run", "runs/one", "--texts", str(path))
    assert found["rows"][0]["settings"]["texts"] == str(path)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--texts", "{tmp}/wide.zarr"], 1, "texts of width 48, but the run learned from features"),
        (["--texts", "{tmp}/other.zarr"], 1, "texts of the classes of elsewhere, but tiny is"),
        (["--texts", "nowhere.zarr"], 1, "nowhere.zarr: no such cache"),
        (["--mode", "draws"], 2, "without exemplars; leave --mode out"),
        (["--classifier", "linear"], 2, "leave --classifier out"),
        (["--raw"], 2, "leave --raw out"),
        (["--shots", "1", "--no-shift"], 2, "--shift is for --shots 0"),
        (["--shots", "1", "--mode=draws", "--ways", "3"], 2, "--ways is for --mode episodes"),
        (["--shots", "1", "--classes", "validation"], 1, "with --mode draws or episodes"),
    ],
)
def test_impossible_scores_are_refused(
    trained: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    other_texts(tmp_path / "wide.zarr", dim=48)
    other_texts(tmp_path / "other.zarr", name="elsewhere")
    given = [a.format(tmp=tmp_path) for a in arguments]
    shots = [] if "--shots" in given else ["--shots", "0"]
    done = run_command(evaluate_main, *shots, "--run", "runs/one", *given)
    assert done.exit_code == status and message in done.stderr, done.stderr


def test_texts_of_another_teacher_are_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree("runs/one", tmp_path / "run")
    path = bridge_path(tmp_path / "run", "transfer")
    bridge = load_bridge(path)
    bridge.about["teacher"] = {"weights_sha256": "1" * 64}
    save_bridge(path, bridge)
    texts = other_texts(tmp_path / "texts.zarr", sha256="2" * 64)
    with pytest.raises(SkelfewError, match="texts of another teacher than the run's"):
        text_subject(Run.open(tmp_path / "run"), InputConfig(), texts=texts)


def test_a_run_without_projector_says_so(trained: Path, tmp_path: Path) -> None:
    run = as_if_of(tmp_path / "labels", ["traditional"])
    done = run_command(evaluate_main, "--shots", "0", "--run", str(run))
    assert done.exit_code == 1 and "has no projector" in done.stderr
    assert "trained by traditional, without a teacher" in done.stderr
    shutil.copytree("runs/one", tmp_path / "old")
    bridge_path(tmp_path / "old", "transfer").unlink()
    done = run_command(evaluate_main, "--shots", "0", "--run", str(tmp_path / "old"))
    assert done.exit_code == 1 and "bridge.transfer.safetensors is not there" in done.stderr


def test_a_cache_without_class_texts_says_so(trained: Path, tmp_path: Path) -> None:
    shutil.copytree("cache/tiny.zarr", tmp_path / "bare.zarr")
    shutil.rmtree(tmp_path / "bare.zarr" / "class_text")
    run = as_if_of(tmp_path / "run", ["transfer"])
    with pytest.raises(SkelfewError, match=r"bare.zarr: has no class texts \(array class_text\)"):
        text_subject(Run.open(run), InputConfig(), texts=tmp_path / "bare.zarr")
    # Training on such a cache leaves bridge without a shift.
    bare = TeacherCache.open(tmp_path / "bare.zarr")
    assert bare.class_texts() == {}
    bridge = load_bridge(bridge_path(run, "transfer"))
    save_bridge(bridge_path(run, "transfer"), replace(bridge, shift=None))
    subject = text_subject(Run.open(run), InputConfig())
    assert subject.notes == ("the cache that was trained on has no class texts, so texts are not "
                             "shifted",)  # fmt: skip
    config = json.loads((run / "config.json").read_text())
    config["inputs"]["cache"] = "gone.zarr"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(SkelfewError, match="its teacher cache is gone"):
        text_subject(Run.open(run), InputConfig())


@pytest.mark.parametrize("align", ["pad", "teacher_reduce", "student_adapter", "skip_mismatched"])
def test_heads_survive_the_file(tmp_path: Path, align: str) -> None:
    module = CrossModalBYOL(torch.nn.Identity(), 8, 12, 1.0, align, align != "pad", 16, 4).train()
    for _ in range(3):  # BatchNorm learns its statistics
        module(torch.randn(20, 8), torch.randn(20, 12))
    skeleton, teacher = module.bridge()
    shift = torch.randn(12)
    bridge = Bridge(
        torch.nn.Sequential(skeleton), torch.nn.Sequential(teacher), shift, {"width": 12}
    )
    save_bridge(tmp_path / "h.safetensors", bridge)
    found = load_bridge(tmp_path / "h.safetensors")
    module.eval()
    x, t = torch.randn(5, 8), torch.randn(5, 12)
    torch.testing.assert_close(found.skeleton(x), skeleton(x), rtol=0, atol=0)
    torch.testing.assert_close(found.teacher(t), teacher(t), rtol=0, atol=0)
    assert (
        found.shift is not None and torch.equal(found.shift, shift) and found.about["width"] == 12
    )


def test_what_is_not_a_heads_file(tmp_path: Path) -> None:
    (tmp_path / "h.safetensors").write_bytes(b"nothing")
    with pytest.raises(SkelfewError, match="not a readable safetensors file"):
        load_bridge(tmp_path / "h.safetensors")


def test_a_teachers_own_features_are_scored_beside_what_it_taught(trained: Path) -> None:
    done = run_command(
        evaluate_main, "--run", "runs/one", "--raw", "--cache", "cache/tiny.zarr", "--json"
    )
    assert done.exit_code == 0, done.output
    rows = {row["features"]: row for row in json.loads(done.stdout)["rows"]}
    assert list(rows) == ["one", "aligned skeletons", "teacher's features"]
    cache = TeacherCache.open("cache/tiny.zarr")
    manifest = Manifest.read("manifests/tiny.csv")
    seen = F.normalize(torch.tensor(cache.targets(manifest.ids, "f_v", "unit")).mean(dim=1), dim=1)
    place = {name: i for i, name in enumerate(manifest.ids)}
    result = rows["teacher's features"]["results"][0]
    support = [place[result["exemplars"][str(c)][0]] for c in NOVEL]
    right = [
        NOVEL[int((seen[support] @ seen[place[s.sample_id]]).argmax())] == s.class_id
        for s in manifest.subset(NOVEL)
        if place[s.sample_id] not in support
    ]
    assert result["micro"]["value"] == pytest.approx(sum(right) / len(right))
    texts = document("--cache", "cache/tiny.zarr", "--dataset", "tiny")["rows"][0]
    assert texts["features"] == "teacher's features" and texts["classifier"] == "texts"
    other = run_command(evaluate_main, "--cache", "cache/tiny.zarr", "--dataset", "demo")
    assert other.exit_code == 1


def test_labels_train_the_encoder_and_a_small_map_leads_to_the_texts(trained: Path) -> None:
    """Preset laptop with a cache: the encoder is that without it; the map is a ridge regression."""
    given = [
        "--preset",
        "laptop",
        "--dataset",
        "tiny",
        "--threads",
        "1",
        "--set",
        "classify.clips=40",
    ]
    given += ["--set", "classify.batch=8", "--set", "fusion=0.5", "--device", "cpu"]
    done = run_command(train_main, *given, "--run", "runs/labels")
    assert done.exit_code == 0, done.output
    done = run_command(train_main, *given, "--cache", "cache/tiny.zarr", "--run", "runs/named")
    assert done.exit_code == 0, done.output
    alone, named = (Run.open(f"runs/{name}") for name in ("labels", "named"))
    weights = [load_encoder(run.encoder)[0].state_dict() for run in (alone, named)]
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))
    found = document("--run", "runs/named")
    assert found["rows"][0]["settings"]["stage"] == "classify"
    assert not any("not shifted" in note for note in found["notes"])
    subject = text_subject(named, InputConfig())
    cache = TeacherCache.open("cache/tiny.zarr")
    known = {c: torch.tensor(t).double() for c, t in cache.class_texts("unit").items()}
    samples = subject.manifest.subset(BASE)
    labels = torch.tensor([s.class_id for s in samples])
    units = F.normalize(subject.features(samples.ids).double(), dim=1)
    means = torch.stack([units[labels == c].mean(dim=0) for c in BASE])
    texts = torch.stack([known[c] for c in BASE])
    x, y = texts - texts.mean(dim=0), means - means.mean(dim=0)
    penalty = x.square().sum(dim=1).mean() * torch.eye(DIM).double()
    weight = torch.linalg.solve(x.T @ x + penalty, x.T @ y)  # the primal form
    novel = torch.stack([known[c] for c in NOVEL])
    expected = means.mean(dim=0) + (novel - texts.mean(dim=0)) @ weight
    assert subject.texts is not None
    torch.testing.assert_close(subject.texts(NOVEL).double(), expected, atol=1e-4, rtol=1e-3)
    refused = run_command(evaluate_main, "--shots", "0", "--run", "runs/labels")
    assert refused.exit_code == 1 and "without a teacher" in refused.stderr

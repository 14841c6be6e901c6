"""The exported graph gives what the recogniser gives."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from skelfew.data.input.pipeline import Pipeline
from skelfew.data.joints.layouts import load_layout
from skelfew.encoders import build_encoder
from skelfew.errors import SkelfewError
from skelfew.predict.export import DESCRIPTION, Portable, export
from skelfew.predict.model import Model
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.recordings import Clip

LAYOUT = load_layout("joints-15")


def model(pool: str = "mean", bodies: int = 2, encoder: str = "ctrgcn", **changes: object) -> Model:
    pipeline = replace(Pipeline(length=8), **changes)  # type: ignore[arg-type]
    torch.manual_seed(0)
    built = build_encoder(encoder, LAYOUT, bodies=bodies, width=0.125, body_pool=pool).eval()
    for module in built.modules():  # away from its start, at which most of it is switched off
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return Model("fresh", built, pipeline, LAYOUT, 3, bodies, {})


def small(one: Model) -> Model:
    """Return the model with one block of each kind: to export ten takes long."""
    one.encoder._blocks = ["l1", "l2", "l5"]  # type: ignore[union-attr]
    return one


def values(seed: int, bodies: int, frames: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    found = random.normal(size=(bodies, frames, 15, 3)).astype(np.float32) + 1
    found[..., 2] = np.abs(found[..., 2])
    found[0, : frames // 4] = 0  # no person at first
    found[-1, frames // 2 :] = 0
    found[0, frames // 4, 1:4] = 0  # joints that were not found, where there is a confidence
    return found


def recordings(bodies: int) -> list[np.ndarray]:
    both = [values(i, bodies, n) for i, n in enumerate((5, 12, 40))]
    alone = np.zeros_like(both[1])
    alone[-1] = both[1][0]
    gaps = np.zeros((bodies, 70, 15, 3), dtype=np.float32)  # no person before, in and after it
    gaps[:, 9:14], gaps[:, 17:20], gaps[:, 30:60] = (
        both[2][:, 5:10],
        both[2][:, 10:13],
        1 + both[2][:, :30],
    )
    return [*both, alone, gaps]


def taught(one: Model) -> Recogniser:
    clips = {
        str(i): [Clip("a", v, LAYOUT, one.coordinates)] for i, v in enumerate(recordings(2)[:3])
    }
    return Recogniser.learn(clips, one, reject=True)


@pytest.mark.parametrize(
    "one",
    [
        model(),
        model("masked_mean", missing_body="mask"),
        model(missing_body="zeros", stream="bone_motion"),
        model(coordinates=2, stream="joint_motion"),
        model(kind="ucla"),
        model("masked_mean", kind="ucla", coordinates=2, missing_body="zeros"),
        Model.raw(LAYOUT, bodies=2),
        Model.untrained(LAYOUT, bodies=2),
        Model.untrained(LAYOUT, coordinates=2, bodies=2),
        model(missing_body="zeros", root="each", facing="camera", size="body"),
    ],
    ids=["ntu", "masked", "bone motion", "picture", "ucla", "ucla picture", "raw", "dtw",
         "dtw picture", "aligned"],
)  # fmt: skip
def test_the_graph_prepares_and_recognises_as_the_recogniser_does(one: Model) -> None:
    recogniser, clips = taught(one), recordings(2)
    portable = Portable(recogniser).eval()
    for clip in clips:
        features = one.features([Clip("a", clip, LAYOUT, one.coordinates)])
        with torch.no_grad():
            chances, cosines = portable(torch.from_numpy(clip))
        torch.testing.assert_close(
            cosines, recogniser.similarities(features)[0], rtol=1e-4, atol=2e-5
        )
        assert float(chances.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_the_file_answers_for_any_length_and_says_what_it_is(tmp_path: Path) -> None:
    recogniser = taught(small(model(encoder="agcn")))
    path = export(recogniser, tmp_path / "new" / "gestures.pt2")
    extra = {DESCRIPTION: ""}
    loaded = torch.export.load(path, extra_files=extra).module()
    about = json.loads(extra[DESCRIPTION])
    assert about["actions"] == ["0", "1", "2"] and about["shape"] == [2, "frames", 15, 3]
    assert about["reject_below_cosine"] == recogniser.rejection.threshold
    for clip in recordings(2):
        found = recogniser.predict_clips([Clip("a", clip, LAYOUT, 3)])[0]
        chances, cosines = loaded(torch.from_numpy(clip))
        assert about["actions"][int(chances.argmax())] == found.nearest
        assert float(cosines.max()) == pytest.approx(found.similarity, abs=2e-5)
    with pytest.raises(SkelfewError, match=r"ends in \.pt2 \(PyTorch\) or \.onnx"):
        export(recogniser, tmp_path / "gestures.bin")


def test_an_onnx_graph_gives_the_same_elsewhere(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    recogniser = taught(small(model()))
    path = export(recogniser, tmp_path / "gestures.onnx")
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "one file"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map[DESCRIPTION])
    assert about["actions"] == ["0", "1", "2"] and about["shape"] == [2, "frames", 15, 3]
    portable = Portable(recogniser).eval()
    for clip in (*recordings(2), values(9, 2, 2)):
        chances, cosines = session.run(None, {"joints": clip})
        with torch.no_grad():
            _, expected = portable(torch.from_numpy(clip))
        np.testing.assert_allclose(cosines, expected, atol=2e-5)
        shares = np.exp(portable.scale * (cosines.astype(float) - cosines.max()))
        np.testing.assert_allclose(chances, shares / shares.sum(), atol=1e-5)


def test_without_onnx_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SkelfewError, match=r"pip install 'skelfew\[onnx\]', or export a \.pt2"):
        export(taught(model()), tmp_path / "gestures.onnx")
    assert not list(tmp_path.iterdir())

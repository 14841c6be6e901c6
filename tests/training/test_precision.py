import pytest
import torch

from skelfew.encoders import build_encoder
from skelfew.training import precision
from skelfew.training.precision import fit_notes, layer_seconds


def test_what_is_slower_here_is_noted_with_its_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder("ctrgcn", "kinect-v2", width=0.125)
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    assert layer_seconds(encoder, "cpu", True) > 0 < layer_seconds(encoder, "cpu", False)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert fit_notes(encoder, "float32", "cpu", 1) == []
    assert "--threads" in fit_notes(encoder, "float32", "cpu", 10_000)[0]
    for slow, noted in ((3.0, ["bfloat16 takes 3.0 times as long"]), (1.05, []), (0.5, [])):
        monkeypatch.setattr(
            precision, "layer_seconds", lambda m, d, mixed, s=slow: s if mixed else 1.0
        )
        notes = fit_notes(encoder, "bfloat16", "cpu", 1)
        assert [n[: n.index(" as float32")] for n in notes] == noted

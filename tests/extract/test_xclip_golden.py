"""The tiny X-CLIP gives the numbers that transformers' model gave, without needing it here."""

import json
from pathlib import Path

import pytest
import torch
from skelfew_extract.teachers.xclip import XCLIP
from xclip_case import TINY, TOKENS, clips, fill, our_outputs

GOLDEN = json.loads((Path(__file__).parent / "golden" / "xclip_tiny.json").read_text())


@pytest.fixture(scope="module")
def outputs() -> dict[str, torch.Tensor]:
    model = XCLIP(TINY).eval()
    fill(model)
    return our_outputs(model, clips(TINY, 2), TOKENS)


@pytest.mark.parametrize("what", ["video", "text", "conditioned", "logits"])
def test_golden(outputs: dict[str, torch.Tensor], what: str) -> None:
    expected = torch.tensor(GOLDEN[what], dtype=torch.float64).view(outputs[what].shape)
    torch.testing.assert_close(outputs[what], expected, atol=1e-10, rtol=0)
    assert expected.abs().max() > 0.5, "numbers too small for the tolerance to mean anything"


def test_the_golden_numbers_depend_on_the_video(outputs: dict[str, torch.Tensor]) -> None:
    """Prompting, and not the text alone, is under test."""
    assert (outputs["conditioned"][0] - outputs["conditioned"][1]).abs().max() > 0.01
    assert (outputs["conditioned"] - outputs["text"]).abs().max() > 1

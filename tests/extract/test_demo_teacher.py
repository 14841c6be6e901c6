"""The small trained X-CLIP that comes with skelfew: what it was trained on, and what it knows."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from skelfew_extract.crop import CropSettings, clip_box, crop_and_resize
from skelfew_extract.demoworld import ACTIONS, NOVEL, VALIDATION, generate, specs
from skelfew_extract.demoworld.reader import DEFAULTS, Spec
from skelfew_extract.teachers import build_teacher
from skelfew_extract.weight_files import SHIPPED

from skelfew.data.protocols.files import find_protocol, read_protocol

FILE = SHIPPED / "xclip-demo.safetensors"
CARD = Path(__file__).resolve().parents[2] / "docs" / "demo-teacher.md"


@pytest.fixture(scope="module")
def about() -> dict:
    """What the file says of itself."""
    with safe_open(FILE, framework="np") as file:
        return json.loads(file.metadata()["about"])


def test_it_is_small() -> None:
    assert FILE.stat().st_size <= 6e6


def test_it_never_saw_a_class_that_is_held_out(about: dict) -> None:
    protocol = read_protocol(find_protocol("demo"))
    names = {a.class_id: a.name for a in ACTIONS}
    held_out = {names[c] for c in (*protocol["novel"], *protocol["validation"])}
    assert held_out == {*NOVEL, *VALIDATION}
    seen = set(about["classes"])
    assert len(seen) == len(about["classes"]) > 400
    assert not seen & held_out
    # Nor as one half of a composition. (Base classes are the students', too.)
    composed = seen - set(names.values())
    parts = {p for name in composed for p in re.split(r"one person | and the other | and ", name)}
    assert not parts & held_out


def test_it_never_saw_the_people_of_the_demo(about: dict) -> None:
    first, last = about["subjects"]
    assert not {spec.subject for spec in specs(DEFAULTS)} & set(range(first, last + 1))


def test_it_names_actions_that_it_never_saw(about: dict) -> None:
    """Zero-shot on fresh clips of the novel classes, by subjects of the demo."""
    teacher = build_teacher("xclip-demo")
    assert teacher.trained
    text = F.normalize(teacher.encode_text(list(NOVEL)), dim=-1)
    by_name = {a.name: a.class_id for a in ACTIONS}
    settings = CropSettings(teacher.frames, teacher.image_size)
    clips, truth = [], []
    for row, name in enumerate(NOVEL):
        for person in (5, 6, 7):
            recording, frames = generate(
                Spec(by_name[name], person, person % 3 + 1, 2), moments=teacher.frames
            )
            assert frames is not None
            shape = frames.shape[2], frames.shape[1]
            box, _ = clip_box(recording.skeleton.pixels, *shape, settings)
            clips.append(crop_and_resize(frames, box, teacher.image_size))
            truth.append(row)
    feature, _ = teacher.encode_clips(torch.from_numpy(np.stack(clips)))
    message = (F.normalize(feature, dim=-1) @ text.T).argmax(dim=1)
    accuracy = float((message == torch.tensor(truth)).float().mean())
    claimed = about["zero_shot"]["held-out subjects, novel classes"]
    assert claimed["chance"] == pytest.approx(1 / len(NOVEL), abs=1e-3)
    assert claimed["plain"] > 4 * claimed["chance"]
    assert accuracy > 3 / len(NOVEL)
    assert accuracy == pytest.approx(claimed["plain"], abs=0.25)  # 36 clips, other ones


def test_the_card_says_what_the_file_says(about: dict) -> None:
    text = CARD.read_text()
    for scores in about["zero_shot"].values():
        for key in ("plain", "prompted", "chance"):
            assert f"{100 * scores[key]:.1f}" in text, (key, scores)
    assert f"{about['clips']:,}" in text
    assert str(len(about["classes"])) in text
    for steps in about["steps"].values():
        assert f"{steps:,}" in text

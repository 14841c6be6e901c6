"""APSR: what a class looks at decides what it sees."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.evaluation.scoring import Features, score_draws
from skelfew.fewshot import build_classifier, build_head
from skelfew.fewshot.apsr import APSR
from skelfew.fewshot.cosine import episode_cosines
from skelfew.fewshot.head import HeadClassifier
from skelfew.fewshot.trained import bind, save_head

PARTS, WIDTH, WAYS = 4, 6, 3
CLASSES = torch.tensor([[7, 2, 9]])


def parts(clips: int, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(1, clips, PARTS, WIDTH, generator=draw, dtype=torch.float64)


def looking_at(sharpness: float = 100, **part: int) -> APSR:
    """A head for classes c7, c2, ... that look at one part each."""
    names = [str(p) for p in range(PARTS)]
    known = {
        int(c[1:]): {p: 1.0 if p == str(at) else -1.0 for p in names} for c, at in part.items()
    }
    head = build_head("apsr", {"sharpness": sharpness})
    assert isinstance(head, APSR)
    head.know(known, names)
    return head


@pytest.mark.parametrize("shots", [1, 2])
def test_one_part_or_all_of_them(shots: int) -> None:
    support, query = parts(WAYS * shots, 0), parts(5, 1)
    logits = looking_at(c7=1, c2=1, c9=1)(support, query, WAYS, CLASSES)
    alone = episode_cosines(support[:, :, 1], query[:, :, 1], WAYS)
    torch.testing.assert_close(logits, alone, rtol=0, atol=1e-10)
    average = episode_cosines(support.mean(dim=2), query.mean(dim=2), WAYS)
    evenly = looking_at(0, c7=1, c2=2, c9=0)(support, query, WAYS, CLASSES)
    torch.testing.assert_close(evenly, average, rtol=0, atol=1e-10)
    assert (alone - average).abs().max() > 0.1


def test_every_class_looks_at_its_own_part() -> None:
    """Whatever the order of classes in the episode is."""
    head = looking_at(c2=3, c7=1, c9=0)
    support, query = parts(WAYS, 0), parts(5, 1)
    logits = head(support, query, WAYS, CLASSES)
    for n, part in enumerate((1, 3, 0)):  # of classes 7, 2 and 9
        alone = episode_cosines(support[:, :, part], query[:, :, part], WAYS)
        torch.testing.assert_close(logits[..., n], alone[..., n], rtol=0, atol=1e-10)
    order = [2, 0, 1]
    turned = head(support[:, order], query, WAYS, CLASSES[:, order])
    torch.testing.assert_close(turned, logits[..., order], rtol=0, atol=1e-12)
    with pytest.raises(SkelfewError, match="the head apsr has no text of class 4"):
        head(support, query, WAYS, torch.tensor([[7, 2, 4]]))
    with pytest.raises(SkelfewError, match="texts of 4 parts of the body, but the encoder gives 3"):
        head(support[:, :, 1:], query[:, :, 1:], WAYS, CLASSES)


def test_scoring_tells_which_classes_an_episode_has() -> None:
    """Only the part that a class looks at says anything; the others are noise."""
    labels = torch.tensor([9, 2, 7]).repeat_interleave(8)
    values = 9 * parts(24, 2)[0].float()
    for c, at in ((7, 1), (2, 3), (9, 0)):
        values[labels == c, at] = torch.eye(WIDTH)[at]
    features = Features(values, tuple(map(str, range(24))), labels)
    head = HeadClassifier(looking_at(c7=1, c2=3, c9=0), "apsr")
    blind = HeadClassifier(looking_at(c7=3, c2=0, c9=1), "apsr")
    right, wrong = (score_draws(features, [9, 2, 7], h, 1, 5, 0).micro.value for h in (head, blind))
    assert right == 1.0 and wrong < 0.6


def test_the_file_has_the_relevances(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    head = HeadClassifier(looking_at(3.0, c2=3, c7=1, c9=0), "apsr")
    save_head(path, head, WIDTH, {"run": "r", "dataset": "demo"})
    found = bind(build_classifier("apsr"), path, "demo")
    assert found.settings == {"sharpness": 3.0}
    state = found.head.state_dict()
    assert all(torch.equal(state[k], v) for k, v in head.head.state_dict().items())
    with pytest.raises(SkelfewError, match="texts of the classes of demo, but utd-mhad is scored"):
        bind(build_classifier("apsr"), path, "utd-mhad")
    once = {key.removeprefix("texts."): value for key, value in state.items()}
    header = {"format": "skelfew-head", "head": '{"name": "apsr", "settings": {}, "width": 6}'}
    path.write_bytes(save(once, header))  # as before there were modules
    assert torch.equal(bind(build_classifier("apsr"), path).head.texts.cosines, once["cosines"])
    state["texts.cosines"] = state["texts.cosines"][1:].clone()
    path.write_bytes(save(state, header))
    with pytest.raises(SkelfewError, match="the weights do not fit 'apsr'"):
        bind(build_classifier("apsr"), path)

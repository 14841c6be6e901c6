"""Our safetensors files: what was written is what is read, or it is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from skelfew.errors import SkelfewError
from skelfew.io.documents import Form, read_tensors

FORM = Form("toy", "about")
TENSORS = {
    "half": torch.arange(6).view(2, 3).to(torch.bfloat16), "one": torch.tensor(2.5),
    "none": torch.zeros(0, 3), "flag": torch.tensor([True, False]), "long": torch.arange(3),
    "turned": torch.arange(6.0).view(2, 3).T,
}  # fmt: skip


def test_every_changed_byte_of_the_content_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    FORM.write(path, TENSORS, {"seed": 1})
    whole = path.read_bytes()
    about, found = FORM.read(path)
    assert about == {"seed": 1} and all(torch.equal(found[k], v) for k, v in TENSORS.items())
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in [*range(start, len(whole)), whole.index(b"seed")]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(SkelfewError, match=r"toy\.safetensors: not a readable.*changed since"):
            FORM.read(path)


def test_files_without_a_hash_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file({"a": torch.ones(2)}, path, {"format": "toy", "about": "{}"})
    assert torch.equal(FORM.read(path)[1]["a"], torch.ones(2))
    assert read_tensors(path)[0] == {"format": "toy", "about": "{}"}

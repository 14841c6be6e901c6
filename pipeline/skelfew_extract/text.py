"""From class names to prompts and token ids. Nothing is downloaded.

CLIP's byte-pair encoding has 49,408 tokens. A small teacher trained on a few hundred labels needs
a few hundred of them; its compact vocabulary (CompactVocabulary) says which.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from skelfew.errors import SkelfewError

if TYPE_CHECKING:
    from skelfew_extract.open_clip_door import SimpleTokenizer

TEMPLATE = "{}"  # the bare class name, as X-CLIP was trained
CONTEXT_LENGTH = 77
START, END = 49406, 49407

# Row numbers that every compact vocabulary reserves; end-of-text is its last row.
PAD_ROW, UNKNOWN_ROW, START_ROW, FIRST_ROW = 0, 1, 2, 3


def prompts(labels: Sequence[str], template: str = TEMPLATE) -> list[str]:
    """Return one text a label: the template with the label in place of its only ``{}``."""
    if template.count("{}") != 1:
        raise SkelfewError(f'prompt template {template!r}: write exactly one "{{}}" for the label')
    for label in labels:
        if not label.strip():
            raise SkelfewError(f"label {label!r} is blank; every class needs a name to be prompted")
    return [template.replace("{}", label) for label in labels]


@cache
def _tokenizer() -> "SimpleTokenizer":
    from skelfew_extract.open_clip_door import SimpleTokenizer

    return SimpleTokenizer()


def bpe_ids(text: str) -> list[int]:
    """Return CLIP's token ids of a text, without start and end."""
    ids = _tokenizer().encode(text)
    if not ids:
        raise SkelfewError(f"text {text!r} has no tokens; every class needs a name to be prompted")
    if len(ids) > CONTEXT_LENGTH - 2:
        raise SkelfewError(
            f"text {text[:60]!r}... has {len(ids)} tokens, but the text tower reads "
            f"{CONTEXT_LENGTH - 2}; shorten the class name or the template"
        )
    return ids


def tokenize(text: str) -> Tensor:
    """Return token ids (1, L) with start and end and no padding, int64."""
    return torch.tensor([[START, *bpe_ids(text), END]])


@dataclass(frozen=True)
class CompactVocabulary:
    """Which row of a small token table belongs to which of CLIP's tokens.

    Rows: 0 padding, 1 unknown, 2 start, 3... the known tokens, last the end of text, so that the
    end still has the highest id, which is how CLIP finds it. Without a list of known tokens, for
    untrained models only, each token falls on a row by a fixed hash.
    """

    size: int
    known: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.size < FIRST_ROW + 2:
            raise ValueError(f"a compact vocabulary has 5 rows or more, got {self.size}")
        if self.known is None:
            return
        if list(self.known) != sorted(set(self.known)) or not all(
            0 <= token < START for token in self.known
        ):
            raise SkelfewError(f"vocabulary: token ids must ascend from 0 to below {START}")
        if self.size != len(self.known) + FIRST_ROW + 1:
            raise SkelfewError(
                f"vocabulary: {len(self.known)} tokens need a table of "
                f"{len(self.known) + FIRST_ROW + 1} rows, but it has {self.size}"
            )

    @classmethod
    def of(cls, tokens: Iterable[int]) -> "CompactVocabulary":
        """Return the vocabulary that knows exactly these of CLIP's tokens."""
        known = tuple(sorted(set(tokens) - {START, END}))
        return cls(len(known) + FIRST_ROW + 1, known)

    def rows(self, tokens: Tensor) -> Tensor:
        """Translate CLIP's token ids, of any shape, to rows of the table."""
        row = {START: START_ROW, END: self.size - 1}
        row |= {token: FIRST_ROW + i for i, token in enumerate(self.known or ())}
        other = self._hashed if self.known is None else lambda _: UNKNOWN_ROW
        flat = [row[token] if token in row else other(token) for token in tokens.flatten().tolist()]
        return torch.tensor(flat).view(tokens.shape)

    def _hashed(self, token: int) -> int:
        # Knuth's multiplicative hash: 32 bits of the product, scaled to the free rows.
        return FIRST_ROW + (token * 2654435761 % 2**32) * (self.size - FIRST_ROW - 1) // 2**32

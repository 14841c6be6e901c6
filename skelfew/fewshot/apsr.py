"""APSR (Liu et al., TPAMI 2019): each class looks at the parts of the body that its name is about.

With f_p(x) the feature of part p of a clip and r_c,p the relevance of the part to class c, the
clip as class c sees it is F_c(x) = sum_p r_c,p f_p(x), and the logit is cos(F_c(query),
F_c(exemplar of c)). Relevances are the softmax over parts of cosines between texts: of the class,
and of the part (``skelfew.data.joints.body_parts.PART_TEXTS``).

The paper's full text and code were not at hand: re-implemented from a description,
UNVERIFIED. The source has word vectors where this has whatever teacher read the texts.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.errors import SkelfewError
from skelfew.fewshot.head import Head, Knowledge
from skelfew.fewshot.tuning import EPS
from skelfew.fields import Limit
from skelfew.io.files import Values

if TYPE_CHECKING:
    from skelfew.cache import TeacherCache


class Relevance(nn.Module):
    """Cosines (C, P) of the texts of classes (C,), ascending, and of parts; not learned."""

    classes: Tensor
    cosines: Tensor

    def __init__(self, cosines: Mapping[int, Sequence[float]] | None = None) -> None:
        super().__init__()
        known = sorted(cosines or {})
        rows = [list((cosines or {})[c]) for c in known]
        self.register_buffer("classes", torch.tensor(known, dtype=torch.long))
        self.register_buffer("cosines", torch.tensor(rows, dtype=torch.float32))
        self.register_load_state_dict_pre_hook(_as_large)

    def shares(self, classes: Tensor, sharpness: float) -> Tensor:
        """Return the relevance (..., P), of sum 1, of the parts to classes (...)."""
        absent = classes[~torch.isin(classes, self.classes)]
        if absent.numel():
            raise SkelfewError(
                f"the head apsr has no text of class {int(absent[0])}: the cache that it was "
                "trained with has none; train with a cache of all classes (docs/heads.md)"
            )
        cosines = self.cosines[torch.searchsorted(self.classes, classes.contiguous())]
        return (sharpness * cosines).softmax(dim=-1)


def _as_large(module: nn.Module, state: Values, prefix: str, *_: object) -> None:
    """Give the buffers the size of those that are about to be loaded."""
    classes, cosines = (state.get(prefix + name) for name in ("classes", "cosines"))
    if classes is None or cosines is None:
        return  # loading says so
    if classes.ndim != 1 or cosines.ndim != 2 or len(classes) != len(cosines):
        raise RuntimeError("classes and cosines of apsr do not belong together")
    if not cosines.isfinite().all() or not (classes.diff() > 0).all():
        raise RuntimeError("cosines of apsr are not finite, or its classes do not ascend")
    assert isinstance(module, Relevance)
    module.classes = module.classes.new_empty(classes.shape)
    module.cosines = module.cosines.new_empty(cosines.shape)


class APSR(Head):
    """Cosine of two clips, each the sum of its parts weighted as the class has it.

    ``sharpness`` is the factor on the cosines of texts before their softmax; 0 makes all parts
    equally relevant, which is the fusion ``average`` of the encoder ``gca-lstm``.
    """

    reads = "parts"
    cosines = True
    learns = True
    knows_classes = True

    def __init__(
        self, width: int = 0, *, sharpness: Annotated[float, Limit(least=0, most=1000)] = 10.0
    ):
        super().__init__()
        self.sharpness = sharpness
        self.texts = Relevance()  # empty until a run or its file fills it

    @classmethod
    def knowledge(cls, cache: "TeacherCache | None") -> Knowledge:
        """Return the relevance of parts of the body to classes."""
        if cache is None:
            raise SkelfewError(
                "the head apsr needs class texts: give --cache, e.g. of skelfew-extract DATASET "
                "--teacher text"
            )
        return cache.relevance()

    def know(self, known: Knowledge, parts: Sequence[str]) -> None:
        """Take the relevance of each part to each class."""
        self.texts = Relevance({c: [of[part] for part in parts] for c, of in known.items()})

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return the cosines, (E, M, N); several exemplars of a class count by their mean."""
        assert classes is not None
        shares = self.texts.shares(classes, self.sharpness).to(query)  # (E, N, P)
        if shares.shape[-1] != query.shape[2]:
            raise SkelfewError(
                f"the head apsr has texts of {shares.shape[-1]} parts of the body, but the "
                f"encoder gives {query.shape[2]}; score the encoder that it was trained with"
            )
        seen = shares.unsqueeze(1) @ query  # (E, M, N, D)
        exemplars = torch.einsum("enp,enkpd->enkd", shares, support.unflatten(1, (ways, -1)))
        rows = F.normalize(exemplars, dim=-1, eps=EPS).mean(dim=2)
        rows = F.normalize(rows, dim=-1, eps=EPS).unsqueeze(1)
        return (F.normalize(seen, dim=-1, eps=EPS) * rows).sum(dim=-1)

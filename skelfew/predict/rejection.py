"""When to say "none of these": a threshold on similarity, learned from the support set alone."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from skelfew.io.files import Document
from skelfew.predict.similarity import Measure, by_cosine, left_out


@dataclass(frozen=True)
class Rejection:
    """Rejects recordings that are less similar than ``threshold`` to every action."""

    threshold: float
    rule: str  # ``leave-one-out`` or ``one-shot``, see ``learn_rejection``
    known: int  # how many support recordings were left out to see how similar a known action is
    rejected: int  # how many of these the threshold rejects
    unknown: int  # how many had their whole action left out, to see how similar an unknown one is
    accepted: int  # how many of these the threshold accepts

    def to_dict(self) -> Document:
        """Return plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rest = f"{self.accepted} of {self.unknown} of an action left out are accepted"
        if self.known:
            rest = f"{self.rejected} of {self.known} recordings left out are rejected, {rest}"
        return f"{NONE_OF_THESE} below similarity {self.threshold:.3f} ({self.rule}: {rest})"


NONE_OF_THESE = "none of these"


def learn_rejection(features: Tensor, labels: Tensor, measure: Measure = by_cosine) -> Rejection:
    """Choose the threshold from a support set of two actions or more.

    Known actions: the angle between each recording and the mean of its action's other recordings.
    Unknown ones: the angle between each recording and the nearest mean of the other actions, as if
    its own had not been taught. The threshold is as many standard deviations above the mean of
    the first as it is below the mean of the second (``leave-one-out``). With one recording of each
    action there are no known ones; then it lies half way between the mean similarity of unknown
    ones and 1 (``one-shot``).

    Args:
        features: Of the support recordings (S, D).
        labels: Their actions (S,), 0 .. N - 1, N at least 2.
    """
    near, truth = left_out(features, labels, measure)
    known = near.double()[torch.arange(len(truth)), truth] if len(truth) else near.new_zeros(0)
    others = measure(features, labels, features).double()
    others[torch.arange(len(labels)), labels] = -1
    unknown = others.amax(dim=1)
    if len(known) > 1:
        k, u = (x.clamp(-1, 1).arccos() for x in (known, unknown))
        spread_k, spread_u = (max(float(x.std(correction=0)), 1e-6) for x in (k, u))
        angle = (float(k.mean()) * spread_u + float(u.mean()) * spread_k) / (spread_k + spread_u)
        threshold, rule = float(torch.tensor(angle).cos()), "leave-one-out"
    else:
        threshold, rule = (float(unknown.mean()) + 1) / 2, "one-shot"
    return Rejection(
        threshold,
        rule,
        known=len(known),
        rejected=int((known < threshold).sum()),
        unknown=len(unknown),
        accepted=int((unknown >= threshold).sum()),
    )

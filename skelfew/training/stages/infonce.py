"""Stage ``infonce``: telling a sample's teacher feature from those of the batch, an ablation.

InfoNCE (van den Oord et al., 2018) between the two modalities with the batch as negatives, as in
CLIP (Radford et al., 2021), but with a frozen teacher on one side. The paper does not run it.

Base samples have classes, and with f_t all samples of a class have the same target: as negatives
they would ask for the impossible. ``same_class`` says what is done with them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from skelfew.config.stages import InfoNCEConfig
from skelfew.training.stages.base import Batch, Step
from skelfew.training.stages.projected import Projected


def infonce_loss(cosines: Tensor, labels: Tensor, temperature: float, same_class: str) -> Tensor:
    """Return the loss of every row (N,) of cosines (N, N); column i is the own candidate of row i.

    ``same_class``: ``negative``: -log of the softmax at the own candidate; ``mask``: the same, but
    the other samples of the class are no candidates; ``positive``: mean of -log of the softmax over
    all candidates of the class (SupCon's L_out, Khosla et al., 2020, with the own one among them).
    """
    alike = labels[:, None] == labels
    own = torch.eye(len(labels), dtype=torch.bool, device=cosines.device)
    logits = cosines / temperature
    if same_class == "mask":
        logits = logits.masked_fill(alike & ~own, -torch.inf)
    chances = F.log_softmax(logits, dim=-1)
    right = alike if same_class == "positive" else own
    return -chances.masked_fill(~right, 0).sum(dim=-1) / right.sum(dim=-1)


class InfoNCE(Projected):
    """Trains an encoder to find its own teacher feature among those of the batch."""

    name = "infonce"
    Config = InfoNCEConfig
    config: InfoNCEConfig

    def loss(self, prediction: Tensor, batch: Batch) -> Step:
        """Return the mean loss and how often the nearest target is of the right class."""
        assert batch.targets is not None
        c = self.config
        targets = F.normalize(batch.targets, dim=-1)
        cosines = F.normalize(prediction, dim=-1) @ targets.T
        labels = self.data.labels[batch.rows].to(cosines.device)
        loss = infonce_loss(cosines, labels, c.temperature, c.same_class).mean()
        if c.symmetric:
            back = infonce_loss(cosines.T, labels, c.temperature, c.same_class).mean()
            loss = (loss + back) / 2
        right = labels[cosines.argmax(dim=-1)] == labels
        return Step(loss, {"accuracy": right.float().mean()})

"""FEAT (Ye et al., 2020): prototypes that see each other before they are compared."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.episodes import episode_labels
from skelfew.fewshot.head import Head
from skelfew.fewshot.nearest import squared_distances
from skelfew.fewshot.tuning import class_means
from skelfew.fields import Dropout, NotNegative, Positive

_WIDTH_PER_TEMPERATURE = 10  # of the source: D = 640 and a temperature of 64


class SetAttention(nn.Module):
    """One head of self-attention over a set: LN(dropout(FC(A x W_v)) + x).

    A is the softmax of x W_q (x W_k)^T / sqrt(D), also with dropout. Names and initial values are
    those of the reference.
    """

    def __init__(self, width: int, attention_dropout: float = 0.1, dropout: float = 0.5):
        super().__init__()
        self.w_qs = nn.Linear(width, width, bias=False)
        self.w_ks = nn.Linear(width, width, bias=False)
        self.w_vs = nn.Linear(width, width, bias=False)
        self.fc = nn.Linear(width, width)
        self.layer_norm = nn.LayerNorm(width)
        for layer in (self.w_qs, self.w_ks, self.w_vs):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (2 * width)))
        nn.init.xavier_normal_(self.fc.weight)
        self.attention_dropout, self.dropout = attention_dropout, dropout

    def forward(self, x: Tensor) -> Tensor:
        """Return the adapted elements of sets (..., N, D)."""
        scores = self.w_qs(x) @ self.w_ks(x).transpose(-1, -2) / math.sqrt(x.shape[-1])
        weights = F.dropout(scores.softmax(dim=-1), self.attention_dropout, self.training)
        mixed: Tensor = self.fc(weights @ self.w_vs(x))
        return self.layer_norm(F.dropout(mixed, self.dropout, self.training) + x)


class FEAT(Head):
    """Minus the squared distance to prototypes adapted by self-attention, over a temperature.

    Args:
        width: D; any.
        temperature: Divides the squared distances; 0 for D / 10, the source's 64 at its D of 640.
            Adapted prototypes are as long as sqrt(D), so a narrow encoder hardly learns at 64.
        balance: Weight of the auxiliary loss in training; the source has 0.01 for one exemplar and
            0.1 for five.
        auxiliary_temperature: Divides its squared distances; the source has 64 for one exemplar, 32
            for five; 0 as above.
        attention_dropout: Dropout of the attention.
        rate: Factor on the learning rate of the attention. The source has 10, on a trained encoder
            that goes on at 0.0002; at the rates of an encoder that starts from nothing it fails.
    """

    learns = True

    def __init__(
        self,
        width: int,
        *,
        temperature: NotNegative = 0.0,
        balance: NotNegative = 0.01,
        auxiliary_temperature: NotNegative = 0.0,
        attention_dropout: Dropout = 0.1,
        dropout: Dropout = 0.5,
        rate: Positive = 1.0,
    ):
        super().__init__()
        self.temperature, self.balance, self.rate = temperature, balance, rate
        self.auxiliary_temperature = auxiliary_temperature
        self.attention = SetAttention(width, attention_dropout, dropout)

    def forward(
        self, support: Tensor, query: Tensor, ways: int, classes: Tensor | None = None
    ) -> Tensor:
        """Return minus the squared distances to the adapted prototypes, (E, M, N)."""
        temperature = self.temperature or support.shape[-1] / _WIDTH_PER_TEMPERATURE
        return -squared_distances(query, self.attention(class_means(support, ways))) / temperature

    def penalty(self, support: Tensor, query: Tensor, ways: int) -> Tensor | None:
        """Return the weighted auxiliary loss: every sample against the centres of the classes.

        A centre is the mean of all samples of its class, supports and queries, adapted together.
        """
        if not self.balance:
            return None
        sides = [x.unflatten(1, (ways, -1)) for x in (support, query)]
        samples = torch.cat(sides, dim=2)  # (E, N, K + Q, D)
        centres = self.attention(samples).mean(dim=2)
        temperature = self.auxiliary_temperature or support.shape[-1] / _WIDTH_PER_TEMPERATURE
        logits = -squared_distances(samples.flatten(1, 2), centres) / temperature
        labels = episode_labels(ways, samples.shape[2]).to(logits.device).repeat(len(logits))
        return self.balance * F.cross_entropy(logits.flatten(0, 1), labels)

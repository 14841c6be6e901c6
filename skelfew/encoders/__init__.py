"""Skeleton encoders: one module each. To add one, write its module and add a line to ENCODERS."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from skelfew.data.joints.layouts import Layout, load_layout
from skelfew.fields import filled
from skelfew.registry import Registry

if TYPE_CHECKING:
    from skelfew.encoders.encoder import SkeletonEncoder

BodyPool = Literal["mean", "masked_mean"]
ENCODERS = Registry(
    "encoder",
    "skelfew.encoders",
    {
        "agcn": "skelfew.encoders.agcn:agcn",
        "ctrgcn": "skelfew.encoders.ctrgcn:ctrgcn",
        "ctrgcn-pyskl": "skelfew.encoders.ctrgcn:ctrgcn_pyskl",
        "stgcn": "skelfew.encoders.stgcn:stgcn",
        "stgcn-dastm": "skelfew.encoders.stgcn:stgcn_dastm",
        "resnet18": "skelfew.encoders.resnet18:SkeletonResNet",
        "temporal": "skelfew.encoders.temporal:SkeletonTemporal",
        "tcn": "skelfew.encoders.tcn:SkeletonTCN",
        "gca-lstm": "skelfew.encoders.gca_lstm:SkeletonGCALSTM",
    },
)
# Settings that came later, and what they are in files of earlier versions, which lack them.
EARLIER: dict[str, dict[str, Any]] = {"tcn": {"axes": "unit"}, "gca-lstm": {"form": "description"}}


def completed(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an encoder, with its name, that a file of any version holds."""
    return {**EARLIER.get(str(encoder.get("name")), {}), **encoder}


def build_encoder(
    name: str,
    layout: Layout | str,
    *,
    channels: int = 3,
    bodies: int = 2,
    width: float = 1.0,
    body_pool: str = "mean",
    feature_dim: int | None = None,
    **own: object,
) -> "SkeletonEncoder":
    """Return a freshly initialised encoder of skeletons (N, C, T, V, M) to features (N, D).

    It has ``feature_dim`` (D), ``forward_features`` (before pooling) and ``config``, a dict of
    plain values: ``build_encoder(**encoder.config)`` builds the same architecture again, after
    ``layout_from_dict`` if the layout is a dict there.

    Args:
        layout: Joint layout, or the name of one.
        channels: C: 3 for metres, 2 for pixels, 3 for pixels with confidence.
        width: Factor on the number of channels; 1 is the published size, D = 256.
        body_pool: ``mean`` or ``masked_mean``, see the encoder.
        feature_dim: D, if the last block is to be of another width than the others make it.
        own: Settings of this encoder alone: the keyword-only parameters of what builds it.

    Raises:
        SkelfewError: No such encoder or layout, or an impossible size.
    """
    build = ENCODERS.load(name)
    layout = load_layout(layout) if isinstance(layout, str) else layout
    own = filled(build, own, f"encoder {name!r}")
    encoder: SkeletonEncoder = build(layout, channels, bodies, width, body_pool, feature_dim, **own)
    encoder.config |= {key: value for key, value in own.items() if value is not None}
    return encoder

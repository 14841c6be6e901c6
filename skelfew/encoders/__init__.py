"""Skeleton encoders: one module each. To add one, write its module and add a line to ENCODERS."""

import importlib
from typing import TYPE_CHECKING, Any

from skelfew.data.joints.layouts import Layout, load_layout
from skelfew.errors import SkelfewError

if TYPE_CHECKING:
    from skelfew.encoders.encoder import SkeletonEncoder

# Import strings, so that listing the encoders does not load torch.
ENCODERS: dict[str, str] = {
    "agcn": "skelfew.encoders.agcn:agcn",
    "ctrgcn": "skelfew.encoders.ctrgcn:ctrgcn",
    "ctrgcn-pyskl": "skelfew.encoders.ctrgcn:ctrgcn_pyskl",
    "stgcn": "skelfew.encoders.stgcn:stgcn",
    "stgcn-dastm": "skelfew.encoders.stgcn:stgcn_dastm",
    "resnet18": "skelfew.encoders.resnet18:SkeletonResNet",
    "tcn": "skelfew.encoders.tcn:SkeletonTCN",
    "gca-lstm": "skelfew.encoders.gca_lstm:SkeletonGCALSTM",
}
# Settings that one encoder has and the others do not.
OWN_SETTINGS: dict[str, tuple[str, ...]] = {
    "resnet18": ("image", "image_size", "embedding"),
    "gca-lstm": ("fusion",),
}


def build_encoder(
    name: str,
    layout: Layout | str,
    *,
    channels: int = 3,
    bodies: int = 2,
    width: float = 1.0,
    body_pool: str = "mean",
    feature_dim: int | None = None,
    **own: Any,
) -> "SkeletonEncoder":
    """Return a freshly initialised encoder of skeletons (N, C, T, V, M) to features (N, D).

    It has ``feature_dim`` (D), ``forward_features`` (before pooling) and ``config``, a dict of
    plain values: ``build_encoder(**encoder.config)`` builds the same architecture again, after
    ``layout_from_dict`` if the layout is a dict there.

    Args:
        name: Key of ``ENCODERS``.
        layout: Joint layout, or the name of one.
        channels: C: 3 for metres, 2 for pixels, 3 for pixels with confidence.
        bodies: M, skeletons per clip.
        width: Factor on the number of channels; 1 is the published size, D = 256.
        body_pool: ``mean`` or ``masked_mean``, see the encoder.
        feature_dim: D, if the last block is to be of another width than the others make it.
        own: Settings of this encoder alone, see ``OWN_SETTINGS`` and the encoder.

    Raises:
        SkelfewError: No such encoder or layout, or an impossible size.
    """
    if name not in ENCODERS:
        raise SkelfewError(f"no encoder {name!r}; there are {', '.join(ENCODERS)}")
    module, function = ENCODERS[name].split(":")
    layout = load_layout(layout) if isinstance(layout, str) else layout
    if foreign := sorted(set(own) - set(OWN_SETTINGS.get(name, ()))):
        raise SkelfewError(f"the encoder {name} has no setting {', '.join(foreign)}")
    encoder: SkeletonEncoder = getattr(importlib.import_module(module), function)(
        layout, channels, bodies, width, body_pool, feature_dim, **own
    )
    return encoder

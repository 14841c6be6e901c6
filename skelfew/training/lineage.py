"""Training data of an encoder, as written into its file."""

from collections.abc import Sequence

from skelfew.cache.format.history import identity
from skelfew.data.protocols.files import list_protocols
from skelfew.data.protocols.protocol import Protocol
from skelfew.io.files import Document
from skelfew.training.resolve import ResolvedRun
from skelfew.training.stages import STAGES


def describe(resolved: ResolvedRun, run: str, stages: Sequence[str], fusion: float) -> Document:
    """Return what encoder.safetensors says about itself; ``fusion`` is its share of clips."""
    inputs, config = resolved.inputs, resolved.config
    protocol, cache = inputs.protocol, inputs.cache
    own = {inputs.manifest[i].class_id for i in resolved.samples}
    unverified = [stage for stage in stages if STAGES.load(stage).unverified]
    document: Document = {
        "run": run,
        "dataset": inputs.dataset,
        "manifest_sha256": inputs.manifest.sha256,
        "protocol": _protocol_name(protocol),
        "split": protocol.split,
        "protocol_sha256": protocol.sha256,
        "base": sorted({*own, *resolved.earlier}),
        "novel": list(protocol.novel),
        "preset": config.preset,
        "stages": list(stages),
        **({"unverified": unverified} if unverified else {}),
        "seed": config.seed,
        "init": config.inputs.init,
        "pipeline": resolved.pipeline.to_dict(),
        "teacher": None,
        **({"fusion": fusion} if fusion else {}),
    }
    from_teacher = [s for s in stages if s in config.teacher_stages]
    if cache is not None and from_teacher:
        settings = getattr(config, from_teacher[-1])
        teacher = dict(cache.attrs["teacher"])
        document["teacher"] = {
            "name": teacher.get("name"),
            "trained": teacher.get("trained"),
            "weights_sha256": teacher.get("weights_sha256"),
            "width": cache.dim,
            "preprocessing": cache.attrs.get("preprocessing"),
            "cache_digest": cache.attrs.get("digest"),
            "cache_identity": identity(cache.attrs),
            "representation": settings.representation,
            "target_form": settings.target_form,
        }
    return document


def _protocol_name(protocol: Protocol) -> str:
    """Return the name by which the protocol is found, or its path if it is not listed."""
    listed = list_protocols().get(protocol.path.stem)
    if listed is not None and listed.resolve() == protocol.path.resolve():
        return protocol.path.stem
    return str(protocol.path.resolve())

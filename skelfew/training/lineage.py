"""What an encoder was trained on: written into its file, asked of the one a run starts from."""

from collections.abc import Sequence
from typing import Any

from skelfew.cache import TeacherCache
from skelfew.cache.format.history import identity
from skelfew.cache.tools.compare import differences
from skelfew.config import TrainConfig
from skelfew.data.protocols.files import list_protocols
from skelfew.data.protocols.protocol import Protocol
from skelfew.encoders.checkpoints import is_own, read_metadata
from skelfew.runs.folder import Run
from skelfew.runs.inputs import Inputs
from skelfew.training.base_samples import base_samples
from skelfew.training.data import NovelClassError
from skelfew.training.resolve import pipeline_of
from skelfew.training.stages import STAGES


def describe(
    config: TrainConfig, inputs: Inputs, run: Run, stages: Sequence[str], fusion: float
) -> dict[str, Any]:
    """Return what encoder.safetensors says about itself; ``fusion`` as in ``TrainConfig``."""
    init, protocol = config.inputs.init, inputs.protocol
    earlier = [] if init is None else classes_seen_by(init, inputs)
    own = {inputs.manifest[i].class_id for i in base_samples(config, inputs)}
    document: dict[str, Any] = {
        "run": run.name,
        "dataset": inputs.dataset,
        "manifest_sha256": inputs.manifest.sha256,
        "protocol": _protocol_name(protocol),
        "split": protocol.split,
        "protocol_sha256": protocol.sha256,
        "base": sorted({*own, *earlier}),
        "novel": list(protocol.novel),
        "preset": config.preset,
        "stages": list(stages),
        **(
            {"unverified": found}
            if (found := [s for s in stages if STAGES.load(s).unverified])
            else {}
        ),
        "seed": config.seed,
        "init": init,
        "pipeline": pipeline_of(config, inputs).to_dict(),
        "teacher": None,
        **({"fusion": fusion} if fusion else {}),
    }
    from_teacher = [s for s in stages if s in config.teacher_stages]
    if inputs.cache is not None and from_teacher:
        settings = getattr(config, from_teacher[-1])
        teacher = dict(inputs.cache.attrs["teacher"])
        document["teacher"] = {
            "name": teacher.get("name"),
            "trained": teacher.get("trained"),
            "weights_sha256": teacher.get("weights_sha256"),
            "width": inputs.cache.dim,
            "preprocessing": inputs.cache.attrs.get("preprocessing"),
            "cache_digest": inputs.cache.attrs.get("digest"),
            "cache_identity": identity(inputs.cache.attrs),
            "representation": settings.representation,
            "target_form": settings.target_form,
        }
    return document


def classes_seen_by(init: str, inputs: Inputs) -> list[int]:
    """Return the classes of this dataset that an initial encoder was trained on, as far as known.

    Raises:
        NovelClassError: If one of them is novel here.
    """
    if not is_own(init):
        return []
    about = read_metadata(init)
    seen = list(about.get("base", [])) if about.get("dataset") == inputs.dataset else []
    if leaked := sorted(set(seen) & set(inputs.protocol.novel)):
        raise NovelClassError(
            f"{init}: was trained on classes that are novel here, first {leaked[0]} "
            f"({inputs.manifest.classes.get(leaked[0], '')}); start from an encoder of split "
            f"{inputs.protocol.split or inputs.protocol.name}"
        )
    return seen


def other_teacher(init: str, cache: TeacherCache) -> str | None:
    """Return how the teacher of an initial encoder differs from that of a cache, None if not."""
    if not is_own(init):
        return None
    before = read_metadata(init).get("teacher")
    if not isinstance(before, dict):
        return None
    teacher = cache.attrs["teacher"]
    now = {
        "name": teacher.get("name"),
        "weights_sha256": teacher.get("weights_sha256"),
        "width": cache.dim,
        "preprocessing": cache.attrs.get("preprocessing"),
    }
    found = differences({key: before[key] for key in now if key in before}, now)
    found = [d for d in found if d["key"].split(".")[0] in before]
    return "; ".join(f"{d['key']} was {d['a']}, is {d['b']}" for d in found) or None


def _protocol_name(protocol: Protocol) -> str:
    """Return the name by which the protocol is found, or its path if it is not listed."""
    listed = list_protocols().get(protocol.path.stem)
    if listed is not None and listed.resolve() == protocol.path.resolve():
        return protocol.path.stem
    return str(protocol.path.resolve())

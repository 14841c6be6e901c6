"""Sources of features to evaluate: the encoder of a run, an encoder file, or raw skeletons."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from skelfew.config import InputConfig
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline, undeclared
from skelfew.data.input.preprocess import BRIDGED
from skelfew.data.manifest import Manifest
from skelfew.data.store import SkeletonStore
from skelfew.encoders.checkpoints import open_encoder, read_metadata
from skelfew.encoders.encoder import SkeletonEncoder
from skelfew.encoders.features import (
    ALIGNED_FRAMES,
    RAW_FRAMES,
    encode,
    fused_clips,
    kept,
    raw_features,
)
from skelfew.encoders.outputs import check_output
from skelfew.errors import SkelfewError
from skelfew.evaluation.answers import ALIGNED, RAW
from skelfew.fewshot import Classifier, build_classifier
from skelfew.fewshot.ensemble import Ensemble, Joined
from skelfew.fewshot.trained import FILE as HEAD_FILE
from skelfew.fewshot.trained import bind
from skelfew.io.files import Document, file_sha256
from skelfew.runs.folder import Run, read_json
from skelfew.runs.inputs import find_inputs
from skelfew.runs.recorded import checked


@dataclass(frozen=True)
class Subject:
    """A source of features to evaluate."""

    name: str  # run, encoder file or ``raw skeletons``
    # Returns an output (n, *F) for samples; the pooled features unless another key of
    # ``skelfew.encoders.outputs.OUTPUTS`` is given
    features: Callable[..., Tensor]
    manifest: Manifest  # the data set it is evaluated on
    store: SkeletonStore
    # Classes of this data set that it was trained on; empty if it never saw any, None if that is
    # not known
    trained_on: tuple[int, ...] | None = ()
    protocol: str | None = None  # name or file of the protocol it was trained with, if any
    split: str | None = None
    about: Document = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what a reader of the score has to know, in words
    head: Path | None = None  # head that it was trained with, if there is such a file
    # Returns the text vectors (C, D) of classes; None where there are none
    texts: Callable[[Sequence[int]], Tensor] | None = None
    encoder: SkeletonEncoder | None = None
    pipeline: Pipeline | None = None
    classifier: str = "cosine"  # by which it is scored where none is named
    # What alone can compare its features, by the name ``classifier``; None for any
    rule: Classifier | None = None

    @property
    def own_protocol(self) -> str | None:
        """The protocol it was trained with; RunError if it is a file that may not be opened."""
        where = Path(self.about.get("run") or self.name)
        return checked(self.protocol, where, "the protocol", "name it with --protocol")


def raw_subject(manifest: Manifest, store: SkeletonStore, form: str = "joints") -> Subject:
    """Skeletons as features: ``aligned`` bodies, compared by ``dtw``, or centred ``joints``."""
    aligned = form == "aligned"
    how = "aligned, pose and motion" if aligned else "centred"
    frames = ALIGNED_FRAMES if aligned else RAW_FRAMES
    return Subject(
        ALIGNED if aligned else RAW,
        lambda ids, output="pooled": raw_features(store, ids, output, aligned),
        manifest,
        store,
        about={"features": f"joint positions, {how}, {frames} frames"},
        classifier="dtw" if aligned else "cosine",
    )


def find_data(
    given: InputConfig, recorded: InputConfig | None = None, protocol: str | None = None
) -> tuple[Manifest, SkeletonStore]:
    """Open manifest and skeletons, as given, else as recorded in training; check that they fit."""
    inputs = given
    if recorded is not None and not (given.dataset or given.manifest or given.store):
        places = (recorded.manifest, recorded.store)
        manifest, store = (p if p and Path(p).is_file() else None for p in places)
        inputs = InputConfig(dataset=recorded.dataset, manifest=manifest, store=store)
    found = find_inputs(inputs, protocol)
    return found.manifest, found.store


def run_subject(
    run: Run, given: InputConfig, device: str = "cpu", protocol: str | None = None
) -> Subject:
    """The encoder of a finished run, on the data set of the run unless another is given."""
    run.check_finished()
    manifest, store = find_data(given, run.config().inputs, protocol or own_protocol(run, given))
    cache = read_json(run.path / "inputs.json").get("cache")
    subject = encoder_subject(run.encoder, manifest, store, device, run.path / "features")
    about = {**subject.about, "run": str(run.path), "cache": cache}
    notes = (*subject.notes, *unopened(run, given))
    return replace(subject, name=run.name, about=about, notes=notes)


def unopened(run: Run, given: InputConfig) -> list[str]:
    """Return a note for each data file that a run names and that was looked for elsewhere."""
    if given.dataset or given.manifest or given.store:
        return []
    named, used = run.recorded().inputs, run.config().inputs
    return [
        f"{run.path} names {getattr(named, key)}, which is not opened unasked (--{key}, or "
        f"--trust-run): the {key} was looked for by the name of the data set"
        for key in ("manifest", "store")
        if getattr(named, key) != getattr(used, key)
    ]


def ensemble_subject(
    members: Sequence[Subject], classifiers: Mapping[str, Classifier] | None = None
) -> Subject:
    """Several runs as one: their similarities are summed, see ``skelfew.fewshot.ensemble``.

    All are scored by one classifier, or each by its own. Raises SkelfewError: one member only, runs
    of different data or splits, or two classifiers.
    """
    first = members[0]
    names = tuple(member.name for member in members)
    if len(members) < 2 or len(set(names)) < len(members):
        raise SkelfewError("an ensemble is of two runs or more, each named once")
    for member in members:
        if member.manifest.sha256 != first.manifest.sha256 or member.split != first.split:
            raise SkelfewError(
                f"{member.name} is of {member.manifest.name} {member.split or ''}, {first.name} of "
                f"{first.manifest.name} {first.split or ''}: an ensemble is of runs of one split"
            )
    if classifiers and len(classifiers) > 1:
        raise SkelfewError("an ensemble is scored by one --classifier, or by each run's own")
    given = next(iter(classifiers.values()), None) if classifiers else None
    rules = tuple(
        bind(given or build_classifier(m.classifier), m.head, m.manifest.name) for m in members
    )
    joined = Joined()

    def features(ids: Sequence[str], output: str = "joined") -> Tensor:
        outputs = [getattr(rule, "reads", "pooled") for rule in rules]
        return joined.join([m.features(ids, o) for m, o in zip(members, outputs, strict=True)])

    seen = [member.trained_on for member in members]
    known = [classes for classes in seen if classes is not None]
    return Subject(
        name="ensemble of " + ", ".join(names),
        features=features,
        manifest=first.manifest,
        store=first.store,
        trained_on=tuple(sorted(set().union(*known))) if len(known) == len(seen) else None,
        protocol=first.protocol,
        split=first.split,
        about={"members": [{"name": m.name, **m.about} for m in members]},
        notes=tuple(dict.fromkeys(note for m in members for note in m.notes)),
        classifier="ensemble",
        rule=Ensemble(names, rules, joined),
    )


def own_protocol(run: Run, given: InputConfig) -> str | None:
    """The protocol of the run, unless it is evaluated on other data."""
    if given.dataset or given.manifest or given.store:
        return None
    recorded = read_metadata(run.encoder).get("protocol")
    return checked(recorded, run.path, "the protocol", "name it with --protocol")


def encoder_subject(
    path: Path,
    manifest: Manifest,
    store: SkeletonStore,
    device: str = "cpu",
    keep: Path | None = None,
) -> Subject:
    """An encoder.safetensors; its features are kept in the folder ``keep``, if given."""
    encoder, metadata, pipeline, share = open_encoder(path)
    odd: str | None = None
    _check_fit(path, encoder, store)
    if pipeline is not None:
        if pipeline.coordinates != store.coordinates:
            raise SkelfewError(
                f"{path}: an encoder of {pipeline.coordinates}D joints, but {store.path} holds "
                f"{store.coordinates}D ones; train on them, or evaluate on others"
            )
    else:
        declared = store.preprocessing
        pipeline = Pipeline.for_data(declared, manifest.name, coordinates=store.coordinates)
        odd = undeclared(declared, manifest.name)
    digest, prepared = file_sha256(path), pipeline
    basis = {
        "encoder_sha256": digest,
        "skeletons_digest": store.attrs.get("digest"),
        "pipeline": pipeline.to_dict(),
        "empty_frames": f"ends and gaps of more than {BRIDGED} cut",
    }

    def features(ids: Sequence[str], output: str = "pooled") -> Tensor:
        check_output(output, prepared.coordinates)
        if output == "clips" and share:
            parts = raw_features(store, ids, "clips", aligned=True)
            return fused_clips(features(ids), parts, share)

        def make() -> Tensor:
            bank = SkeletonBank.from_store(store, ids, prepared, encoder.bodies)
            return encode(encoder.to(device), bank, output)

        return kept(keep, basis if output == "pooled" else {**basis, "output": output}, ids, make)

    own = metadata.get("dataset") == manifest.name
    trained_on: tuple[int, ...] | None = () if "dataset" in metadata else None
    if own:
        trained_on = tuple(metadata["base"]) if metadata.get("base") is not None else None
    return Subject(
        name=str(path),
        features=features,
        manifest=manifest,
        store=store,
        trained_on=trained_on,
        protocol=metadata.get("protocol") if own else None,
        split=(metadata.get("split") or None) if own else None,
        about={"encoder": str(path), "encoder_sha256": digest, "metadata": metadata},
        notes=tuple(_notes(path, metadata, manifest, trained_on)) + ((odd,) if odd else ()),
        head=path.with_name(HEAD_FILE),
        encoder=encoder,
        pipeline=pipeline,
        classifier="dtw" if share else "cosine",
    )


def _check_fit(path: Path, encoder: SkeletonEncoder, store: SkeletonStore) -> None:
    """Raise SkelfewError if an encoder was built for other skeletons than those of the store."""
    layout = encoder.layout
    if not layout.same_graph(store.joint_layout):
        same = layout.name == store.layout
        raise SkelfewError(
            f"{path}: an encoder of {layout.name} skeletons, but {store.path} holds "
            f"{store.layout} ones" + ("; the two layouts of that name differ" if same else "")
        )
    if encoder.channels != store.channels:
        raise SkelfewError(
            f"{path}: an encoder of joints with {encoder.channels} values, but {store.path} has "
            f"{store.channels} a joint"
        )


def _notes(
    path: Path, metadata: Document, manifest: Manifest, trained_on: tuple[int, ...] | None
) -> list[str]:
    notes = []
    teacher = metadata.get("teacher")
    if teacher and teacher.get("trained") is False:
        notes.append(
            f"the teacher ({teacher.get('name')}) was UNTRAINED: its features are random, so "
            "this score shows that the path works and nothing about the method"
        )
    if trained_on is None:
        notes.append(f"{path} does not say what it was trained on; novel classes may be among it")
    if metadata.get("init"):
        notes.append(
            f"training began from {metadata['init']}; what that one was trained on is not checked"
        )
    if metadata.get("dataset") not in (None, manifest.name):
        notes.append(f"trained on {metadata['dataset']}, evaluated on {manifest.name}")
    elif metadata.get("manifest_sha256", manifest.sha256) != manifest.sha256:
        notes.append(f"the manifest of {manifest.name} has changed since the encoder was trained")
    return notes

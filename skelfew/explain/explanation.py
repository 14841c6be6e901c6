"""From a run and samples to explanations: what skelfew-explain does before it draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from skelfew.data.find import find_sample
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.joints.layouts import Layout
from skelfew.data.manifest import Sample
from skelfew.data.protocols.protocol import Protocol
from skelfew.errors import SkelfewError
from skelfew.evaluation.document import EvaluationPlan, protocols_of
from skelfew.evaluation.subjects import Subject
from skelfew.explain.attribution import Attribution, integrate
from skelfew.explain.boundary import Boundary, NoBoundary, nearest_boundary
from skelfew.explain.decision import Decision, NetworkInput
from skelfew.fewshot import build_classifier
from skelfew.fewshot.trained import bind, head_name, settings_of
from skelfew.io.files import Document
from skelfew.io.writing import writing

FORMAT = "skelfew-explanation"


@dataclass(frozen=True)
class Search:
    """Settings of an explanation; ``limit`` is a share of the recording's size."""

    steps: int = 100
    limit: float = 0.5
    output: str = "logit"


@dataclass(frozen=True)
class Method:
    """A classifier, with any weights, on the encoder of a run, with K exemplars a class."""

    subject: Subject
    name: str
    classifier: object
    protocol: Protocol
    exemplars: dict[int, tuple[str, ...]]

    @property
    def title(self) -> str:
        """Classifier and run."""
        return f"{self.name} · {self.subject.name}"


@dataclass(frozen=True)
class Explanation:
    """Attribution of a sample's verdict."""

    sample: Sample
    method: Method
    names: dict[int, str]  # names of the classes, by number
    clip: NetworkInput
    boundary: Boundary  # the nearest point at which the verdict changes
    attribution: Attribution  # from there to the sample, (1, C, T, V, P) as ``clip.values``
    logits: np.ndarray  # of the sample (N,)
    boundary_logits: np.ndarray  # of the boundary's point (N,)
    layout: Layout
    search: Search

    @property
    def classes(self) -> tuple[int, ...]:
        """Class numbers, in the order of the logits."""
        return self.method.protocol.novel

    @property
    def predicted(self) -> int:
        """The class that it was taken for, which is what is explained."""
        return self.classes[self.boundary.label]

    @property
    def other(self) -> int:
        """The class beyond the boundary."""
        return self.classes[self.boundary.other]

    @property
    def right(self) -> bool:
        """Whether that is its class."""
        return self.predicted == self.sample.class_id

    def heat(self, signed: bool = False) -> np.ndarray:
        """Return the attribution by frame, joint and body (T, V, P), coordinates summed.

        Absolute values, or ``signed`` ones: positive for what spoke for the verdict, negative
        against.
        """
        values = self.attribution.values[0]
        return (values if signed else values.abs()).sum(dim=0).cpu().numpy()

    def notes(self) -> list[str]:
        """Return what has to be read together with the picture."""
        notes, name = [], self.sample.sample_id
        if not self.right:
            notes.append(
                f"{name} is {self._named(self.sample.class_id)}, but is taken for "
                f"{self._named(self.predicted)}; that is what is explained"
            )
        if not self.attribution.complete:
            notes.append(
                f"{name}: the attributions miss their sum by {self.attribution.error:.1%} with "
                f"{self.attribution.points} points of the path; read them with care"
            )
        return notes

    def _named(self, class_id: int) -> str:
        return f"{class_id} ({self.names.get(class_id, '')})"

    def to_dict(self) -> Document:
        """Return plain values for JSON."""
        heat = self.heat().sum(axis=2)
        joints = heat.sum(axis=0) / heat.sum()
        order = np.argsort(-joints)[:5]
        frame, joint = np.unravel_index(int(heat.argmax()), heat.shape)
        return {
            "sample_id": self.sample.sample_id,
            "run": self.method.subject.about.get("run", self.method.subject.name),
            "classifier": self.method.name,
            "settings": settings_of(self.method.classifier),
            "protocol": self.method.protocol.name,
            "split": self.method.protocol.split,
            "exemplars": {str(c): list(ids) for c, ids in self.method.exemplars.items()},
            "class_id": self.sample.class_id,
            "label": self.sample.label,
            "predicted": self.predicted,
            "predicted_label": self.names.get(self.predicted, ""),
            "correct": self.right,
            "other": self.other,
            "other_label": self.names.get(self.other, ""),
            "margin": self.boundary.margin,
            "margin_at_boundary": self.boundary.beyond,
            "distance": self.boundary.distance,
            "distance_share": self.boundary.share,
            "steps": self.boundary.steps,
            "output": self.search.output,
            "rise": self.attribution.rise,
            "completeness_error": self.attribution.error,
            "points": self.attribution.points,
            "peak": {"joint": self.layout.joints[joint], "frame": float(self.clip.frames[frame])},
            "joints": {self.layout.joints[j]: float(joints[j]) for j in order},
            "notes": self.notes(),
        }

    def save(self, path: Path) -> None:
        """Write all numbers as an npz without pickles; docs/explain.md lists them."""
        with writing(path) as file:
            np.savez_compressed(
                file,
                format=np.array(FORMAT),
                attribution=self.attribution.values[0].cpu().numpy().astype(np.float32),
                heat=self.heat().sum(axis=2).astype(np.float32),
                sample=self.clip.values[0].numpy().astype(np.float32),
                boundary=self.boundary.point[0].cpu().numpy().astype(np.float32),
                frames=self.clip.frames.numpy(),
                bodies=np.array(self.clip.bodies),
                joints=np.array(self.layout.joints),
                classes=np.array(self.classes),
                logits=self.logits,
                boundary_logits=self.boundary_logits,
                predicted=np.array(self.predicted),
                other=np.array(self.other),
            )


def find_method(
    subject: Subject,
    name: str | None,
    settings: Document,
    shots: int,
    sample_ids: Sequence[str],
    protocol: str | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Method:
    """Return a classifier (None: the head that the run trained with), and exemplars to fit it to.

    Exemplars are the protocol's, or random ones where it lists none. Raises SkelfewError: a sample
    that is not in the data set, not of a novel class or an exemplar; a classifier without weights
    here.
    """
    name = name or head_name(subject.head) or "cosine"
    classifier = bind(build_classifier(name, settings), subject.head, subject.manifest.name)
    found = protocols_of(subject, EvaluationPlan({name: classifier}, shots, protocol, split))
    if len(found) > 1:
        splits = ", ".join(p.split for p in found)
        raise SkelfewError(f"{found[0].path} has splits {splits}; choose one with --split")
    chosen = found[0]
    assert subject.manifest.path is not None
    for sample_id in sample_ids:
        _, sample = find_sample(sample_id, manifest=subject.manifest.path)
        if sample.class_id not in chosen.novel:
            novel = ", ".join(map(str, chosen.novel))
            raise SkelfewError(
                f"{sample_id!r} shows class {sample.class_id} ({sample.label}), but "
                f"{chosen.name} distinguishes the novel classes {novel}; "
                "choose a sample of one of them, or another --protocol or --split"
            )
    exemplars = (
        chosen.exemplars(shots)
        if chosen.has_exemplars
        else _drawn(subject, chosen, shots, sample_ids, seed)
    )
    for class_id, ids in exemplars.items():
        if clash := sorted(set(ids) & set(sample_ids)):
            raise SkelfewError(
                f"{clash[0]!r} is an exemplar of class {class_id} with {shots} shots, so it is "
                "compared with itself; choose another sample or other --shots"
            )
    return Method(subject, name, classifier, chosen, exemplars)


def _drawn(
    subject: Subject, protocol: Protocol, shots: int, sample_ids: Sequence[str], seed: int
) -> dict[int, tuple[str, ...]]:
    draw = np.random.default_rng(seed)
    exemplars = {}
    for class_id in protocol.novel:
        ids = [i for i in subject.manifest.subset([class_id]).ids if i not in sample_ids]
        if len(ids) < shots:
            raise SkelfewError(f"class {class_id} has {len(ids)} samples for {shots} exemplars")
        exemplars[class_id] = tuple(draw.permutation(ids)[:shots].tolist())
    return exemplars


def explain(
    method: Method, sample_ids: Sequence[str], search: Search, device: str = "cpu"
) -> Iterator["Explanation | NoBoundary"]:
    """Explain samples one after the other; a sample without a boundary gives the error instead."""
    subject = method.subject
    assert subject.encoder is not None and subject.pipeline is not None
    support = [i for c in method.protocol.novel for i in method.exemplars[c]]
    ids = [*support, *sample_ids]
    bank = SkeletonBank.from_store(subject.store, ids, subject.pipeline, subject.encoder.bodies)
    exemplars = bank.batch(torch.arange(len(support)), train=False)
    novel = method.protocol.novel
    decision = Decision(subject.encoder, method.classifier, exemplars, len(novel), device, novel)
    for i, sample_id in enumerate(sample_ids):
        clip = NetworkInput.of(bank, len(support) + i)
        x, movable = clip.values.to(device), clip.movable.to(device)

        def decide(values: torch.Tensor, clip: NetworkInput = clip) -> torch.Tensor:
            return decision(clip.filled(values))

        try:
            boundary = nearest_boundary(decide, x, movable, search.steps, search.limit)
        except NoBoundary as error:
            yield NoBoundary(f"{sample_id}, {method.title}: {error}")
            continue
        with torch.no_grad():
            logits = decide(torch.cat([x, boundary.point])).cpu().numpy()
        yield Explanation(
            subject.manifest[sample_id],
            method,
            dict(subject.manifest.classes),
            clip,
            boundary,
            integrate(decide, x, boundary, search.output),
            logits[0],
            logits[1],
            subject.store.joint_layout,
            search,
        )

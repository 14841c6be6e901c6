"""A recogniser as one graph of PyTorch or ONNX, preparation included, for use without skelfew.

``skelfew.data.input.bank`` prepares many recordings at once and branches on what it finds; here
are the same steps for one recording without a branch, so that ``torch.export`` can write them down.
"""

import copy
import json
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.input import preprocess
from skelfew.data.input.alignment import alignment
from skelfew.data.input.pipeline import Pipeline
from skelfew.encoders.backbone import SkeletonGCN
from skelfew.encoders.features import fused_clips, parts_of, raw_pipeline
from skelfew.errors import SkelfewError
from skelfew.fewshot.dtw import DTW
from skelfew.io.writing import writing
from skelfew.predict.model import EnsembleModel
from skelfew.predict.recogniser import Recogniser
from skelfew.predict.similarity import members, per_class

DESCRIPTION = "skelfew.json"  # beside the graph in the file
_OUTPUTS = ("probabilities", "cosines")
_SHORTEST, _LONGEST = 2, 100_000  # frames of a recording


class Portable(nn.Module):
    """From the joints of one recording to its similarity to each action, and probabilities."""

    prototypes: Tensor

    def __init__(self, recogniser: Recogniser):
        super().__init__()
        model = recogniser.model
        self.pipeline, self.bodies, self.root = model.pipeline, model.bodies, model.layout.root
        self.parents, self.layout = model.layout.parents, model.layout
        self.encoder = copy.deepcopy(model.encoder)
        self.warped, self.share = model.compared_by == "dtw", model.share
        self.masked = isinstance(self.encoder, SkeletonGCN) and (
            self.encoder.body_pool == "masked_mean"
        )
        if self.encoder is not None:
            if self.masked:
                self.encoder.body_pool = "mean"  # which bodies count is seen to below
            self.encoder.cpu().eval().requires_grad_(False)
        self.groups = members(recogniser.labels)
        given = recogniser.features if self.warped else F.normalize(recogniser.prototypes, dim=1)
        self.register_buffer("prototypes", given)
        self.scale = recogniser.scale

    def forward(self, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities (N,) and cosines (N,) of joints (M, T, V, C) float32."""
        features = self.features(joints)
        if self.warped:
            rule = DTW()
            alike = rule.similarities(self.prototypes[None], features[None, None], plain=True)[0]
            similarity = per_class(alike, self.groups, rule.nearest)[0]
        else:
            similarity = F.normalize(features, dim=0) @ self.prototypes.T
        return (self.scale * similarity.double()).softmax(dim=0).float(), similarity

    def features(self, joints: Tensor) -> Tensor:
        """Return the features (D,)."""
        x = self.prepare(joints, self.pipeline)
        if self.encoder is None:
            x = x[:, : self.pipeline.coordinates]
            return parts_of(x)[0] if self.warped else x.flatten()
        if not self.share:
            return self.pooled(x)
        beside = raw_pipeline(self.pipeline.coordinates, aligned=True)
        parts = parts_of(self.prepare(joints, beside)[:, : beside.coordinates])
        return fused_clips(self.pooled(x)[None], parts, self.share)[0]

    def pooled(self, x: Tensor) -> Tensor:
        """Return the encoder's features (D,) of network input (1, C, T, V, M)."""
        assert self.encoder is not None
        if not self.masked:
            features: Tensor = self.encoder(x)[0]
            return features
        pooled = self.encoder.forward_features(x)[0].mean(dim=(2, 3))
        present = (x[0] != 0).any(dim=2).any(dim=1).any(dim=0)
        alone = torch.arange(self.bodies) == 0
        weights = (present | (alone & ~present.any())).float()
        return (pooled * weights[:, None]).sum(dim=0) / weights.sum()

    def prepare(self, joints: Tensor, pipeline: Pipeline) -> Tensor:
        """Return network input (1, C, T, V, M): ``SkeletonBank.batch`` for one recording."""
        k = pipeline.coordinates
        joints, _, total = preprocess.counted_frames(joints, k)
        there = (joints != 0).flatten(2).any(dim=2)  # (M, T)
        found = there[..., None].expand(joints.shape[:3])
        if joints.shape[-1] > k:
            found = (joints != 0).any(dim=-1)
        points, rest = joints[..., :k], joints[..., k:]
        if k == 2:
            points = points / self._size(points, there, found)
        points = self._centred(points, there, found)
        if pipeline.aligned:
            settings = pipeline.alignment
            origin, matrix = alignment(
                points[None], there[None], found[None], self.layout, **settings
            )
            points = (points - origin[0, :, None]) @ matrix[0]
            points = torch.where(found[..., None], points, 0)
        x = torch.cat([points, torch.where(found[..., None], rest, 0)], dim=-1)
        seen = there.any(dim=1)
        if pipeline.missing_body == "duplicate":
            own = torch.arange(self.bodies)
            source = torch.where(seen, own, seen.long().argmax())
            x, there = x[source], there[source]
        x = (
            self._ntu(x, total, pipeline)
            if pipeline.kind == "ntu"
            else self._ucla(x, there, total, pipeline)
        )
        x = preprocess.stream(x, pipeline.stream, self.parents, k)
        return x[None].permute(0, 4, 2, 3, 1)

    def _size(self, points: Tensor, there: Tensor, found: Tensor) -> Tensor:
        """``preprocess.to_body_size``: the median size of the first body, 1 if it has none."""
        low = points.masked_fill(~found[..., None], torch.inf).amin(dim=2)
        high = points.masked_fill(~found[..., None], -torch.inf).amax(dim=2)
        first = there.any(dim=1).long().argmax()
        shown = there[first]
        sizes = torch.where(shown, (high - low).amax(dim=-1)[first], torch.inf).sort().values
        size = sizes[((shown.sum() - 1).clamp(min=0) // 2)[None]][0]
        return torch.where((size > 0) & size.isfinite(), size, 1)

    def _centred(self, points: Tensor, there: Tensor, found: Tensor) -> Tensor:
        """``preprocess.centre``."""
        first = there.flatten().long().argmax()[None]
        joints, known = points.flatten(0, 1)[first][0], found.flatten(0, 1)[first][0]
        mean = (joints * known[:, None]).sum(dim=0) / known.sum().clamp(min=1)
        origin = torch.where(known[self.root], joints[self.root], mean)
        return torch.where(found[..., None], points - origin, 0)

    def _ntu(self, x: Tensor, total: Tensor, pipeline: Pipeline) -> Tensor:
        length = pipeline.length
        start, crop = preprocess.central_window(total, pipeline.test_interval)
        position = preprocess.resized_positions(crop, length)
        before = position.long()
        after = (before + 1).minimum(crop - 1)
        weight = (position - before).float()[None, :, None, None]
        return x[:, start + before].lerp(x[:, start + after], weight)

    def _ucla(self, x: Tensor, there: Tensor, total: Tensor, pipeline: Pipeline) -> Tensor:
        k, absent = pipeline.coordinates, ~there[..., None, None]
        points = x[..., :k]
        low = points.masked_fill(absent, torch.inf).amin(dim=(0, 1, 2), keepdim=True)
        high = points.masked_fill(absent, -torch.inf).amax(dim=(0, 1, 2), keepdim=True)
        flat = high <= low
        fitted = 2 * (points - low) / (high - low).masked_fill(flat, 1) - 1
        fitted = fitted.masked_fill(flat | absent, 0)
        chosen = preprocess.spread_frames(total, pipeline.length)
        return torch.cat([fitted, x[..., k:]], dim=-1)[:, chosen]


def export(recogniser: Recogniser, path: str | Path) -> Path:
    """Write encoder, preparation and support set as one graph: ``.pt2`` or ``.onnx``.

    ``torch.export.load(path).module()(joints)`` gives probabilities and cosines, in Python without
    skelfew; AOTInductor compiles the same file for C++. The input of an ONNX graph is ``joints``,
    its outputs are ``probabilities`` and ``cosines``. What they mean (actions, layout, shape,
    threshold) is the extra file ``skelfew.json`` of a ``.pt2`` and the metadata of that name of an
    ``.onnx``.

    Raises:
        SkelfewError: Another ending, no package for ONNX, or a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".pt2", ".onnx"):
        raise SkelfewError(f"{path}: an export's name ends in .pt2 (PyTorch) or .onnx")
    model = recogniser.model
    if isinstance(model, EnsembleModel):
        raise SkelfewError(f"{path}: a graph holds one run, not an {model.name}; name one --run")
    shape = (model.bodies, 32, len(model.layout), model.channels)
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rejection = recogniser.rejection
    about = {
        "actions": list(recogniser.classes),
        "input": "joints (bodies, frames, joints, coordinates) float32",
        "shape": [model.bodies, "frames", len(model.layout), model.channels],
        "layout": model.layout.to_dict(),
        "coordinates": model.coordinates,
        "outputs": list(_OUTPUTS),
        "reject_below_cosine": None if rejection is None else rejection.threshold,
        "run": model.name,
    }
    portable, text = Portable(recogniser).eval(), json.dumps(about)
    write = _write_torch if path.suffix == ".pt2" else _write_onnx
    try:
        with writing(path) as file:
            write(portable, example, file, text)
    except OSError as error:
        raise SkelfewError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def _write_torch(portable: Portable, example: Tensor, file: BinaryIO, about: str) -> None:
    frames = torch.export.Dim("frames", min=_SHORTEST, max=_LONGEST)
    with torch.no_grad():
        program = torch.export.export(portable, (example,), dynamic_shapes=({1: frames},))
    torch.export.save(program, cast(Any, file), extra_files={DESCRIPTION: about})


def _write_onnx(portable: Portable, example: Tensor, file: BinaryIO, about: str) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401 - what torch.onnx needs
    except ModuleNotFoundError as error:
        raise SkelfewError(
            f"an ONNX export needs {error.name}, which is not installed; "
            "pip install 'skelfew[onnx]', or export a .pt2"
        ) from None
    frames = torch.export.Dim("frames", min=_SHORTEST, max=_LONGEST)
    with torch.no_grad():
        program = torch.onnx.export(
            portable,
            (example,),
            dynamo=True,
            dynamic_shapes=({1: frames},),
            input_names=["joints"],
            output_names=list(_OUTPUTS),
            verbose=False,
        )
    assert program is not None
    graph = program.model_proto
    onnx.helper.set_model_props(graph, {DESCRIPTION: about})
    onnx.save(graph, file)

"""Features for few-shot scoring: an encoder's, kept in its run folder, or the raw skeletons'."""

import errno
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelfew.data.input.augment import mirror
from skelfew.data.input.bank import SkeletonBank
from skelfew.data.input.pipeline import Pipeline
from skelfew.data.store import SkeletonStore
from skelfew.encoders.outputs import read
from skelfew.errors import SkelfewError
from skelfew.io.documents import read_tensors, write_tensors
from skelfew.io.files import Document
from skelfew.progress import Progress

_BATCH = 128
RAW_FRAMES, ALIGNED_FRAMES = 16, 24
# Chosen on base classes of UTD-MHAD and of the demo world (docs/evaluation.md): weights of pose and
# motion, and how much more the change of a pose counts than its mean, which is mostly the person.
PART_WEIGHTS = (0.75, 0.25)
CHANGE = 2.0


@torch.no_grad()
def encode(
    encoder: nn.Module, bank: SkeletonBank, output: str = "pooled", shown: bool = True
) -> Tensor:
    """Return an output (n, *F) float32 for all samples of a bank, on the processor.

    Without augmentation, in evaluation mode, on the device of the weights; the encoder's own mode
    is kept.
    """
    training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    parts = []
    with Progress("encode", len(bank), unit="clips", shown=shown) as progress:
        for rows in torch.arange(len(bank)).split(_BATCH):
            skeletons = bank.batch(rows, train=False).to(device)
            parts.append(read(encoder, skeletons, output).float().cpu())
            progress.advance(len(rows))
    encoder.train(training)
    return torch.cat(parts)


def raw_features(
    store: SkeletonStore, ids: Sequence[str], output: str = "pooled", aligned: bool = False
) -> Tensor:
    """Return joint positions, centred and resampled to a few frames, see ``raw_pipeline``.

    What can be recognised without learning anything; a floor for every encoder. Absent bodies
    are zero. The confidence of 2D joints is left out: nearly the same for all, it would drown them.

    Args:
        ids: The samples, n.
        output: ``pooled`` for one long vector each (n, D), ``frames`` for one a frame, ``joints``
            for one a frame and joint, ``mirrored`` for those of the clip and of its mirror image,
            ``clips`` for pose and motion, see ``clip_parts``.
        aligned: Whether bodies are aligned, see ``raw_pipeline``.
    """
    bank = SkeletonBank.from_store(store, ids, raw_pipeline(store.coordinates, aligned))
    return clip_parts(bank) if output == "clips" else flat_positions(bank, output)


def raw_pipeline(coordinates: int, aligned: bool = False) -> Pipeline:
    """Return how joint positions (3, or 2 in pictures) are prepared that no encoder reads."""
    return Pipeline(
        length=ALIGNED_FRAMES if aligned else RAW_FRAMES,
        missing_body="zeros",
        coordinates=coordinates,
        root="level" if aligned else "first",
        facing="camera" if aligned else "recorded",
    )


def clip_parts(bank: SkeletonBank) -> Tensor:
    """Return pose and motion of the samples of a bank (n, 2, T, D), for ``dtw``.

    In the pose, what changes counts ``CHANGE`` times as much as the clip's mean; the motion is that
    of each joint since the frame before. Each part has length one, times the root of its weight.
    The confidence of 2D joints is left out.
    """
    rows = torch.arange(len(bank)).split(_BATCH)
    return torch.cat(
        [parts_of(bank.batch(r, train=False)[:, : bank.pipeline.coordinates]) for r in rows]
    )


def parts_of(x: Tensor) -> Tensor:
    """Return pose and motion (n, 2, T, V * C * M) of network input (n, C, T, V, M)."""
    pose = x.permute(0, 2, 3, 1, 4).flatten(2)
    motion = F.pad(pose[:, 1:] - pose[:, :-1], (0, 0, 1, 0))
    parts = torch.stack([pose.mean(dim=1, keepdim=True).lerp(pose, CHANGE), motion], dim=1)
    weights = torch.tensor(PART_WEIGHTS, device=x.device).sqrt()[:, None]
    return (F.normalize(parts.flatten(2), dim=-1) * weights).view(parts.shape)


def flat_positions(bank: SkeletonBank, output: str = "pooled") -> Tensor:
    """Return the joint positions of all samples of a bank; ``output`` as in ``raw_features``."""
    rows = torch.arange(len(bank)).split(_BATCH)
    positions = [bank.batch(r, train=False)[:, : bank.pipeline.coordinates] for r in rows]
    if output == "pooled":
        return torch.cat([p.flatten(1) for p in positions])
    if output == "mirrored":
        sides = [torch.stack([p, mirror(p, bank.layout)], dim=1) for p in positions]
        return torch.cat([side.flatten(2) for side in sides])
    if output not in ("frames", "joints"):
        raise SkelfewError(f"raw skeletons have no {output!r} features; score an encoder, --run")
    joints = torch.cat([p.permute(0, 2, 3, 1, 4).flatten(3) for p in positions])  # (n, T, V, C * M)
    return joints if output == "joints" else joints.flatten(2)


def fused_clips(pooled: Tensor, parts: Tensor, share: float) -> Tensor:
    """Return an encoder's features as a third part of clips, (n, 3, T, W).

    Args:
        pooled: Of the encoder (n, D). They lie in the first frame and the others are zero, so that
            warping leaves their cosine: by frame, they err more often where joints do.
        parts: Pose and motion (n, 2, T, D'), see ``clip_parts``.
        share: Weight of the encoder, in (0, 1]; pose and motion have the rest.
    """
    n, length, given = len(parts), parts.shape[2], parts.shape[-1]
    width = max(pooled.shape[-1], given)
    learned = F.normalize(pooled, dim=1)[:, None, None] * share**0.5
    learned = F.pad(learned, (0, width - pooled.shape[-1], 0, length - 1)).view(n, 1, length, width)
    return torch.cat([F.pad(parts * (1 - share) ** 0.5, (0, width - given)), learned], dim=1)


def kept(
    folder: Path | None, about: Document, ids: Sequence[str], make: Callable[[], Tensor]
) -> Tensor:
    """Return features from ``folder`` if they lie there, of the same ``about``, else make them."""
    if folder is None:
        return make()
    description = json.dumps({**about, "ids": list(ids)}, sort_keys=True)
    key = hashlib.sha256(description.encode()).hexdigest()
    path = folder / f"{key[:16]}.safetensors"
    try:
        header, tensors = read_tensors(path)
        if header.get("key") == key and "features" in tensors:
            return tensors["features"]
    except (FileNotFoundError, ValueError):
        pass  # absent, or cut off: made again below
    features = make()
    header = {"key": key, "about": json.dumps(about, sort_keys=True)}
    try:
        write_tensors(path, {"features": features}, header)
    except OSError as error:
        if error.errno != errno.EBUSY:  # another process keeps the same features
            raise
    return features

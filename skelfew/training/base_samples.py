"""The base-class samples that a run trains on: all of them, or nested parts (Table II's axis)."""

import torch

from skelfew.config import DataConfig
from skelfew.errors import SkelfewError
from skelfew.runs.inputs import Inputs
from skelfew.training.seeding import generator


def base_samples(data: DataConfig, inputs: Inputs) -> list[str]:
    """Return the IDs of the samples to train on, in the manifest's order; SkelfewError if too few.

    ``data.base_classes`` keeps that many classes, ``data.samples_per_class`` that many samples of
    each (all of a class that has fewer). Both are the head of an order drawn with
    ``data.subset_seed`` alone, so 12 classes are among 24, whatever the run's seed is.
    """
    wanted, each, seed = data.base_classes, data.samples_per_class, data.subset_seed
    protocol = inputs.protocol
    classes = sorted(protocol.base)
    if wanted is not None:
        if wanted > len(classes):
            raise SkelfewError(
                f"data.base_classes is {wanted}, but {protocol.path} has {len(classes)} base "
                "classes; ask for fewer"
            )
        order = torch.randperm(len(classes), generator=generator(seed, "base classes"))
        classes = sorted(classes[i] for i in order[:wanted].tolist())
    ids: list[str] = inputs.manifest.subset(classes).ids
    if each is None:
        return ids
    members: dict[int, list[str]] = {}
    for sample_id in ids:
        members.setdefault(inputs.manifest[sample_id].class_id, []).append(sample_id)
    if each > (most := max(map(len, members.values()))):
        raise SkelfewError(
            f"data.samples_per_class is {each}, but the largest base class of "
            f"{inputs.dataset} has {most} samples; ask for fewer"
        )
    kept: set[str] = set()
    for class_id, group in members.items():
        order = torch.randperm(len(group), generator=generator(seed, "samples", class_id))
        kept.update(group[i] for i in order[:each].tolist())
    return [i for i in ids if i in kept]

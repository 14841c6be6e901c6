"""The method in one file: transfer from a teacher, then episodes, then a one-shot score.

python examples/transfer.py cache/demo.zarr

The numbers are those of ``skelfew-train --cache cache/demo.zarr`` with the settings below.
"""

import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor

import skelfew

SEED, WIDTH, HIDDEN, FRAMES = 0, 0.125, 64, 16
EPOCHS, BATCH, EPISODES, WAYS, QUERIES = 2, 20, 6, 2, 5


def rate(peak: float, step: int, steps: int, warmup: int) -> float:
    """Return the learning rate: a linear rise, then half a cosine down to 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def cosines(support: Tensor, query: Tensor) -> Tensor:
    """Return the cosines (Q, N) of queries with one exemplar of each class."""
    return F.normalize(query, dim=-1) @ F.normalize(support, dim=-1).T


cache = skelfew.TeacherCache.open(sys.argv[1])
name = str(cache.attrs["dataset"])
manifest = skelfew.Manifest.read(f"manifests/{name}.csv")
store = skelfew.SkeletonStore(f"data/{name}.h5")
protocol = skelfew.load_protocol(f"manifests/protocols/{name}.json", manifest)
prepared = {"coordinates": store.coordinates, "length": FRAMES}
pipeline = skelfew.Pipeline.for_data(store.preprocessing, name, **prepared)
base = manifest.subset(protocol.base)
bank = skelfew.SkeletonBank.from_store(store, base.ids, pipeline)
labels = torch.tensor([sorted(protocol.base).index(sample.class_id) for sample in base])
targets = torch.from_numpy(cache.targets(base.ids, cache.representations[0], "unit"))

with skelfew.seeded(SEED, "encoder"):
    encoder = skelfew.build_encoder(
        "agcn", store.joint_layout, channels=bank.channels, bodies=bank.bodies, width=WIDTH
    )
with skelfew.seeded(SEED, "transfer", "heads"):  # projector, predictor, target projector
    widths = encoder.feature_dim, targets.shape[-1]
    model = skelfew.TransferModel(encoder, *widths, decay=1.0, hidden_dim=HIDDEN)
fast = {id(p) for p in model.predictor.parameters()}  # the predictor learns faster
optimizer = torch.optim.AdamW(
    {"params": [p], "factor": 10 if id(p) in fast else 1, "weight_decay": 0.01 * (p.ndim > 1)}
    for p in filter(lambda p: p.requires_grad, model.parameters())
)
steps = -(-len(base) // BATCH)
for epoch in range(EPOCHS):
    order = torch.randperm(len(base), generator=skelfew.generator(SEED, "transfer", epoch))
    total = 0.0
    for step, rows in enumerate(order.tensor_split(steps)):
        draw = skelfew.generator(SEED, "transfer", epoch, step)
        skeletons = bank.batch(rows, train=True, generator=draw)
        view = torch.randint(targets.shape[1], (len(rows),), generator=draw)
        lr = rate(1e-3, epoch * steps + step, EPOCHS * steps, EPOCHS * steps // 2)
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * lr
        loss = skelfew.transfer_loss(*model(skeletons, targets[rows, view])).mean()
        optimizer.zero_grad(), loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), model.update_target()
        total += float(loss.detach()) * len(rows)
    print(f"transfer {epoch + 1} {total / len(base):.6f}")

scale = torch.nn.Parameter(torch.tensor(math.log(10.0)))
sgd = torch.optim.SGD([*encoder.parameters(), scale], 1e-2, momentum=0.9, weight_decay=1e-4)
draw = skelfew.generator(SEED, "episodic", 0)
support, query = skelfew.sample_episodes(labels, WAYS, 1, QUERIES, EPISODES, draw)
total, truth = 0.0, torch.arange(WAYS).repeat_interleave(QUERIES)
for step in range(EPISODES):
    draw = skelfew.generator(SEED, "episodic", 0, step)
    rows = torch.cat([support[step], query[step]])
    features = encoder(bank.batch(rows, train=True, generator=draw))
    loss = F.cross_entropy(scale.exp() * cosines(features[:WAYS], features[WAYS:]), truth)
    sgd.param_groups[0]["lr"] = rate(1e-2, step, EPISODES, 0)
    sgd.zero_grad(), loss.backward(), sgd.step()
    total += float(loss.detach()) / EPISODES
print(f"episodic 1 {total:.6f}")

novel = manifest.subset(protocol.novel)
clips = skelfew.SkeletonBank.from_store(store, novel.ids, pipeline)
with torch.no_grad():
    features = encoder.eval()(clips.batch(torch.arange(len(novel)), train=False))
chosen, asked = protocol.exemplars(1), protocol.queries(1)
exemplars = [novel.ids.index(chosen[c][0]) for c in protocol.novel]
queries = [novel.ids.index(i) for i in asked]
found = cosines(features[exemplars], features[queries]).argmax(dim=-1)
right = torch.tensor([novel[i].class_id for i in asked]) == torch.tensor(protocol.novel)[found]
print(f"one-shot {right.double().mean():.6f}")

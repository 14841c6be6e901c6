"""Train the small X-CLIP of `make demo` on made-up videos and their descriptions.

Classes: compositions of actions (demoworld/outside.py) and the base classes of the demo's split;
never its validation or novel classes. People: subjects from 101 on; the demo's are 1 to 8.
Besides the contrastive loss, the frame features learn to say where the joints are, by a linear
head that is thrown away: a few thousand clips are too few to find limbs by names alone.
Resumable: clips and the state after each epoch are kept below --work.

    python pipeline/train_demo_teacher.py --work build/demo-teacher --out xclip-demo.safetensors
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from skelfew_extract.crop import CropSettings, clip_box, crop_and_resize
from skelfew_extract.demoworld.actions import ACTIONS, NOVEL, VALIDATION, Action, describe
from skelfew_extract.demoworld.outside import OUTSIDE, OutsideSpec
from skelfew_extract.demoworld.reader import Spec, generate
from skelfew_extract.teachers.xclip_teacher import XCLIPTeacher, build_xclip, save_teacher
from skelfew_extract.text import CompactVocabulary, bpe_ids

SIZE, FRAMES, VIEWS = 64, 8, 3
BASE = [a for a in ACTIONS if a.name not in {*NOVEL, *VALIDATION}]
TRAINED: list[Action] = [*BASE, *OUTSIDE]
_PER_FRAME = 2  # stored moments for each of the eight segments; training draws one of them


def make_clip(spec: Spec) -> np.ndarray:
    """Return (16, 3, 64, 64) uint8: for each of 8 segments its first and second half's middle."""
    recording, frames = generate(spec)
    assert frames is not None
    height, width = frames.shape[1:3]
    settings = CropSettings(frames=FRAMES, size=SIZE)
    box, _ = clip_box(recording.skeleton.pixels, width, height, settings)
    moments = FRAMES * _PER_FRAME
    index = ((np.arange(moments) + 0.5) * len(frames) / moments).astype(int)
    return crop_and_resize(frames[index], box, SIZE)


def make_pose(spec: Spec) -> np.ndarray:
    """Return (16, 25, 2) float16, the first body's joints in the clip's box, 0..1, NaN if lost."""
    recording, _ = generate(spec, draw=False)
    pixels = recording.skeleton.pixels
    assert pixels is not None
    box, _ = clip_box(pixels, 160, 120, CropSettings(frames=FRAMES, size=SIZE))
    moments = FRAMES * _PER_FRAME
    index = ((np.arange(moments) + 0.5) * pixels.shape[1] / moments).astype(int)
    corner = np.array([box.left, box.top])
    return ((pixels[0, index] - corner) / (box.right - box.left, box.bottom - box.top)).astype("f2")


def eval_clip(spec: Spec) -> np.ndarray:
    """Return (8, 3, 64, 64) uint8, the frames that skelfew-extract would take."""
    recording, frames = generate(spec)
    assert frames is not None
    height, width = frames.shape[1:3]
    settings = CropSettings(frames=FRAMES, size=SIZE)
    box, _ = clip_box(recording.skeleton.pixels, width, height, settings)
    index = ((np.arange(FRAMES) + 0.5) * len(frames) / FRAMES).astype(int)
    return crop_and_resize(frames[index], box, SIZE)


def training_specs(per_outside: int, per_base: int) -> list[Spec]:
    """Return the samples to train on, the same at every call."""
    rng = np.random.default_rng(11)

    def draw(kind: type[Spec], class_id: int, replication: int) -> Spec:
        return kind(
            class_id, int(rng.integers(101, 161)), int(rng.integers(1, VIEWS + 1)), replication
        )

    specs = [draw(Spec, a.class_id, r) for a in BASE for r in range(1, per_base + 1)]
    specs += [draw(OutsideSpec, a.class_id, r) for a in OUTSIDE for r in range(1, per_outside + 1)]
    return specs


def clips(path: Path, specs: list[Spec], make: object, workers: int) -> np.ndarray:
    """Make the clips, or read those made before."""
    if path.exists():
        return np.load(path, mmap_mode="r")
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        made = []
        for i, clip in enumerate(pool.imap(make, specs, chunksize=16), 1):  # type: ignore[arg-type]
            made.append(clip)
            if i % 500 == 0:
                print(f"clips: {i}/{len(specs)}", flush=True)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, np.stack(made))
    partial.rename(path)
    return np.load(path, mmap_mode="r")


def accuracy(
    teacher: XCLIPTeacher, frames: np.ndarray, truth: list[int], names: list[str]
) -> float:
    """Return zero-shot top-1 accuracy among ``names``."""
    with torch.inference_mode():
        text = teacher.encode_text(names)
        hits = 0
        for i in range(0, len(frames), 64):
            feature, context = teacher.encode_clips(torch.from_numpy(frames[i : i + 64].copy()))
            prompted = teacher.model.condition(text.expand(len(feature), -1, -1), context)
            score = torch.einsum(
                "bd,bcd->bc", F.normalize(feature, dim=-1), F.normalize(prompted, dim=-1)
            )
            hits += int((score.argmax(1) == torch.tensor(truth[i : i + 64])).sum())
    return hits / len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo-teacher"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=1e9, help="the schedule ends by then")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--per-outside", type=int, default=14)
    parser.add_argument("--per-base", type=int, default=36)
    parser.add_argument("--candidates", type=int, default=96, help="labels scored per clip")
    parser.add_argument("--pose", type=float, default=10.0, help="weight of the joints' loss")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)

    specs = training_specs(arguments.per_outside, arguments.per_base)
    store = clips(work / "train.npy", specs, make_clip, arguments.workers)
    poses = torch.from_numpy(clips(work / "poses.npy", specs, make_pose, arguments.workers).copy())
    row = {a.class_id: i for i, a in enumerate(TRAINED)}
    labels = torch.tensor([row[s.class_id] for s in specs])
    tests: dict[str, tuple[list[Spec], list[str], dict[int, int]]] = {}
    novel = [a for a in ACTIONS if a.name in NOVEL]
    validation = [a for a in ACTIONS if a.name in VALIDATION]
    for name, group, people in (
        ("held-out subjects, base classes", BASE, range(1, 5)),
        ("validation classes", validation, range(1, 9)),
        ("novel classes", novel, range(1, 9)),
    ):
        chosen = [Spec(a.class_id, p, p % VIEWS + 1, 1) for a in group for p in people]
        tests[name] = (
            chosen,
            [a.name for a in group],
            {a.class_id: i for i, a in enumerate(group)},
        )
    test_clips = {
        name: clips(work / f"{name.replace(' ', '-')}.npy", chosen, eval_clip, arguments.workers)
        for name, (chosen, _, _) in tests.items()
    }

    texts = [describe(a) for a in TRAINED]
    known = {t for a in ACTIONS for d in describe(a) for t in bpe_ids(d)}
    known |= {t for ts in texts for text in ts for t in bpe_ids(text)}
    vocabulary = CompactVocabulary.of(known)
    teacher = build_xclip("xclip-demo", untrained=True, vocabulary=vocabulary)
    model = teacher.model.requires_grad_(True).train()
    torch.manual_seed(1)
    pose_head = torch.nn.Linear(teacher.dim, 50)
    frame_features: list[torch.Tensor] = []
    model.mit.register_forward_pre_hook(lambda _, given: frame_features.append(given[0]))
    learned = [*model.parameters(), *pose_head.parameters()]
    decay = [p for p in learned if p.ndim > 1]
    rest = [p for p in learned if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
        lr=arguments.lr, betas=(0.9, 0.98),
    )  # fmt: skip
    steps = len(labels) // arguments.batch
    tokens = [[teacher.tokens(text)[0] for text in ts] for ts in texts]
    log_path, state_path = work / "log.jsonl", work / "state.safetensors"
    first = 0
    if state_path.exists():
        saved = load_file(state_path)
        model.load_state_dict({k[2:]: v for k, v in saved.items() if k.startswith("m.")})
        pose_head.load_state_dict({k[2:]: v for k, v in saved.items() if k.startswith("h.")})
        for i, p in enumerate(q for g in optimizer.param_groups for q in g["params"]):
            optimizer.state[p] = {k: saved[f"o.{i}.{k}"] for k in ("step", "exp_avg", "exp_avg_sq")}
        first = int(saved["epoch"])
    start = time.monotonic()
    for epoch in range(first, arguments.epochs):
        rng = torch.Generator().manual_seed(epoch)
        order = torch.randperm(len(labels), generator=rng)
        total = right = 0.0
        for step in range(steps):
            progress = max(
                (epoch * steps + step) / (arguments.epochs * steps),
                (time.monotonic() - start) / 60 / arguments.minutes if first == 0 else 0.0,
            )
            if progress >= 1:
                break
            warm = min(1.0, (epoch * steps + step + 1) / 100)
            for group in optimizer.param_groups:
                group["lr"] = arguments.lr * warm * 0.5 * (1 + np.cos(np.pi * progress))
            pick = order[step * arguments.batch : (step + 1) * arguments.batch]
            moment = torch.randint(_PER_FRAME, (len(pick), FRAMES), generator=rng)
            moment = moment + _PER_FRAME * torch.arange(FRAMES)
            raw = torch.stack(
                [
                    torch.from_numpy(store[int(i)][m.numpy()])
                    for i, m in zip(pick, moment, strict=True)
                ]
            )
            pixels, moved = augment(teacher.normalise(raw), rng)
            where = poses[pick[:, None], moment].float()
            where = (where * 2 - 1 - moved[:, :, 2].view(-1, 1, 1, 2)) / moved[:, 0, 0].view(
                -1, 1, 1, 1
            )
            seen = where.isfinite()
            positives, truth = labels[pick].unique(return_inverse=True)
            others = torch.randperm(len(TRAINED), generator=rng)
            others = others[~torch.isin(others, positives)]
            candidates = torch.cat([positives, others])[: max(len(positives), arguments.candidates)]
            rows = []
            for c in candidates.tolist():
                which = int(torch.randint(2 * len(tokens[c]), (1,), generator=rng))
                rows.append(tokens[c][max(0, which - len(tokens[c]))])  # half the time the name
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            frame_features.clear()
            feature, context = model.encode_video(pixels)
            said = pose_head(frame_features[0]).unflatten(-1, (25, 2))
            pose_loss = F.smooth_l1_loss(said[seen], where[seen], beta=0.1)
            text = model.encode_text(padded).expand(len(feature), -1, -1)
            text = F.normalize(model.condition(text, context), dim=-1)
            cosine = torch.einsum("bd,bcd->bc", F.normalize(feature, dim=-1), text)
            logits = model.logit_scale.exp().clamp(max=100) * cosine
            named = F.cross_entropy(logits, truth, label_smoothing=0.05)
            loss = named + arguments.pose * pose_loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            total += float(named.detach())
            right += float((logits.argmax(1) == truth).float().mean())
            if step % 20 == 0:
                print(f"epoch {epoch} step {step}/{steps} loss {float(named.detach()):.3f} "
                    f"pose {float(pose_loss.detach()):.4f} "
                      f"{time.monotonic() - start:.0f} s", flush=True)  # fmt: skip
        scores = {
            name: accuracy(teacher, test_clips[name], [index[s.class_id] for s in chosen], names)
            for name, (chosen, names, index) in tests.items()
        }
        line = {
            "epoch": epoch + 1, "steps": (epoch + 1) * steps, "loss": total / max(step, 1),
            "accuracy": right / max(step, 1), "seconds": time.monotonic() - start, **scores,
        }  # fmt: skip
        print(json.dumps(line), flush=True)
        with log_path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        saved = {f"m.{k}": v for k, v in model.state_dict().items()}
        saved |= {f"h.{k}": v for k, v in pose_head.state_dict().items()}
        for i, p in enumerate(q for g in optimizer.param_groups for q in g["params"]):
            saved |= {f"o.{i}.{k}": v for k, v in optimizer.state[p].items()}
        saved["epoch"] = torch.tensor(epoch + 1)
        save_file({k: v.clone() for k, v in saved.items()}, state_path.with_suffix(".partial"))
        state_path.with_suffix(".partial").rename(state_path)
        save_teacher(teacher, arguments.out, trained=True)
        if progress >= 1:
            break


def augment(pixels: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift and scale the picture a little, the same in all frames, and vary brightness.

    Returns:
        The pictures, and the map (B, 2, 3) from their coordinates, -1..1, to those before.
    """
    clips = len(pixels)
    zoom = 1 + 0.16 * (torch.rand(clips, generator=rng) - 0.5)
    shift = 0.16 * (torch.rand(clips, 2, generator=rng) - 0.5)
    theta = torch.zeros(clips, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = shift
    per_frame = theta.repeat_interleave(pixels.shape[1], dim=0)
    flat = pixels.flatten(0, 1)
    grid = F.affine_grid(per_frame, list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(pixels)
    gain = 1 + 0.3 * (torch.rand(clips, 1, 3, 1, 1, generator=rng) - 0.5)
    return moved * gain + 0.2 * torch.randn(clips, 1, 3, 1, 1, generator=rng), theta


if __name__ == "__main__":
    main()

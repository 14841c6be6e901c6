"""Train the small X-CLIP of `make demo` on made-up videos and their descriptions.

Classes: compositions of actions (demoworld/outside.py) and the base classes of the demo's split;
never its validation or novel classes. People: subjects from 101 on; the demo's are 1 to 8.

Three stages. ``pose``: the frame features learn to say where joints are, by a linear head that is
thrown away; a few thousand clips are too few to find limbs by names alone, and CLIP's weights, with
which X-CLIP begins, know bodies too. ``heads``: on frozen frame features, everything behind them
learns to name actions. ``joint``: all of it together.
Resumable: clips, and the state after each epoch, are kept below --work.

    python tools/train_demo_teacher.py --work build/demo-teacher --out xclip-demo.safetensors
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from demo_teacher_clips import (
    FRAMES,
    PEOPLE,
    TRAINED,
    augment,
    make_clip,
    make_eval_clip,
    make_pose,
    stored,
    test_sets,
    training_specs,
)
from safetensors.torch import load_file, save_file
from skelfew_extract.demoworld.actions import ACTIONS, describe
from skelfew_extract.teachers.xclip_teacher import XCLIPTeacher, build_xclip, save_teacher
from skelfew_extract.text import CompactVocabulary, bpe_ids
from torch import Tensor, nn

_CANDIDATES = 192  # classes that a clip is compared with, the batch's own among them


def zero_shot(teacher: XCLIPTeacher, clips: np.ndarray, truth: list[int], names: list[str]) -> dict:
    """Return top-1 accuracy among ``names``, with f_t conditioned on the video and without."""
    hits = {"prompted": 0, "plain": 0}
    with torch.inference_mode():
        text = teacher.encode_text(names)
        for i in range(0, len(clips), 64):
            feature, context = teacher.model.encode_video(
                teacher.normalise(torch.from_numpy(clips[i : i + 64].copy()))
            )
            prompted = teacher.model.condition(text.expand(len(feature), -1, -1), context)
            for kind, candidates in (("prompted", prompted), ("plain", text.expand_as(prompted))):
                score = torch.einsum(
                    "bd,bcd->bc", F.normalize(feature, dim=-1), F.normalize(candidates, dim=-1)
                )
                hits[kind] += int((score.argmax(1) == torch.tensor(truth[i : i + 64])).sum())
    return {kind: round(count / len(clips), 4) for kind, count in hits.items()}


class Training:
    """The three stages on one model."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.work = arguments, arguments.work
        self.work.mkdir(parents=True, exist_ok=True)
        specs = training_specs(arguments.per_outside, arguments.per_base)
        workers = arguments.workers
        self.clips = stored(self.work / "clips.npy", specs, make_clip, workers)
        poses = stored(self.work / "poses.npy", specs, make_pose, workers)
        self.poses = torch.from_numpy(poses.copy())
        row = {a.class_id: i for i, a in enumerate(TRAINED)}
        self.labels = torch.tensor([row[s.class_id] for s in specs])
        self.tests = {}
        for name, (chosen, group) in test_sets().items():
            path = self.work / f"{name.replace(' ', '-').replace(',', '')}.npy"
            index = {a.class_id: i for i, a in enumerate(group)}
            self.tests[name] = (
                stored(path, chosen, make_eval_clip, workers),
                [index[s.class_id] for s in chosen],
                [a.name for a in group],
            )
        texts = [describe(a) for a in TRAINED]
        known = {t for a in ACTIONS for d in describe(a) for t in bpe_ids(d)}
        known |= {t for ts in texts for text in ts for t in bpe_ids(text)}
        self.teacher = build_xclip(
            "xclip-demo", untrained=True, vocabulary=CompactVocabulary.of(known)
        )
        self.tokens = [[self.teacher.tokens(text)[0] for text in ts] for ts in texts]
        self.model = self.teacher.model.requires_grad_(True).train()
        torch.manual_seed(1)
        self.pose_head = nn.Linear(self.teacher.dim, 2 * 25 * 3)
        self.features: tuple[Tensor, Tensor] | None = None  # of the frozen frames, for ``heads``

    # Batches

    def pictures(self, rows: Tensor, frames: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return augmented pixels (B, frames, 3, S, S) and where the joints are in them."""
        part = FRAMES // frames
        segment = torch.arange(frames) * part
        segment = segment + torch.randint(part, (len(rows), frames), generator=rng)
        moment = 2 * segment + torch.randint(2, (len(rows), frames), generator=rng)
        raw = np.stack([self.clips[int(i)][m.numpy()] for i, m in zip(rows, moment, strict=True)])
        pixels, zoom, shift = augment(self.teacher.normalise(torch.from_numpy(raw)), rng)
        where = self.poses[rows[:, None], moment].float()
        where[..., :2] = (where[..., :2] - shift[:, None, None, None]) / zoom[:, None, None, None]
        return pixels, where

    def texts(self, classes: Tensor, rng: torch.Generator) -> Tensor:
        """Return token ids of one text of each class: half the time its name."""
        rows = []
        for c in classes.tolist():
            pick = int(torch.randint(2 * len(self.tokens[c]), (1,), generator=rng))
            rows.append(self.tokens[c][max(0, pick - len(self.tokens[c]))])
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    # Features and losses

    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return frame features (B, T, D) and the prompt context (B, P, D)."""
        seen: list[Tensor] = []
        hook = self.model.mit.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        self._frames(pixels.shape[1])
        try:
            if pixels.shape[1] == FRAMES:
                _, context = self.model.encode_video(pixels)
                return seen[0], context
            visual = self.model.visual
            patches = visual.conv1(pixels.flatten(0, 1)).flatten(2).transpose(1, 2)
            token = visual.class_embedding.expand(len(patches), 1, -1)
            x = visual.ln_pre(torch.cat([token, patches], dim=1) + visual.positional_embedding)
            for block in visual.transformer.resblocks:
                x = block(x)
            return (visual.ln_post(x[:, 0]) @ visual.proj).unflatten(0, pixels.shape[:2]), x
        finally:
            hook.remove()

    def _frames(self, number: int) -> None:
        for block in self.model.visual.transformer.resblocks:
            block.frames = number

    def pose_loss(self, features: Tensor, where: Tensor) -> Tensor:
        """Return the error of the joints read off frame features (B, T, D)."""
        found = self.pose_head(features).unflatten(-1, where.shape[2:])
        there = where.isfinite()
        return F.smooth_l1_loss(found[there], where[there], beta=0.1)

    def name_loss(
        self, features: Tensor, context: Tensor, labels: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, float]:
        """Return the contrastive loss over many classes and, prompted, over a few; and accuracy."""
        model = self.model
        video = F.normalize(model.mit(features), dim=-1)
        classes, labels = labels.unique(return_inverse=True)
        others = torch.randperm(len(TRAINED), generator=rng)
        others = others[~torch.isin(others, classes)]
        classes = torch.cat([classes, others])[: max(len(classes), _CANDIDATES)]
        text = model.encode_text(self.texts(classes, rng))
        scale = model.logit_scale.exp().clamp(max=50)
        plain = scale * video @ F.normalize(text, dim=-1).T
        hard = plain.detach().scatter(1, labels[:, None], torch.inf).topk(8, dim=1).indices
        other = torch.randint(len(classes), (len(labels), 4), generator=rng)
        chosen = torch.cat([hard, other], dim=1)  # column 0 is the truth
        prompted = F.normalize(model.condition(text[chosen], context), dim=-1)
        logits = scale * torch.einsum("bd,bcd->bc", video, prompted)
        twice = other == labels[:, None]
        logits = logits.masked_fill(F.pad(twice, (8, 0)), -torch.inf)
        truth = torch.zeros(len(labels), dtype=torch.long)
        loss = F.cross_entropy(plain, labels, label_smoothing=0.05)
        accuracy = float((plain.argmax(1) == labels).float().mean())
        return loss + F.cross_entropy(logits, truth), accuracy

    # Stages

    def run(self) -> None:
        """Train all stages, going on after the last finished epoch."""
        a = self.arguments
        heads = [n for n, _ in self.model.named_parameters() if not n.startswith("visual.")]
        vision = [n for n, _ in self.model.named_parameters() if n.startswith("visual.")]
        self.stage("pose", a.pose_epochs, vision, 1e-3, 64, self.pose_step)
        self.stage("heads", a.heads_epochs, heads, 1e-3, 256, self.heads_step)
        self.stage("joint", a.joint_epochs, [*vision, *heads], 3e-4, 48, self.joint_step)
        save_teacher(self.teacher, a.out, trained=True, about=self.card())
        print(a.out, flush=True)

    def card(self) -> dict[str, object]:
        """Return what the file says about its training; docs/demo-teacher.md puts it in words."""
        lines = [json.loads(x) for x in (self.work / "log.jsonl").read_text().splitlines()]
        return {
            "made_by": "tools/train_demo_teacher.py",
            "classes": [a.name for a in TRAINED],
            "subjects": [PEOPLE.start, PEOPLE.stop - 1],
            "clips": len(self.labels),
            "steps": {x["stage"]: x["steps"] for x in lines},
            "seconds": {
                stage: round(sum(x["seconds"] for x in lines if x["stage"] == stage))
                for stage in ("pose", "heads", "joint")
            },
            "zero_shot": {
                key: {**zero_shot(self.teacher, *test), "chance": round(1 / len(test[2]), 4)}
                for key, test in self.tests.items()
            },
        }

    def pose_step(self, rows: Tensor, rng: torch.Generator) -> tuple[Tensor, float]:
        few = int(torch.randint(4, (1,), generator=rng)) > 0
        rows = rows if few else rows[:16]
        pixels, where = self.pictures(rows, 2 if few else FRAMES, rng)
        loss = self.pose_loss(self.see(pixels)[0], where)
        return loss, float(loss.detach())

    def heads_step(self, rows: Tensor, rng: torch.Generator) -> tuple[Tensor, float]:
        if self.features is None:
            self.features = self.encode_all()
        frames, patches = self.features
        pick = torch.randint(len(frames), (len(rows),), generator=rng)
        patches = self.model.prompts_visual_ln(patches[pick, rows].float())
        context = patches @ self.model.prompts_visual_proj
        return self.name_loss(frames[pick, rows].float(), context, self.labels[rows], rng)

    def joint_step(self, rows: Tensor, rng: torch.Generator) -> tuple[Tensor, float]:
        pixels, where = self.pictures(rows, FRAMES, rng)
        features, context = self.see(pixels)
        loss, accuracy = self.name_loss(features, context, self.labels[rows], rng)
        return loss + 2 * self.pose_loss(features, where), accuracy

    @torch.no_grad()
    def encode_all(self, variants: int = 3) -> tuple[Tensor, Tensor]:
        """Return frozen frame features (variants, N, T, D) and mean patches (variants, N, P, W)."""
        path = self.work / "features.safetensors"
        if not path.exists():
            frames, patches = [], []
            hook = self.model.prompts_visual_ln.register_forward_pre_hook(
                lambda _, given: patches.append(given[0].unflatten(0, (-1, FRAMES)).mean(1).half())
            )
            for variant in range(variants):
                rng = torch.Generator().manual_seed(variant)
                for rows in torch.arange(len(self.labels)).split(64):
                    pixels, _ = self.pictures(rows, FRAMES, rng)
                    frames.append(self.see(pixels)[0].half())
                print(f"features: variant {variant + 1} of {variants}", flush=True)
            hook.remove()
            both = {"frames": torch.cat(frames), "patches": torch.cat(patches)}
            save_file({k: v.unflatten(0, (variants, -1)) for k, v in both.items()}, path)
        both = load_file(path)
        return both["frames"], both["patches"]

    def stage(
        self, name: str, epochs: int, learned: list[str], rate: float, batch: int, step: Callable
    ) -> None:
        """Run one stage with AdamW, warm-up and a cosine schedule."""
        model, state_path = self.model, self.work / f"{name}.safetensors"
        parameters = {n: p for n, p in model.named_parameters() if n in set(learned)}
        if name != "heads":
            parameters |= {f"pose_head.{n}": p for n, p in self.pose_head.named_parameters()}
        groups = [
            {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": 0.05},
            {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
        ordered = [p for group in optimizer.param_groups for p in group["params"]]
        first = 0
        if state_path.exists():
            saved = load_file(state_path)
            model.load_state_dict({k[2:]: v for k, v in saved.items() if k.startswith("m.")})
            self.pose_head.load_state_dict(
                {k[2:]: v for k, v in saved.items() if k.startswith("h.")}
            )
            for i, p in enumerate(ordered):
                keys = ("step", "exp_avg", "exp_avg_sq")
                optimizer.state[p] = {k: saved[f"o.{i}.{k}"] for k in keys}
            first = int(saved["epoch"])
        for p in [*model.parameters(), *self.pose_head.parameters()]:
            p.requires_grad_(False)
        for p in ordered:
            p.requires_grad_(True)
        steps = len(self.labels) // batch
        for epoch in range(first, epochs):
            began, total, measure = time.monotonic(), 0.0, 0.0
            rng = torch.Generator().manual_seed(1000 + epoch)
            order = torch.randperm(len(self.labels), generator=rng)
            for i in range(steps):
                here = epoch * steps + i
                warm = min(1.0, (here + 1) / 200)
                slope = 0.5 * (1 + np.cos(np.pi * here / (epochs * steps)))
                for group in optimizer.param_groups:
                    group["lr"] = rate * warm * slope
                loss, value = step(order[i * batch : (i + 1) * batch], rng)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(ordered, 1.0)
                optimizer.step()
                total, measure = total + float(loss.detach()), measure + value
            line = {
                "stage": name,
                "epoch": epoch + 1,
                "steps": (epoch + 1) * steps,
                "loss": round(total / steps, 4),
                ("pose" if name == "pose" else "accuracy"): round(measure / steps, 4),
                "seconds": round(time.monotonic() - began, 1),
            }
            if name != "pose" and (epoch + 1) % (1 if name == "joint" else 5) == 0:
                self._frames(FRAMES)
                line["zero-shot"] = {
                    key: zero_shot(self.teacher, *test) for key, test in self.tests.items()
                }
            print(json.dumps(line), flush=True)
            saved = {f"m.{k}": v for k, v in model.state_dict().items()}
            saved |= {f"h.{k}": v for k, v in self.pose_head.state_dict().items()}
            for i, p in enumerate(ordered):
                saved |= {f"o.{i}.{k}": v for k, v in optimizer.state[p].items()}
            saved["epoch"] = torch.tensor(epoch + 1)
            partial = state_path.with_suffix(".partial")
            save_file({k: v.clone() for k, v in saved.items()}, partial)
            partial.rename(state_path)
            with (self.work / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            self._frames(FRAMES)
            save_teacher(self.teacher, self.work / "latest.safetensors", trained=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/demo-teacher"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pose-epochs", type=int, default=18)
    parser.add_argument("--heads-epochs", type=int, default=30)
    parser.add_argument("--joint-epochs", type=int, default=2)
    parser.add_argument("--per-outside", type=int, default=20)
    parser.add_argument("--per-base", type=int, default=48)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    Training(arguments).run()


if __name__ == "__main__":
    main()

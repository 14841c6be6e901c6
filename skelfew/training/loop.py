"""The training loop of one stage: steps, schedule, metrics, checkpoints, interruption.

A step depends on weights, optimiser state and (seed, stage, epoch, step) only, so a run that was
stopped anywhere goes on to the numbers of one that was not.
"""

import math
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

import torch
from torch import Tensor

from skelfew.errors import SkelfewError
from skelfew.progress import Progress
from skelfew.runs.folder import Run
from skelfew.training.checkpoint import (
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from skelfew.training.distributed import World, sum_gradients
from skelfew.training.optim import (
    build_optimizer,
    learning_rate,
    parameter_groups,
    set_learning_rate,
)
from skelfew.training.seeding import seeded
from skelfew.training.stages.base import Batch, Stage
from skelfew.training.validation import Validation

LONG_HOURS = 1.0  # of a stage on a processor; more is named after the first steps
_TIMED_STEPS = 3


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and has saved its state."""


class NotFiniteError(SkelfewError):
    """The loss or the weights became NaN or infinite; the message names the samples."""


@dataclass
class Position:
    """Position of the run in a stage; all of it goes into the checkpoint."""

    stage: int
    epoch: int = 0
    step: int = 0  # finished steps of the epoch that follows
    # Sums over those steps, weighted by samples
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waiting: float = 0.0  # how much of it went into waiting for data
    rows: int = 0  # lines of metrics.jsonl that are settled
    best: tuple[float, int] = (-1.0, 0)  # best validation accuracy and its epoch


class StopRequest:
    """Set by the first SIGINT or SIGTERM; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a request that the loop looks at after every step."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StageLoop:
    """Runs the stage number ``index`` of a run from its last checkpoint to its end.

    The epoch kept is the ``last``, or the best one by ``validation``; ``bfloat16`` runs the encoder
    in autocast; the first process of ``world`` writes.
    """

    def __init__(
        self,
        run: Run,
        stage: Stage,
        index: int,
        stop: StopRequest,
        validation: Validation | None = None,
        world: World = World(),  # noqa: B008 - frozen
        select: Literal["last", "validation"] = "last",
        precision: Literal["float32", "bfloat16"] = "float32",
        checkpoint_minutes: float = 10.0,
    ):
        self.run_folder, self.stage, self.stop = run, stage, stop
        self.validation, self.world = validation, world
        self.select, self.precision = select, precision
        self.checkpoint_minutes = checkpoint_minutes
        self.position = Position(index, rows=len(run.rows()))
        self.optimizer = build_optimizer(
            parameter_groups(stage.learning_rates(), stage.optimizer), stage.optimizer
        )
        self._saved = time.monotonic()
        self._starts = [0]
        for epoch in range(stage.epochs):
            self._starts.append(self._starts[-1] + stage.steps(epoch))

    def restore(self) -> None:
        """Go back to where the run's checkpoint was written."""
        groups, scalars = load_checkpoint(self.run_folder.checkpoint)
        self.stage.module.load_state_dict(groups["module"])
        load_optimizer_tensors(self.optimizer, groups.get("optimizer", {}))
        self.stage.memory.update(scalars["memory"])
        position = dict(scalars["position"])
        position["best"] = tuple(position["best"])
        self.position = Position(**position)
        self.run_folder.keep_rows(self.position.rows)

    def save(self) -> None:
        """Write the run's checkpoint."""
        self._saved = time.monotonic()
        if not self.world.is_main_process:
            return
        self.run_folder.check()
        weights, moments = self.stage.module.state_dict(), optimizer_tensors(self.optimizer)
        save_checkpoint(
            self.run_folder.checkpoint,
            {"module": weights, "optimizer": moments},
            {"position": vars(self.position), "memory": self.stage.memory},
        )

    def run(self) -> None:
        """Train to the end of the stage.

        Raises:
            Interrupted: After a signal; the state is saved.
            NotFiniteError: If the loss, or a weight at the end of an epoch, is no number any more.
        """
        stage, here = self.stage, self.position
        total = sum(stage.samples(epoch) for epoch in range(stage.epochs))
        done = sum(stage.samples(epoch) for epoch in range(here.epoch))
        done += int(here.sums.get("samples", 0))
        shown = self.world.is_main_process
        stage.module.train()
        with (
            ThreadPoolExecutor(1, thread_name_prefix="batches") as worker,
            Progress(stage.name, total, "samples", done, shown=shown) as progress,
        ):
            while here.epoch < stage.epochs:
                self._epoch(worker, progress)
                if self.world.any(self.stop.asked):
                    raise Interrupted
        if self.select == "validation":
            self._take_best()

    def _epoch(self, worker: ThreadPoolExecutor, progress: Progress) -> None:
        stage, here = self.stage, self.position
        steps = stage.steps(here.epoch)
        started, before = time.monotonic(), here.seconds
        upcoming = worker.submit(stage.draw, here.epoch, here.step)
        while here.step < steps:
            asked = time.monotonic()
            batch = upcoming.result()
            here.waiting += time.monotonic() - asked
            if here.step + 1 < steps:  # the next batch is made while this one is computed
                upcoming = worker.submit(stage.draw, here.epoch, here.step + 1)
            self._step(batch)
            here.step += 1
            here.seconds = before + time.monotonic() - started
            progress.advance(len(batch.rows), self._note())
            if (here.epoch, here.step) == (0, _TIMED_STEPS):
                self._name_long_work()
            if here.step < steps:
                if self.world.any(self.stop.asked):
                    self.save()
                    raise Interrupted
                if time.monotonic() - self._saved > 60 * self.checkpoint_minutes:
                    self.save()
            elif not all(bool(t.isfinite().all()) for t in stage.module.state_dict().values()):
                # The next loss, if there is one, would come too late.
                raise NotFiniteError(self._explain(batch, "a weight is not finite after"))
        self._end_epoch()

    def _name_long_work(self) -> None:
        """Log how long the stage will take on a processor, if that is long, and what is faster."""
        hours = self.position.seconds / self.position.step * self._starts[-1] / 3600
        if self.stage.data.device.type == "cpu" and hours > LONG_HOURS:
            self.run_folder.log(
                f"note: {self.stage.name} takes about {hours:,.0f} hours on this processor; "
                "--preset laptop trains in minutes"
            )

    def _step(self, batch: Batch) -> None:
        stage, here = self.stage, self.position
        at = self._starts[here.epoch] + here.step
        lr = learning_rate(stage.optimizer, at, self._starts[-1], stage.steps(here.epoch))
        set_learning_rate(self.optimizer, lr)
        device = batch.skeletons.device
        mixed = self.precision == "bfloat16"
        with (
            seeded(stage.seed, stage.name, here.epoch, here.step, device=device),  # dropout
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=mixed),
        ):
            result = stage.forward(batch)
        stats = {"loss": result.loss.detach(), **result.stats}
        values = dict(zip(stats, torch.stack(list(stats.values())).tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            raise NotFiniteError(self._explain(batch))
        self.optimizer.zero_grad()
        result.loss.backward()
        sum_gradients(stage.module, stage.encoder, self.world)
        if stage.optimizer.clip:
            torch.nn.utils.clip_grad_norm_(stage.module.parameters(), stage.optimizer.clip)
        self.optimizer.step()
        stage.after_step()
        count = len(batch.rows)
        for name, value in values.items():
            here.sums[name] = here.sums.get(name, 0.0) + value * count
        here.sums["samples"] = here.sums.get("samples", 0) + count

    def _means(self) -> dict[str, float]:
        sums = self.position.sums
        return {k: v / sums["samples"] for k, v in sums.items() if k != "samples"}

    def _note(self) -> str:
        means = self._means()
        text = f"epoch {self.position.epoch + 1}/{self.stage.epochs}  loss {means['loss']:.4f}"
        if "target_spread" in means:
            text += f"  spread {means['target_spread']:.4f}"
        if "accuracy" in means:
            text += f"  accuracy {100 * means['accuracy']:.1f} %"
        return text

    def _end_epoch(self) -> None:
        """Write the epoch's row and checkpoint; the row first, so that it is never missing."""
        stage, here, run = self.stage, self.position, self.run_folder
        means = self._means()
        row: dict[str, str | float] = {
            "stage": stage.name,
            "epoch": here.epoch + 1,
            **means,
            "lr": self.optimizer.param_groups[-1]["lr"],
            "steps": here.step,
            "samples": int(here.sums["samples"]),
            "seconds": round(here.seconds, 3),
            "samples_per_second": round(here.sums["samples"] / max(here.seconds, 1e-9), 1),
            "waiting_share": round(here.waiting / max(here.seconds, 1e-9), 4),
        }
        problem = None
        try:
            row |= stage.end_epoch(here.epoch, means)
        except SkelfewError as error:
            problem = error
        note = self._note()
        if self.validation is not None:
            accuracy = self.validation.accuracy(stage.encoder, stage.scored_by)
            row["validation_accuracy"] = accuracy
            note += f"  validation {100 * accuracy:.1f} %"
            if self.select == "validation" and accuracy > here.best[0]:
                here.best = (accuracy, here.epoch + 1)
                if self.world.is_main_process:
                    save_checkpoint(self._best_path, {"module": stage.module.state_dict()}, {})
        run.append(row)
        run.log(f"{stage.name} {note}", show=False)
        if problem is not None:
            run.log(f"error: {problem}", show=False)
            raise problem
        here.epoch += 1
        here.rows += 1
        here.step, here.sums, here.seconds, here.waiting = 0, {}, 0.0, 0.0
        self.save()

    @property
    def _best_path(self) -> Path:
        return self.run_folder.path / f"best.{self.stage.name}.safetensors"

    def _take_best(self) -> None:
        self.world.barrier()  # until it is written
        groups, _ = load_checkpoint(self._best_path)
        self.stage.module.load_state_dict(groups["module"])
        accuracy, epoch = self.position.best
        self.run_folder.log(
            f"{self.stage.name}: took epoch {epoch}, {100 * accuracy:.1f} % on the validation "
            "classes"
        )

    def _explain(self, batch: Batch, what: str = "the loss is not finite in") -> str:
        """Say which samples of a batch are at fault for what is not finite."""
        here = self.position
        where = f"{self.stage.name}: {what} epoch {here.epoch + 1}, step "
        where += f"{min(here.step + 1, self.stage.steps(here.epoch))}"
        ids = [self.stage.data.ids[i] for i in batch.rows.tolist()]
        inputs: dict[str, Tensor | None] = {
            "skeletons": batch.skeletons,
            "teacher features": batch.targets,
            **{f"skeletons of view {i + 2}": view for i, view in enumerate(batch.views)},
        }
        for name, values in inputs.items():
            if values is None:
                continue
            bad = (~values.isfinite().flatten(1).all(dim=1)).cpu()
            if bad.any():
                named = [i for i, b in zip(ids, bad.tolist(), strict=True) if b]
                return f"{where}: the {name} of {', '.join(named[:5])} hold NaN or infinity"
        return (
            f"{where}, although all inputs are finite, so training diverged: use a smaller "
            f"learning rate or clip the gradient ({self.stage.name}.optimizer.lr, .clip); "
            f"samples {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}"
        )

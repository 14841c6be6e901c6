"""Trackers of experiments, as callbacks of a run: TensorBoard, Weights & Biases, MLflow.

A callback gets the run and each line of its metrics.jsonl, which stays the record::

    train(config, callback=tracker("tensorboard"))
"""

import json
from collections.abc import Callable, Iterator, Mapping

from skelfew.errors import SkelfewError
from skelfew.io.files import Values
from skelfew.runs.folder import Callback, Run

Report = Callable[[Mapping[str, float], int], None]


def tracker(name: str) -> Callback:
    """Return a callback that reports to a tracker, which starts with the first row.

    Every number of a row is reported as ``STAGE/NAME`` at the number of epochs so far, over all
    stages. A run that is resumed goes on in the tracker where it was.

    Args:
        name: One of ``TRACKERS``.

    Raises:
        SkelfewError: No such tracker.
        ModuleNotFoundError: Its package is missing; ``pip install 'skelfew[NAME]'``.
    """
    if name not in TRACKERS:
        raise SkelfewError(f"no tracker {name!r}; there are {', '.join(TRACKERS)}")
    start = TRACKERS[name]()
    report: Report | None = None

    def callback(run: Run, row: Values) -> None:
        nonlocal report
        step = len(run.rows())
        report = report or start(run, step)
        report(dict(_numbers(row)), step)

    return callback


def _numbers(row: Values) -> Iterator[tuple[str, float]]:
    for key, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{row['stage']}/{key}", float(value)


def _tensorboard() -> Callable[[Run, int], Report]:
    from torch.utils.tensorboard import SummaryWriter

    def start(run: Run, step: int) -> Report:
        writer = SummaryWriter(run.path / "tensorboard", purge_step=step)
        writer.add_text("config", f"    {json.dumps(run.config().flat())}")

        def report(values: Mapping[str, float], step: int) -> None:
            for key, value in values.items():
                writer.add_scalar(key, value, step)
            writer.flush()

        return report

    return start


def _wandb() -> Callable[[Run, int], Report]:
    import wandb

    def start(run: Run, step: int) -> Report:
        session = wandb.init(
            project="skelfew", id=run.name, dir=str(run.path), resume="allow",
            config=run.config().flat(),
        )  # fmt: skip
        return lambda values, step: session.log(dict(values), step=step)

    return start


def _mlflow() -> Callable[[Run, int], Report]:
    import mlflow

    def start(run: Run, step: int) -> Report:
        mlflow.set_experiment("skelfew")
        found = mlflow.search_runs(
            filter_string=f"tags.skelfew = '{run.name}'", output_format="list", max_results=1
        )
        before = found[0].info.run_id if found and step > 1 else None
        mlflow.start_run(before, run_name=run.name, tags={"skelfew": run.name})
        if before is None:
            mlflow.log_params({key: str(value)[:500] for key, value in run.config().flat().items()})
        return lambda values, step: mlflow.log_metrics(dict(values), step=step)

    return start


TRACKERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}

"""Feed every reader hostile files, and count those that it neither reads nor refuses.

    python benchmarks/fuzz.py --inputs 2000
    python benchmarks/fuzz.py --target pyskl --seed 7 --inputs 10000
    python benchmarks/fuzz.py --target pyskl --show 123

Inputs are valid small files with bytes, values, links and sizes changed; tests/fuzz/ has them. An
input is a function of target, seed and number; --show writes one to a folder. Exit status 1 if
any input did harm.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzz"))

from engine import Target, input_of, lay, try_inputs
from support.rows import options


def targets() -> dict[str, Target]:
    """Return all targets by name."""
    import cache_targets
    import data_targets
    import harm_targets
    import head_targets
    import train_targets

    found = [
        *cache_targets.TARGETS,
        *data_targets.TARGETS,
        *train_targets.TARGETS,
        *head_targets.TARGETS,
        *harm_targets.TARGETS,
    ]
    return {target.name: target for target in found}


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--inputs", type=int, default=100, help="how many a target (100)")
    parser.add_argument("--target", action="append", help="one target; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--show", type=int, help="write this input to ./fuzz-TARGET-NUMBER")
    parser.add_argument("--list", action="store_true", help="print the names of the targets")
    arguments = parser.parse_args()
    known = targets()
    chosen = arguments.target or list(known)
    if arguments.list:
        print("\n".join(known))
        return 0
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"no target {unknown[0]}; there are {', '.join(known)}")
    if arguments.show is not None:
        known[chosen[0]].prepare()
        folder = Path(f"fuzz-{chosen[0]}-{arguments.show}")
        lay(input_of(known[chosen[0]], arguments.seed, arguments.show), folder)
        print(folder)
        return 0
    outcomes = []
    if not arguments.json:
        print(f"{'target':18} {'inputs':>8} {'read':>8} {'refused':>8} {'failures':>8} {'s':>6}")
    for name in chosen:
        numbers = range(arguments.first, arguments.first + arguments.inputs)
        outcome = try_inputs(known[name], numbers, arguments.seed)
        outcomes.append(outcome)
        refused = outcome.tried - outcome.read - len(outcome.failures)
        if not arguments.json:
            print(f"{name:18} {outcome.tried:8,} {outcome.read:8,} {refused:8,} "
                  f"{len(outcome.failures):8,} {outcome.seconds:6.1f}", flush=True)  # fmt: skip
        for failure in outcome.failures:
            print(f"  {name} {failure.number}: {failure.kind}: {failure.detail}", file=sys.stderr)
    failed = sum(len(o.failures) for o in outcomes)
    if arguments.json:
        rows = [{"target": o.target, "inputs": o.tried, "read": o.read,
                 "failures": [vars(f) for f in o.failures], "seconds": round(o.seconds, 1)}
                for o in outcomes]  # fmt: skip
        print(json.dumps({"seed": arguments.seed, "targets": rows}, indent=1))
    else:
        print(f"{'all':18} {sum(o.tried for o in outcomes):8,} {sum(o.read for o in outcomes):8,} "
              f"{'':8} {failed:8,} {sum(o.seconds for o in outcomes):6.1f}")  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

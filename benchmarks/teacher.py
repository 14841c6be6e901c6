"""The teacher: time per clip of X-CLIP here and in transformers, same weights, in one run.

Beside each: the rate of the bare products of its shapes, and their share of its time. Claim:
bfloat16 blocks are what makes extraction faster on a processor that has them; the features
stay those of transformers' XCLIPModel.
Usage: python benchmarks/teacher.py [VARIANT] [--json]      (default xclip-base-patch16)
"""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from support.limit import Products
from support.rows import options, report
from support.their_xclip import their_xclip

ROUNDS = 5
PRECISIONS = ("float32", "bfloat16")


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return F.cosine_similarity(a, b).item()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("variant", nargs="?", default="xclip-base-patch16")
    given = parser.parse_args()
    name = given.variant
    from skelfew_extract.extract import choose_precision
    from skelfew_extract.teachers.xclip_teacher import build_xclip

    exact = build_xclip(name, untrained=True)
    fast = build_xclip(name, untrained=True, precision="bfloat16")
    v, theirs = exact.variant, their_xclip(exact)
    generator = torch.Generator().manual_seed(0)
    shape = (1, v.frames, 3, v.image_size, v.image_size)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def transformers(dtype: torch.dtype | None) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            output = theirs.get_video_features(pixel_values=exact.normalise(frames))
        return output if isinstance(output, torch.Tensor) else output.pooler_output

    cases: dict[str, Callable[[], torch.Tensor]] = {
        "transformers float32": lambda: transformers(None),
        "transformers bfloat16": lambda: transformers(torch.bfloat16),
        "skelfew float32": lambda: exact.encode_clips(frames)[0],
        "skelfew bfloat16": lambda: fast.encode_clips(frames)[0],
    }
    if choose_precision("auto", "cpu", v.width) == "float32":  # minutes for a pass in bfloat16
        cases = {case: function for case, function in cases.items() if "float32" in case}
    truth = cases["transformers float32"]().double()
    features = {case: function().double() for case, function in cases.items()}
    times: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):  # interleaved, so that a busy minute hits all alike
        for case, function in cases.items():
            start = time.perf_counter()
            function()
            times[case].append(time.perf_counter() - start)
    reference = statistics.median(times["transformers float32"])
    with Products() as products:
        exact.encode_clips(frames)
    best = {case: min(values) for case, values in times.items()}
    shares = products.shares(best)
    rates = {d: products.gflop / products.seconds(getattr(torch, d)) for d in PRECISIONS}
    rows = [
        {
            "case": case,
            "median_ms_per_clip": round(1e3 * statistics.median(values), 2),
            "min_ms_per_clip": round(1e3 * min(values), 2),
            "times_faster": round(reference / statistics.median(values), 2),
            "largest_difference": float(f"{(features[case] - truth).abs().max():.1e}"),
            "one_minus_cosine": float(f"{1 - cosine(features[case], truth):.1e}"),
            **shares[case],
        }
        for case, values in times.items()
    ]
    about = {
        "teacher": name,
        "threads": torch.get_num_threads(),
        "scale": float(truth.abs().max()),
        "gflop_a_clip": round(products.gflop, 1),
        **{f"products_in_{d}_gflop_per_s": round(rate, 1) for d, rate in rates.items()},
    }
    report("teacher", given.json, **about, rounds=ROUNDS, rows=rows)


if __name__ == "__main__":
    main()

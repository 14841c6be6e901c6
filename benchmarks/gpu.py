"""On a graphics card: the teacher's clips per second, and training passes beside a textbook.

Goals: at least 1,000 clips a second encoded by X-CLIP ViT-B/16 on a card like the H200, and forward
and backward of AGCN and CTR-GCN at three times the rate of a plain implementation of the same
equations (support/textbook.py), at 64 frames, 25 joints, two bodies. Named alternatives, in the
same run: transformers' XCLIPModel in float32 on the same batch, and that textbook in float32; both
with TensorFloat-32 off, which is PyTorch's default for matrix products. Features are compared too.

One short run for a card that is only lent: sizes are options, and `--device cpu --clips 2` shows on
any machine that it works. Nothing it printed is in the docs yet: no card could be had.

Usage: python benchmarks/gpu.py [--device cuda] [--clips 64] [--samples 64] [--rounds 5]
           [--width 1] [--no-compile] [--json]
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from skelfew_extract.teachers.xclip_teacher import build_xclip
from support.encoder_speed import judged
from support.limit import Products, seconds
from support.rows import options, report
from support.textbook import Textbook
from support.their_xclip import their_xclip
from torch import Tensor, nn

from skelfew.data.joints.layouts import load_layout
from skelfew.encoders import build_encoder

TEACHER = "xclip-base-patch16"
FRAMES = 64


def interleaved(
    cases: dict[str, Callable[[], Any]], device: torch.device, rounds: int, each: int
) -> list[dict[str, Any]]:
    """Return a row for each case with its share of the limit; ratios are to the first, in a round.

    Each case processes ``each`` clips; two rounds warm up.
    """
    products = {}
    for name, function in cases.items():
        function()
        if name.endswith(", compiled"):  # does the same products
            function()
            products[name] = products[name.removesuffix(", compiled")]
            continue
        with Products() as products[name]:
            function()
    times = [{name: seconds(f, device) for name, f in cases.items()} for _ in range(rounds)]
    first = next(iter(cases))
    rows = []
    for name in cases:
        taken = statistics.median(t[name] for t in times)
        ratios = [turn[first] / turn[name] for turn in times]
        rows.append(
            {
                "case": name,
                "clips_per_second": round(each / taken, 1),
                "times_faster": round(statistics.median(ratios), 2),
                "lowest": round(min(ratios), 2),
                "highest": round(max(ratios), 2),
                **products[name].shares({name: taken}, str(device))[name],
            }
        )
    return rows


def teacher(device: torch.device, clips: int, rounds: int, compiled: bool) -> list[dict[str, Any]]:
    """Encode a batch of random pictures, f_v and the context of f_t, every way."""
    options: dict[str, Any] = {"untrained": True, "device": str(device)}
    exact = build_xclip(TEACHER, **options)
    theirs = their_xclip(exact).to(device)
    shape = (clips, exact.frames, 3, exact.image_size, exact.image_size)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8).to(device)

    @torch.inference_mode()
    def transformers() -> Tensor:
        output = theirs.get_video_features(pixel_values=exact.normalise(frames))
        return output if isinstance(output, Tensor) else output.pooler_output

    ours = {"float32": exact, "bfloat16": build_xclip(TEACHER, precision="bfloat16", **options)}
    if compiled:
        ours["bfloat16, compiled"] = build_xclip(
            TEACHER, precision="bfloat16", compile=True, **options
        )
    cases: dict[str, Callable[[], Any]] = {"transformers, float32": transformers}
    cases |= {f"skelfew, {k}": lambda t=t: t.encode_clips(frames)[0] for k, t in ours.items()}
    rows = interleaved(cases, device, rounds, clips)
    truth = transformers().double()
    for row, function in zip(rows, cases.values(), strict=True):
        cosines = F.cosine_similarity(function().double(), truth)
        row["one_minus_least_cosine"] = float(f"{1 - cosines.min():.1e}")
    best = max(rows[1:], key=lambda row: row["clips_per_second"])
    best.update(judged(best["clips_per_second"], 1000.0))
    return rows


def encoder(
    name: str, device: torch.device, samples: int, rounds: int, width: float, compiled: bool
) -> list[dict[str, Any]]:
    """Forward and backward passes over a batch, every way; all have the textbook's weights."""
    layout = load_layout("kinect-v2")
    draw = torch.Generator().manual_seed(0)
    two = torch.randn(samples, 3, FRAMES, len(layout), 2, generator=draw).cumsum(dim=2).to(device)
    one = two.clone()
    one[..., 1] = 0
    torch.manual_seed(0)
    plain = Textbook(name, layout) if width == 1 else None
    # The textbook has one width; another is for seeing on a small machine that this runs.
    base = plain or build_encoder(name, layout, width=width)
    state = base.state_dict()
    base = base.to(device).train()

    def ours(pool: str, compiling: bool) -> nn.Module:
        made = build_encoder(name, layout, width=width, body_pool=pool)
        made.load_state_dict(state)
        made.to(device).train()
        if compiling:
            made.compile()
        return made

    def passing(module: nn.Module, x: Tensor, bfloat16: bool) -> Callable[[], Tensor]:
        def step() -> Tensor:
            module.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                features = module(x)
            features.float().square().mean().backward()
            return features.detach()

        return step

    cases = {"textbook, float32" if plain else "not compiled, float32": passing(base, two, False)}
    for compiling in (False, True)[: 1 + compiled]:
        how = ", compiled" if compiling else ""
        two_bodies, one_body = ours("mean", compiling), ours("masked_mean", compiling)
        cases[f"two bodies, float32{how}"] = passing(two_bodies, two, False)
        cases[f"two bodies, bfloat16{how}"] = passing(two_bodies, two, True)
        cases[f"one body, bfloat16{how}"] = passing(one_body, one, True)
    rows = interleaved(cases, device, rounds, samples)
    equal_work = [row for row in rows if row["case"].startswith("two bodies")]
    best = max(equal_work, key=lambda row: row["times_faster"])
    best.update(judged(best["times_faster"], 3.0))
    return [{"encoder": name, **row} for row in rows]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--clips", type=int, default=64, help="of a batch of the teacher")
    parser.add_argument("--samples", type=int, default=64, help="of a batch of an encoder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=float, default=1.0, help="of the encoders")
    parser.add_argument("--no-compile", action="store_true")
    given = parser.parse_args()
    device, compiled = torch.device(given.device), not given.no_compile
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no graphics card here; --device cpu --clips 2 shows that the script runs")
    found = {"teacher": teacher(device, given.clips, given.rounds, compiled)}
    for name in ("agcn", "ctrgcn"):
        found[name] = encoder(name, device, given.samples, given.rounds, given.width, compiled)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    about = {"device": where, "torch": torch.__version__, "rounds": given.rounds}
    report("gpu", given.json, **about, **found)


if __name__ == "__main__":
    main()

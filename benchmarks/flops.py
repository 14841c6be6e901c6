"""Floating-point operations of the teacher for a clip and of a training step for a sample, counted.

A multiplication and an addition are two. PyTorch's FlopCounterMode counts matrix products,
convolutions and attention as they run; norms, activations and softmax are not in it. The numbers
are the same on every machine; docs/scale.md turns them into hours.

Usage: python benchmarks/flops.py [--json]
"""

from collections.abc import Callable

import torch
from skelfew_extract.teachers.xclip_teacher import build_xclip
from support.rows import options, report
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from skelfew.encoders import build_encoder

FRAMES, JOINTS = 64, 25


def counted(action: Callable[[], object]) -> int:
    """Return the operations of a call; attention is taken apart, since fused kernels hide it."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


def main() -> None:
    arguments = options(__doc__).parse_args()
    found: dict[str, float] = {}
    for name in ("xclip-base-patch16", "xclip-large-patch14"):
        teacher = build_xclip(name, untrained=True)
        v = teacher.variant
        shape = (1, v.frames, 3, v.image_size, v.image_size)
        with torch.inference_mode():
            frames = torch.zeros(shape, dtype=torch.uint8)
            found[f"{name}, a clip"] = counted(lambda t=teacher, f=frames: t.encode_clips(f))
            found[f"{name}, a class text"] = counted(
                lambda t=teacher: t.encode_text(["drink water"])
            )
    for name in ("agcn", "ctrgcn"):
        for bodies in (1, 2):
            encoder = build_encoder(name, "kinect-v2", bodies=bodies)
            clips = torch.randn(2, 3, FRAMES, JOINTS, bodies)
            step = counted(lambda e=encoder, x=clips: e(x).sum().backward())
            found[f"{name}, forward and backward, {FRAMES} frames, bodies {bodies}"] = step / 2
    rows = [{"gflop": float(f"{n / 1e9:.4g}"), "of": what} for what, n in found.items()]
    report("flops", arguments.json, rows=rows)


if __name__ == "__main__":
    main()

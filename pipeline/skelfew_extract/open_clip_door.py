"""The one door through which open_clip comes in.

open_clip imports torchvision for its image transforms, which this package does not use. A
CUDA-built torchvision beside a CPU-only torch cannot load its C++ operators, and its import then
ends in "operator torchvision::nms does not exist". Declaring the names of the missing operators
lets the import pass; they are never called here.

Importing this module takes some seconds; import it inside function bodies, or from modules that
are themselves imported there.
"""

import torch

from skelfew.errors import SkelfewError

EXAMINED = "3.3."  # the series whose internals xclip.py was checked against

_declared: list[torch.library.Library] = []  # a Library takes its declarations with it when it dies


def _declare_torchvision_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)


try:
    import torchvision  # type: ignore[import-untyped]  # noqa: F401
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    _declare_torchvision_operators()
except ImportError:
    pass  # open_clip's own import says so below

try:
    import open_clip
    from open_clip.model import CLIP
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transformer import QuickGELU, ResidualAttentionBlock
except ImportError as error:
    raise SkelfewError(
        f"the teacher needs open_clip, which cannot be imported ({error}); "
        'install it with: pip install "skelfew[extract]"'
    ) from None

VERSION: str = open_clip.__version__
if not VERSION.startswith(EXAMINED):
    raise SkelfewError(
        f"open_clip {VERSION} is installed, but X-CLIP is built on the blocks of {EXAMINED}*; "
        f'install it with: pip install "open_clip_torch=={EXAMINED}*"'
    )

__all__ = [
    "CLIP", "VERSION", "QuickGELU", "ResidualAttentionBlock", "SimpleTokenizer", "open_clip",
]  # fmt: skip

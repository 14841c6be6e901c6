"""The X-CLIP and ActionCLIP models there are, as data. Standard library only.

Source: Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition"
(2022), its model zoo, and the configurations of the same models under huggingface.co/microsoft.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """Shape and origin of one X-CLIP model. Attention heads are always 64 channels wide."""

    name: str  # what the user types; also the folder under ``weights/``
    clip: str | None  # open_clip's name of the image-text model it grew from; None for our own
    patch: int  # side of a patch in pixels; the input is ``image_size`` pixels square
    frames: int  # T, fixed by the position table of the multi-frame integration
    image_size: int = 224
    width: int = 768  # W, channels of the vision tower; ``layers`` blocks
    layers: int = 12
    text_width: int = 512  # channels of the text tower; ``text_layers`` blocks
    text_layers: int = 12
    dim: int = 512  # D, channels of f_v and f_t
    # Rows of the token table. Fewer than CLIP's mean a compact vocabulary (text.py).
    vocabulary: int = 49408
    context_length: int = 77
    mit_layers: int = 1
    prompt_layers: int = 2
    trained_on: str = ""
    file: str | None = None  # name of the official release file, if there is one
    hub: str | None = None  # Hugging Face repository, if there is one

    def __post_init__(self) -> None:
        for field in ("width", "text_width", "dim"):
            if getattr(self, field) % 64:
                raise ValueError(f"{field} must be a multiple of 64, got {getattr(self, field)}")
        if self.image_size % self.patch:
            raise ValueError(f"patches of {self.patch} do not tile {self.image_size} pixels")

    @property
    def patches(self) -> int:
        """Patches of one frame."""
        return (self.image_size // self.patch) ** 2


def _base(
    suffix: str, trained_on: str, file: str | None, *, patch: int = 16, frames: int = 8
) -> Variant:
    name = f"xclip-base-patch{patch}{suffix}"
    clip = f"ViT-B-{patch}-quickgelu"
    hub = f"microsoft/{name}"
    return Variant(name, clip, patch, frames, trained_on=trained_on, file=file, hub=hub)


def _large(suffix: str, trained_on: str, *, frames: int = 8, image_size: int = 224) -> Variant:
    name = f"xclip-large-patch14{suffix}"
    return Variant(
        name,
        "ViT-L-14-336-quickgelu" if image_size == 336 else "ViT-L-14-quickgelu",
        patch=14,
        frames=frames,
        image_size=image_size,
        width=1024,
        layers=24,
        text_width=768,
        dim=768,
        trained_on=trained_on,
        hub=f"microsoft/{name}",
    )


DEMO = Variant(
    "xclip-demo",
    clip=None,
    patch=16,
    frames=8,
    image_size=64,
    width=128,
    layers=4,
    text_width=64,
    text_layers=2,
    dim=128,
    vocabulary=1024,
    trained_on="nothing, or the demo world of skelfew-prepare demo",
)

_ALL = [
    _base("", "Kinetics-400", "k400_16_8.pth"),
    _base("-16-frames", "Kinetics-400", "k400_16_16.pth", frames=16),
    _base("", "Kinetics-400", "k400_32_8.pth", patch=32),
    _base("-16-frames", "Kinetics-400", "k400_32_16.pth", patch=32, frames=16),
    _base("-kinetics-600", "Kinetics-600", "k600_16_8.pth"),
    _base("-kinetics-600-16-frames", "Kinetics-600", "k600_16_16.pth", frames=16),
    *(
        _base(f"-{data}-{k}-shot", f"{title}, {k}-shot", f"few_{data}_{k}.pth", frames=32)
        for data, title in (("hmdb", "HMDB-51"), ("ucf", "UCF-101"))
        for k in (2, 4, 8, 16)
    ),
    _base("-zero-shot", "Kinetics-400, for zero-shot use", "zero.pth", frames=32),
    _large("", "Kinetics-400"),
    _large("-kinetics-600", "Kinetics-600"),
    _large("-16-frames", "Kinetics-400", frames=16, image_size=336),
    DEMO,
]

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _ALL}


@dataclass(frozen=True)
class ActionVariant:
    """Shape and origin of one ActionCLIP model: CLIP, and a transformer over the frames."""

    name: str
    patch: int  # side of a patch in pixels
    frames: int
    file: str  # stem of the file that mmaction2 publishes
    image_size: int = 224
    width: int = 768
    layers: int = 12
    text_width: int = 512
    text_layers: int = 12
    dim: int = 512
    vocabulary: int = 49408
    # Blocks over the frames, of an untrained model; a checkpoint brings its own
    fusion_layers: int = 6


# The original checkpoints have 77 positions and go with any of these of the same patch.
ACTION_VARIANTS: dict[str, ActionVariant] = {
    variant.name: variant
    for variant in (
        ActionVariant("actionclip-base-patch32", 32, 8, "vit-b-32-8f"),
        ActionVariant("actionclip-base-patch16", 16, 8, "vit-b-16-8f"),
        ActionVariant("actionclip-base-patch16-16-frames", 16, 16, "vit-b-16-16f"),
        ActionVariant("actionclip-base-patch16-32-frames", 16, 32, "vit-b-16-32f"),
    )
}

# The paper's "X-CLIP with ViT-B/16, 8 frames".
PAPER_TEACHER = "xclip-base-patch16"

"""Settings of an extraction, the same for both engines. Loads neither torch nor a decoder."""

from dataclasses import dataclass

from skelfew.data.manifest import Manifest
from skelfew.io.files import Document
from skelfew_extract.clips import DecodeSettings
from skelfew_extract.shard import Shard


@dataclass(frozen=True)
class Settings:
    """Settings of an extraction."""

    decode: DecodeSettings
    workers: int = 1
    batch: int = 8
    store_dtype: str = "float16"
    retry_failed: bool = False  # whether samples that failed earlier are tried again
    limit: int | None = None  # only the first so many samples of the manifest; None for all
    shard: Shard | None = None
    licence_note: str = ""  # what a receiver of the cache should know about the data's licence
    repair: bool = False  # first look for damaged rows in the cache and extract those again

    def rows(self, count: int) -> tuple[int, int]:
        """Return first row and one past the last that are to be done, of ``count`` rows."""
        first, stop = (0, count) if self.shard is None else self.shard.rows(count)
        return first, stop if self.limit is None else min(stop, self.limit)

    def preprocessing(self, manifest: Manifest) -> Document:
        """Return how clips become pictures, as a cache says it, without the teacher's colours."""
        crop = self.decode.crop
        # Versions before 0.2 knew neither edit lists nor rotation, and jumped where no index proves
        # the way. AVI has neither and was always counted through, so its caches are continued.
        counted = all(s.video.lower().endswith(".avi") for s in manifest if s.video)
        return {
            "sampling": "segment-midpoints",
            "frames": crop.frames,
            **({} if counted else {"pictures": "as shown"}),
            **({"views": crop.views} if crop.views > 1 else {}),
            "crop": crop.policy,
            "margin": crop.margin,
            "size": crop.size,
            "interpolation": f"{crop.interpolation}, antialiased, uint8",
        }

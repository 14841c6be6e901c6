"""Teacher caches: the features of a frozen teacher, one row per sample (cache/README.md)."""

from skelfew.cache.format.checks import CacheError
from skelfew.cache.format.history import IDENTITY
from skelfew.cache.format.storage import DONE, FAILED, PENDING
from skelfew.cache.format.stored import content_digest
from skelfew.cache.join import JoinedCache, join
from skelfew.cache.reader import REPRESENTATIONS, TeacherCache
from skelfew.cache.writer import CacheWriter

__all__ = [
    "DONE", "FAILED", "IDENTITY", "PENDING", "REPRESENTATIONS", "CacheError", "CacheWriter",
    "JoinedCache", "TeacherCache", "content_digest", "join",
]  # fmt: skip

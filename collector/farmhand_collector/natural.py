"""The order in which people count: n2 comes before n10."""

import re
from functools import lru_cache

Key = tuple[tuple[int, int | str], ...]


@lru_cache(maxsize=65536)
def natural(text: str) -> Key:
    """A sort key under which numbers within a name count as numbers."""
    parts = re.split(r"([0-9]{1,18})", text)
    return tuple(
        (0, int(part)) if index % 2 == 1 else (1, part) for index, part in enumerate(parts) if part
    )

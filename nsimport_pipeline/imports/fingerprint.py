"""Which failures are the same one: a fingerprint that ids, numbers, times and quoted values leave alone.

Belongs here: the pure function. Does not belong here: storing failures (``store/journal.py``), or what to do about them
(``failures.py``).
"""

import re
from hashlib import sha256

from nsimport_pipeline.errors import Category

_QUOTED = re.compile(r"""(?<!\w)(['"`]).*?\1(?!\w)""", re.DOTALL)
# A word with a digit in it: a number, an id, a date, a time, a hash, a key of NetSuite's.
_NUMBERED = re.compile(r"[\w.:+-]*\d(?:[\w.:+-]|,(?=\d))*")
_SEVERAL = re.compile(r"#(?:,? #)+")


def normalised(message: str) -> str:
    """A message without what differs from one occurrence to the next."""
    text = _NUMBERED.sub("#", _QUOTED.sub("?", message))
    return " ".join(_SEVERAL.sub("#", text).split())


def fingerprint(
    category: Category,
    message: str,
    *,
    record_type: str | None = None,
    table: str | None = None,
    column: str | None = None,
    constraint: str | None = None,
) -> str:
    """16 hexadecimal digits, the same for all occurrences of one failure of one record type."""
    parts = (category.value, record_type, table, column, constraint, normalised(message))
    return sha256("\x1f".join(part or "" for part in parts).encode()).hexdigest()[:16]

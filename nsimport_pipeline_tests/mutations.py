"""Documents and bodies spoilt in every way a sender, a proxy or an editor may spoil them.

Belongs here: mutations of JSON documents and of their bytes. Does not belong here: what must become of them.
"""

import copy
import json
from random import Random
from typing import Any

JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**25, 0.5, -1.5, 1e308, float("inf"), float("nan"),
    "", " ", "0", "-0", "7", "+7", "07", "7.0", "1e3", "0x1F", "1_000", "９", "T", "F", "true", "- None -", "null",
    "9" * 40, "9" * 6000, "a\x00b", "\ud800", "😀", "ﬀ\u200b", "'; DROP TABLE x; --", "../../etc/passwd", "x" * 5_000,
    "2026-02-30", "31/12/2026", [], [[]], {}, {"a": {"b": []}}, [None], ["id"], {"id": "1"}, {"links": []},
)  # fmt: skip


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside ``document``."""
    found: list[tuple[Any, ...]] = []
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        found.append((*path, key))
        found += places(value, (*path, key))
    return found


def spoilt(random: Random, document: Any) -> Any:
    """A copy of ``document`` with one thing in it removed, replaced, doubled, moved, renamed or added."""
    document = copy.deepcopy(document)
    there = places(document)
    if not there:
        return random.choice(JUNK)
    *above, last = random.choice(there)
    holder = document
    for key in above:
        holder = holder[key]
    match random.randrange(6):
        case 0:
            del holder[last]
        case 1 if isinstance(holder, list):
            holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(holder[last]))
        case 2 if isinstance(holder, list):
            random.shuffle(holder)
        case 1 | 2:
            value = holder.pop(last)
            holder[random.choice(("id", "ID", last.upper(), last[:-1], "links", "x" * 200, "a-b", ""))] = value
        case 3 if isinstance(holder[last], dict):
            holder[last][random.choice(("id", "Id", "extra", "count", "type"))] = random.choice(JUNK)
        case 3 if isinstance(holder[last], str):
            text = holder[last]
            cut = random.randrange(len(text) + 1)
            holder[last] = text[:cut] + random.choice(("", "\x00", "é", "  ", "9", "\ud800")) + text[cut:]
        case _:
            holder[last] = copy.deepcopy(random.choice(JUNK))
    return document


def written(document: Any) -> bytes:
    """JSON as a careless writer writes it: NaN and lone surrogates pass."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def garbled(random: Random, body: bytes) -> bytes:
    """``body`` cut off, with bytes changed, in another encoding, doubled, wrapped or nested too deeply."""
    place = random.randrange(len(body) + 1)
    match random.randrange(9):
        case 0:
            return body[:place]
        case 1:
            return body[:place] + bytes([random.randrange(256)]) + body[place + 1 :]
        case 2:
            return body[:place] + random.randbytes(random.randrange(1, 5)) + body[place:]
        case 3:
            return body.decode("utf-8", "replace").encode(random.choice(("utf-16", "utf-32-be", "utf-7")))
        case 4:
            return b"\xef\xbb\xbf" + body
        case 5:
            return body + body[place:]
        case 6:
            deep = random.choice((50, 1_500, 20_000))
            return b"[" * deep + body + b"]" * deep
        case 7:
            deep = random.choice((50, 1_500, 20_000))
            return body[:place] + b'{"a":' * deep + b"1" + b"}" * deep + body[place:]
        case _:
            return body[:place] + b"9" * random.choice((20, 400, 5_000)) + body[place:]

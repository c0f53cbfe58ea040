"""SuiteQL as text: tokens, bound parameters, statement shapes, and what SuiteQL refuses by name.

Belongs here: pure functions over the text of a statement, and Oracle's date formats. Does not belong here: tables and
columns (``suiteql_translate.py``), running anything (``suiteql_engine.py``).
"""

import re
from collections.abc import Sequence

PREFIX = "Invalid search query. Detailed unprocessed description follows. "


class SuiteQLError(Exception):
    """A statement that NetSuite refuses with 400; ``detail`` is the text it gives."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @classmethod
    def syntax(cls, near: str) -> "SuiteQLError":
        return cls(f"{PREFIX}Failed to parse SQL statement: syntax error near '{near[:40]}'.")

    @classmethod
    def search(cls, text: str) -> "SuiteQLError":
        return cls(f"{PREFIX}Search error occurred: {text}")

    @classmethod
    def unsupported(cls) -> "SuiteQLError":
        return cls.search("Invalid or unsupported search.")


class ColumnFailureError(Exception):
    """A column that makes NetSuite fail with 500 instead of saying what is wrong."""


_TOKEN = re.compile(
    r"""\s+|--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"[^"]*"|[^\W\d][\w$\#]*|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+|[<>!]=|<>|\|\||.""",
    re.DOTALL | re.VERBOSE,
)

FUNCTIONS = frozenset(
    """ABS ACOS ADD_MONTHS ASCII ASIN ATAN ATAN2 AVG BITAND CAST CEIL CF CHR COALESCE CONCAT CORR COS COSH COUNT
    COVAR_POP COVAR_SAMP CUME_DIST CURRENT_DATE CURRENT_TIMESTAMP DECODE DENSE_RANK DF EXP EXTRACT FLOOR FROM_TZ
    GREATEST INITCAP INSTR LAST_DAY LEAST LENGTH LENGTHB LN LOCALTIMESTAMP LOG LOWER LPAD LTRIM MAX MEDIAN MIN MOD
    MONTHS_BETWEEN NANVL NULLIF NVL NVL2 PERCENT_RANK POWER RANK REGEXP_COUNT REGEXP_INSTR REGEXP_LIKE REGEXP_REPLACE
    REGEXP_SUBSTR REPLACE ROUND ROW_NUMBER RPAD RTRIM SIGN SIN SINH SQRT STDDEV STDDEV_POP STDDEV_SAMP SUBSTR SUM
    SYS_EXTRACT_UTC TAN TANH TO_CHAR TO_CLOB TO_DATE TO_NCHAR TO_NUMBER TO_TIMESTAMP TO_TIMESTAMP_TZ TRANSLATE TRIM
    TRUNC UPPER VAR_POP VAR_SAMP VARIANCE""".split()
)
"""Functions of the documented list that this simulator can run; every other one is refused, as NetSuite would."""

_WORDS_BEFORE_PARENTHESIS = frozenset(
    "ALL AND ANY AS ASC BETWEEN BY CASE DESC DISTINCT ELSE EXCEPT EXISTS FROM HAVING IN INTERSECT IS JOIN LIKE MINUS "
    "NOT ON OR OVER PARTITION SELECT SOME THEN UNION USING VALUES WHEN WHERE WITHIN".split()
)
_OWN_FUNCTIONS = frozenset(
    "CF DF EXTRACT_UTC FROM_TZ MONTHS_BETWEEN SYS_EXTRACT_UTC TO_CHAR TO_DATE TO_NCHAR TO_TIMESTAMP TO_TIMESTAMP_TZ "
    "TRUNC".split()
)
"""Functions that are translated here and hidden from the parser's own idea of them."""
_NOW = frozenset("CURRENT_DATE CURRENT_TIMESTAMP LOCALTIMESTAMP SYSDATE SYSTIMESTAMP".split())
_SYNTAX_ERRORS = frozenset("WITH LIMIT INSERT UPDATE DELETE MERGE CREATE DROP ALTER QUALIFY".split())

SENTINEL = 7_100_000_000_000_000_000
"""Whole numbers of a statement are replaced by this and the ones after it, to get its shape."""
_MOMENT = re.compile(r"'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d'")
"""So are texts like this one, which every import has others of."""


def tokens(statement: str) -> list[str]:
    return _TOKEN.findall(statement)


def bind(statement: str, parameters: Sequence[object]) -> str:
    """``statement`` with each ``?`` outside of texts replaced by the next parameter."""
    waiting = list(parameters)
    words = []
    for word in tokens(statement):
        if word == "?":
            if not waiting:
                raise SuiteQLError.syntax("?")
            word = "'" + str(waiting.pop(0)).replace("'", "''") + "'"
        words.append(word)
    if waiting:
        raise SuiteQLError.syntax("params")
    return "".join(words)


def shape_of(statement: str) -> tuple[str, tuple[str, ...]]:
    """The statement with its whole numbers and moments replaced by sentinels, in the parser's terms, and these.

    Refuses what SuiteQL refuses by name. Raises SuiteQLError.
    """
    words = tokens(statement)
    solid = [i for i, word in enumerate(words) if word.strip() and not word.startswith(("--", "/*"))]
    if not solid or words[solid[0]].upper() not in ("SELECT", "("):
        raise SuiteQLError.syntax(words[solid[0]] if solid else "")
    numbers: list[str] = []
    result: list[str] = []
    for place, i in enumerate(solid):
        word, upper = words[i], words[i].upper()
        before = words[solid[place - 1]].upper() if place else ""
        after = words[solid[place + 1]] if place + 1 < len(solid) else ""
        if word.isdigit():
            numbers.append(word)
            word = str(SENTINEL + len(numbers) - 1)
        elif _MOMENT.fullmatch(word):
            numbers.append(word[1:-1])
            word = f"'{SENTINEL + len(numbers) - 1}'"
        elif before not in (".", "AS") and (upper[:1].isalpha() or upper[:1] == "_"):
            word = _checked_word(word, upper, before, after)
        elif upper in ("DF", "CF") and before == "." and after == "(":
            word = f"NS_{upper}"
        elif word in ("[", "]", "{", "}", "`", "@", "?", ";", "\\"):
            raise SuiteQLError.syntax(word)
        result.append(word)
    return _joined(result), tuple(numbers)


def _checked_word(word: str, upper: str, before: str, after: str) -> str:
    if upper in _NOW and after != ".":
        return "NS_NOW()" if after != "(" else "NS_NOW"
    if after == "(" and upper not in _WORDS_BEFORE_PARENTHESIS:
        if upper in _OWN_FUNCTIONS:
            return f"NS_{upper}"
        if upper not in FUNCTIONS:
            raise SuiteQLError.unsupported()
    if upper in _SYNTAX_ERRORS and (before == "" or upper in ("WITH", "LIMIT")) and after not in (",", ".", "=", ")"):
        raise SuiteQLError.syntax(word)
    if upper in ("DATE", "TIMESTAMP") and after.startswith("'"):
        raise SuiteQLError.unsupported()
    return word


def _joined(words: list[str]) -> str:
    """Words with blanks between, except around dots, so that ``BUILTIN.DF`` stays one name."""
    text = " ".join(words)
    return re.sub(r"(?<=[\w\"]) \. (?=[\w\"*])", ".", text) if "." in words else text


def fill(template: str, numbers: Sequence[str]) -> str:
    """A translated shape with its numbers put back."""
    return re.sub(r"71000000000000\d{5}", lambda m: numbers[int(m.group()) - SENTINEL], template)


_DATE_PARTS = (
    ("YYYY", "%Y", "%Y"),
    ("RRRR", "%Y", "%Y"),
    ("MONTH", "%B", "%B"),
    ("HH24", "%H", "%-H"),
    ("HH12", "%I", "%-I"),
    ("MON", "%b", "%b"),
    ("DAY", "%A", "%A"),
    ("DDD", "%j", "%-j"),
    ("FF3", "%g", "%g"),
    ("FF6", "%f", "%f"),
    ("YY", "%y", "%y"),
    ("RR", "%y", "%y"),
    ("MM", "%m", "%-m"),
    ("MI", "%M", "%-M"),
    ("DD", "%d", "%-d"),
    ("DY", "%a", "%a"),
    ("HH", "%I", "%-I"),
    ("SS", "%S", "%-S"),
    ("AM", "%p", "%p"),
    ("PM", "%p", "%p"),
    ("FF", "%f", "%f"),
    ("TZH:TZM", "%z", "%z"),
    ("TZR", "%Z", "%Z"),
    ("D", "%d", "%-d"),
    ("M", "%-m", "%-m"),
)


def date_format(oracle: str, *, account: bool = False) -> str | None:
    """An Oracle date format in strftime's terms, or None if it is not one (a number format, say).

    ``account``: the format is an account's preference (``M/D/YYYY``), where one letter means no padding.
    """
    result, place, bare, parts = "", 0, account, 0
    while place < len(oracle):
        rest = oracle[place:]
        if rest[0] == '"':
            end = rest.find('"', 1)
            end = len(rest) - 1 if end < 0 else end
            result += rest[1:end].replace("%", "%%")
            place += end + 1
            continue
        if rest[:2].upper() == "FM":
            bare, place = not bare, place + 2
            continue
        found = next((p for p in _DATE_PARTS if rest.upper().startswith(p[0])), None)
        if found is None:
            if rest[0].isalnum():
                return None
            result += rest[0].replace("%", "%%")
            place += 1
            continue
        lone = account and len(found[0]) == 1
        result += found[2] if (bare and not account) or lone else found[1]
        parts, place = parts + 1, place + len(found[0])
    return result if parts else None

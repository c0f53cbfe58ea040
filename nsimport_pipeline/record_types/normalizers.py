"""The named rules that a criteria file can ask for: column normalizers and row rules.

Belongs here: what a record type needs beyond fields and types, as pure functions in one table by name.
Does not belong here: reading values by type (``parse.py``), or applying these to rows (``transform.py``).

A *normalizer* turns one text of NetSuite into the text to be read by the field's type, or None for "no value" (which
then becomes the field's default). A *row rule* fills columns of a batch from one another, in place.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from unicodedata import category
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.record_types.criteria import FieldSpec, RecordType
from nsimport_pipeline.record_types.dates import AccountFormats
from nsimport_pipeline.record_types.numbers import UnfitError, number
from nsimport_pipeline.record_types.parse import column_parser

Column = npt.NDArray[np.object_]
Normalizer = Callable[[str, FieldSpec], str | None]
Rule = Callable[[Mapping[str, Column], Mapping[str, FieldSpec]], None]


_LINE_BREAK = re.compile(r"<br\s*/?>|\r\n?|\u2028", re.IGNORECASE)
_STATUS_PREFIX = re.compile(r"^.*:|^(?:LEAD|PROSPECT|CUSTOMER|PROJECT)-")
_UNTIDY = re.compile(r"[<\r\u2028]|\n\s|[^\S\n]\n|^\s|\s$")


def slug(text: str) -> str:
    """``Pending Billing/Partially Fulfilled`` → ``pending_billing_partially_fulfilled``, in any script."""
    slugged = ""
    for letter in text.casefold():
        # A vowel sign or accent belongs to the letter before it, though Python calls it no letter.
        marks = slugged[-1:] not in ("", "_") and category(letter).startswith("M")
        slugged += letter if letter.isalnum() or marks else "_" if slugged[-1:] != "_" else ""
    return slugged.strip("_")


def status(text: str, field: FieldSpec, words: Mapping[str, str]) -> str | None:
    """The word for a status: of its display text (``Invoice : Open``, ``PROJECT-Closed``), its full code or its letter.

    A status that the table does not know becomes its own words in snake case.
    """
    word = _STATUS_PREFIX.sub("", text.strip())
    return words.get(slug(word)) or slug(word) or None


def percentage(text: str, field: FieldSpec) -> str | None:
    """A share of one as a percentage: ``0.125`` → ``12.5``. Text with a percent sign is one already."""
    if "%" in text:
        return text
    try:
        share = number(text)
    except UnfitError:
        return text
    if share is None:
        return None
    sign, digits, exponent = share.as_tuple()
    return format(Decimal((sign, digits, int(exponent) + 2)), "f")


def address(text: str, field: FieldSpec) -> str | None:
    """An address as lines parted by one line feed: HTML breaks and carriage returns gone, no blank lines or ends."""
    if not _UNTIDY.search(text):
        return text or None
    lines = _LINE_BREAK.sub("\n", text).split("\n")
    return "\n".join(kept for line in lines if (kept := line.strip())) or None


def enum(text: str, field: FieldSpec) -> str | None:
    """One of the words that the field's ``values`` lead to; any other word is no value, so becomes the default."""
    return text if text in (field.values or {}).values() else None


def snake_case(text: str, field: FieldSpec) -> str | None:
    """Words in snake case: ``NON_BILLABLE`` → ``non_billable``."""
    return slug(text) or None


def _words(**words: str) -> Normalizer:
    """Status words by the slug of the text, and by letter, full code or old word where these differ."""
    known = {word: word for word in words.values()}
    return partial(status, words={**known, **words})


NORMALIZERS: Mapping[str, Normalizer] = {
    "address": address,
    "enum": enum,
    "percentage": percentage,
    "snake_case": snake_case,
    "invoice_status": _words(
        a="open", b="paid", paid_in_full="paid", v="voided", d="pending_approval", e="rejected", open="open"
    ),
    "fulfillment_status": _words(
        a="picked", b="packed", c="shipped", not_shipped="not_shipped", partially_shipped="partially_shipped"
    ),
    "sales_order_status": _words(
        a="pending_approval",
        b="pending_fulfillment",
        c="cancelled",
        d="partially_fulfilled",
        e="pending_billing_partially_fulfilled",
        f="pending_billing",
        g="billed",
        h="closed",
        canceled="cancelled",
        pending_fulfilment="pending_fulfillment",
    ),
    "opportunity_status": _words(a="in_progress", b="issued_estimate", c="closed_won", d="closed_lost"),
    "project_status": _words(
        in_progress="in_progress",
        open="open",
        not_started="not_started",
        awarded="awarded",
        pending="pending",
        closed="closed",
        not_awarded="not_awarded",
        completed="completed",
        canceled="cancelled",
    ),
}
"""What ``normalize`` of a field can say."""


@dataclass(frozen=True, slots=True)
class RowRule:
    """A rule over several columns: those it cannot do without, those it uses if they are there."""

    columns: tuple[str, ...]
    optional: tuple[str, ...]
    apply: Rule


def person_or_company(columns: Mapping[str, Column], fields: Mapping[str, FieldSpec]) -> None:
    """The names that a person or a company must have, filled from each other where NetSuite left them empty.

    A record that does not say what it is, is a person if it has a personal name and no company name. A company without
    a company name gets its alternative name, its personal name, or the name it is listed by; a person without a
    personal name gets one of these as last name. A person's company name is the full name. Names that are there stay.
    """
    absent = np.full(len(columns["is_person"]), None, dtype=object)
    first, last = columns["first_name"], columns["last_name"]
    company, listed = columns["company_name"], columns.get("entity_id", absent)
    alternative = columns.get("alternative_name", absent)
    unsaid = _missing(columns["is_person"])
    nameless = _blank(first) & _blank(last)
    columns["is_person"][unsaid] = (~nameless & _blank(company))[unsaid]
    person = columns["is_person"].astype(bool)

    for row in np.flatnonzero(person & nameless):
        last[row] = _cut(company[row] or alternative[row] or listed[row], fields["last_name"])
    for row in np.flatnonzero(_blank(company)):
        full = " ".join(name for name in (first[row], last[row]) if name)
        choices = (full, alternative[row], listed[row]) if person[row] else (alternative[row], full, listed[row])
        company[row] = _cut(next(filter(None, choices), None), fields["company_name"])
    for row in np.flatnonzero(_blank(listed) & ~_blank(company)) if "entity_id" in columns else ():
        listed[row] = _cut(company[row], fields["entity_id"])


def _blank(column: Column) -> npt.NDArray[np.bool_]:
    return np.asarray(_missing(column) | (column == ""), dtype=np.bool_)


def _missing(column: Column) -> npt.NDArray[np.bool_]:
    import pandas as pd  # not at the top: only runs need it, and every process reads the rules' names

    return pd.isna(column)


def _cut(text: str | None, field: FieldSpec) -> str | None:
    """A filled name may be cut: the names it was made of are stored whole in columns of their own."""
    return text[: field.length] if text else text


RULES: Mapping[str, RowRule] = {
    "person_or_company": RowRule(
        ("is_person", "company_name", "first_name", "last_name"), ("entity_id", "alternative_name"), person_or_company
    ),
}
"""What ``rules`` of a record type can say."""


def check_names(record_type: RecordType, where: Path | str) -> None:
    """Check that the normalizers, rules and defaults a record type names exist and can work on it.

    Raises ConfigurationError naming ``where`` and the key at fault.
    """
    account = AccountFormats(ZoneInfo("UTC"))
    for field in record_type.fields:
        key = f"{where}: fields.{field.name}"
        if field.normalize is not None and field.normalize not in NORMALIZERS:
            raise ConfigurationError(
                f"{key}.normalize: unknown normalizer {field.normalize!r}; known are {', '.join(sorted(NORMALIZERS))}"
            )
        if field.normalize == "enum" and not field.values:
            raise ConfigurationError(f"{key}.values: the normalizer 'enum' needs them")
        if field.default is not None:
            (default,), problems = column_parser(field, account)([field.default])
            if problems or (default is None and not field.nullable):
                raise ConfigurationError(f"{key}.default: {problems.get(0, 'is no value of the type')}")
    names = {field.name for field in record_type.fields}
    for rule in record_type.rules:
        if rule not in RULES:
            raise ConfigurationError(f"{where}: rules: unknown rule {rule!r}; known are {', '.join(sorted(RULES))}")
        if missing := [column for column in RULES[rule].columns if column not in names]:
            raise ConfigurationError(f"{where}: rules: {rule} needs the fields {', '.join(missing)}")

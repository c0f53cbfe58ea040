"""The typed model of a ``criteria.json``, and the loader of the catalogue.

Belongs here: what a criteria file may say, and reading the files. Does not belong here: the dependency graph
(``graph.py``), or anything derived from a criteria (query, table, transform, asset), which is made where it is used.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nsimport_pipeline.errors import ConfigurationError

CATALOG_DIRECTORY = Path(__file__).parent / "catalog"

RESERVED_COLUMNS = frozenset({"refid", "external_id", "raw", "imported_at", "import_id", "deleted_at"})
"""Columns that every imported table has; a field cannot be called so."""

Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
SourceIdentifier = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,127}$")]
Deletes = Literal["mark", "remove"]
FieldType = Literal[
    "string", "text", "integer", "decimal", "money", "percent", "boolean", "date", "datetime", "reference", "json"
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FieldSpec(_Strict):
    """One column of the imported table, and where in NetSuite it comes from."""

    name: Identifier
    """Column name in the tenant's database."""
    description: str = ""
    source: SourceIdentifier | None = None
    """Column name in NetSuite; default: ``name``. Not together with ``expression``."""
    expression: str | None = None
    """SuiteQL expression for a computed field, over the table alias ``t``."""
    type: FieldType
    length: Annotated[int, Field(ge=1, le=16_000)] = 255
    """Characters, for ``string``."""
    precision: Annotated[int, Field(ge=1, le=65)] = 24
    scale: Annotated[int, Field(ge=0, le=30)] = 8
    """Digits, for ``decimal``; ``money`` and ``percent`` have fixed ones (see ``warehouse/schema.py``)."""
    nullable: bool = True
    default: str | int | bool | None = None
    """What a missing value becomes, as the text NetSuite would have sent or a JSON scalar."""
    truncate: bool = False
    """Whether a text that is too long may be cut. Otherwise the row is rejected."""
    references: Identifier | None = None
    """Record type that a ``reference`` points to."""
    display: bool = False
    """``string``: take the display text (``BUILTIN.DF``) instead of the stored code.
    ``reference``: keep the display text too, in a column ``<name without _id>_display``."""
    values: dict[str, str] | None = None
    """What NetSuite's words become (matched without case); other words are kept as they are."""
    normalize: Identifier | None = None
    """Name of a normalizer (``normalizers.py``) applied to the column."""

    @model_validator(mode="after")
    def _consistent(self) -> "FieldSpec":
        if self.name in RESERVED_COLUMNS:
            raise ValueError(f"field name {self.name!r} is reserved (every imported table has that column)")
        if self.source is not None and self.expression is not None:
            raise ValueError(f"field {self.name!r} has both source and expression; keep one")
        if self.references is not None and self.type != "reference":
            raise ValueError(f"field {self.name!r} has references but is not of type reference")
        if self.display and self.type not in ("string", "reference"):
            raise ValueError(f"field {self.name!r}: display goes with type string or reference")
        if not self.nullable and self.default is None:
            raise ValueError(f"field {self.name!r} is not nullable and has no default")
        return self

    @property
    def key(self) -> str:
        """The lower-case key under which this field's value stands in a row of NetSuite."""
        return self.name if self.expression is not None else (self.source or self.name).lower()

    @property
    def display_key(self) -> str:
        """The key under which the display text stands, for ``display`` fields."""
        return f"{self.key}_display"

    @property
    def display_column(self) -> str | None:
        """The column for the display text beside a reference, or None."""
        if not (self.display and self.type == "reference"):
            return None
        return self.name.removesuffix("_id") + "_display"


class Source(_Strict):
    """Where the records come from in NetSuite."""

    from_: SourceIdentifier = Field(alias="from")
    """SuiteQL table."""
    key: SourceIdentifier = "id"
    """Unique, ascending, integer column: partitions are ranges of it, upserts go by it."""
    parent: SourceIdentifier | None = None
    """Column with the id of the record that a derived type's record is part of: partitions are ranges of that."""
    where: str | None = None
    """SuiteQL condition that picks this record type out of the table."""
    last_modified: SourceIdentifier | None = None
    """Column with the time of the last change, if the table has one."""
    external_id: SourceIdentifier | None = None
    """Column with the id that another system gave the record (``externalid``), if the table has one."""
    requires: str | None = None
    """The NetSuite feature this table belongs to, named in messages when it is off."""
    permission: str | None = None
    """The permission that a role needs to see the table, as NetSuite's role page names it."""


class RecordType(_Strict):
    """One ``criteria.json``."""

    record_type: Identifier
    family: Identifier
    table: Identifier
    description: str
    source: Source
    dependencies: tuple[Identifier, ...] = ()
    derived_from: tuple[Identifier, ...] = ()
    """Parents that must be in the database before this type's batches can be planned."""
    fields: tuple[FieldSpec, ...]
    rules: tuple[Identifier, ...] = ()
    """Names of row rules (``normalizers.py``) that look at several columns at once."""
    deletes: Deletes | None = None
    """What becomes of rows that NetSuite has deleted; None: those of a derived type are removed, others marked."""

    @model_validator(mode="after")
    def _consistent(self) -> "RecordType":
        seen: set[str] = set()
        for field in self.fields:
            for column in (field.name, field.display_column):
                if column is not None and column in seen:
                    raise ValueError(f"duplicate column {column!r}")
                if column is not None:
                    seen.add(column)
        return self

    @property
    def name(self) -> str:
        return self.record_type

    @cached_property
    def upstream(self) -> tuple[str, ...]:
        """Every record type that must be imported before this one: dependencies and parents."""
        return tuple(dict.fromkeys((*self.dependencies, *self.derived_from)))

    @cached_property
    def parent_field(self) -> FieldSpec | None:
        """The field that holds the id of the record that a derived type's record is part of."""
        parent = (self.source.parent or "").lower()
        return next((f for f in self.fields if f.expression is None and f.key == parent), None)

    @cached_property
    def range_column(self) -> str:
        """The column of the imported table that batches are ranges of."""
        return self.parent_field.name if self.derived_from and self.parent_field else "refid"

    @property
    def removes(self) -> bool:
        """Whether rows that NetSuite has deleted are removed, not marked."""
        return (self.deletes or ("remove" if self.derived_from else "mark")) == "remove"

    def adapted(
        self,
        extra_fields: Iterable[str] = (),
        exclude_fields: Iterable[str] = (),
        deletes: Deletes | None = None,
    ) -> "RecordType":
        """This record type as a tenant wants it.

        With its own NetSuite columns as texts, without the fields it leaves out, with its way to treat deleted rows.
        """
        excluded = {name.lower() for name in exclude_fields}
        names = dict.fromkeys(name.lower() for name in extra_fields)
        own = [FieldSpec(name=name, type="text", description="Custom field.") for name in names]
        known = {field.name for field in self.fields}
        fields = [
            f for f in self.fields if f is self.parent_field or (f.name not in excluded and f.key not in excluded)
        ]
        fields += [field for field in own if field.name not in known]
        changes: dict[str, Any] = {"fields": tuple(fields)} if fields != list(self.fields) else {}
        if deletes is not None:
            changes["deletes"] = deletes
        return self.model_copy(update=changes) if changes else self

    @cached_property
    def version(self) -> str:
        """Fingerprint of the criteria, stable over processes: the asset's code version."""
        return sha256(self.model_dump_json(by_alias=True, exclude={"deletes"}).encode()).hexdigest()[:12]

    def __hash__(self) -> int:
        return hash(self.version)  # a field's ``values``, a dict, have none


class Catalog(Mapping[str, RecordType]):
    """All record types by name, checked against each other. Iterates in name order."""

    def __init__(self, record_types: Mapping[str, RecordType]) -> None:
        self._record_types = dict(sorted(record_types.items()))

    def __getitem__(self, name: str) -> RecordType:
        return self._record_types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._record_types)

    def __len__(self) -> int:
        return len(self._record_types)

    def require(self, name: str) -> RecordType:
        """The record type called ``name``; raises ConfigurationError that lists near names."""
        if name not in self:
            from difflib import get_close_matches

            near = get_close_matches(name, list(self), n=3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`nsimport record-types` lists them"
            raise ConfigurationError(f"unknown record type {name!r}: {hint}")
        return self[name]


def load_catalog(extra: Path | str | None = None) -> Catalog:
    """Read the built-in criteria, then those below ``extra``, which add to them or replace them.

    A criteria file is ``<directory>/<record type>/criteria.json``.
    Raises ConfigurationError naming the file and the key at fault.
    """
    files: dict[str, Path] = {}
    record_types: dict[str, RecordType] = {}
    directories = [CATALOG_DIRECTORY]
    if extra:
        extra = Path(extra)
        if not extra.is_dir():
            raise ConfigurationError(f"NSIMPORT_CRITERIA_PATH is not a directory: {extra}")
        directories.append(extra)
    for directory in directories:
        for file in sorted(directory.glob("*/criteria.json")):
            record_type = load_criteria(file)
            files[record_type.name] = file
            record_types[record_type.name] = record_type
    return checked_catalog(record_types, files)


def checked_catalog(record_types: Mapping[str, RecordType], files: Mapping[str, Path | str]) -> Catalog:
    """The catalogue of ``record_types``, which must fit together.

    Raises ConfigurationError naming the key at fault, and the file as ``files`` has it for a record type.
    """
    from nsimport_pipeline.record_types.graph import check_graph
    from nsimport_pipeline.record_types.normalizers import check_names

    places = {name: files.get(name, f"record type {name}") for name in record_types}
    check_graph(record_types, places)
    for name, record_type in record_types.items():
        check_names(record_type, places[name])
    return Catalog(record_types)


def load_criteria(file: Path) -> RecordType:
    """Read one criteria file. Raises ConfigurationError naming the file and the key at fault."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_constant)
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"{file}: a text holds half a character (a lone surrogate)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{file}: not valid JSON: line {error.lineno}: {error.msg}") from None
    except (RecursionError, ValueError):
        raise ConfigurationError(f"{file}: not valid JSON: nested too deeply, or a number that is none") from None
    return parse_criteria(document, str(file))


def _no_constant(name: str) -> None:
    raise ValueError(name)


def parse_criteria(document: Any, where: str) -> RecordType:
    """Check one criteria document. Raises ConfigurationError naming ``where`` and the key at fault."""
    try:
        return RecordType.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part)[:80] for part in first["loc"]) or "(top level)"
        message = re.sub(r"^Value error, ", "", first["msg"])
        raise ConfigurationError(f"{where}: {key}: {message}") from None

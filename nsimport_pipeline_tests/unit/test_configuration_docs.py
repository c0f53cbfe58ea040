"""docs/configuration.md says of each setting what the code does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nsimport_pipeline import settings
from nsimport_pipeline.retry_settings import Retries
from nsimport_pipeline.schedule_settings import Schedule
from nsimport_pipeline.settings import ENVIRONMENT_DEFAULTS, OAuth2, RecordTypeOptions, Tenant, TokenBased

DOCUMENT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|", re.MULTILINE)


def documented() -> dict[str, str]:
    rows = ROW.findall(DOCUMENT)
    assert len(rows) == len({key for key, _ in rows}), "a setting is documented twice"
    return {key: default.strip().strip("`") for key, default in rows}


def shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def leaves(prefix: str, value: BaseModel) -> Iterator[tuple[str, str]]:
    """Every setting below a model that has its defaults, with its default."""
    for name in type(value).model_fields:
        below = getattr(value, name)
        if isinstance(below, BaseModel):
            yield from leaves(f"{prefix}{name}.", below)
        else:
            yield f"{prefix}{name}", shown(below)


def fields(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", "required" if field.is_required() else shown(_default(field))


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def in_the_code() -> dict[str, str]:
    nested = {"name", "auth", "record_types", "retries", "circuit", "alert_rules", "schedules"}
    tenant = {key: default for key, default in fields("", Tenant) if key not in nested}
    auth = dict(fields("auth.", OAuth2)) | dict(fields("auth.", TokenBased))
    options = dict(fields("record_types.<type>.", RecordTypeOptions))
    retries = dict(leaves("retries.", Retries.model_validate({})))
    circuit = dict(leaves("circuit.", _default(Tenant.model_fields["circuit"])))
    alert_rules = dict(leaves("alert_rules.", _default(Tenant.model_fields["alert_rules"])))
    schedules = dict(fields("schedules.<name>.", Schedule))
    return schedules | tenant | auth | options | retries | circuit | alert_rules


def test_every_setting_is_documented_with_its_default_and_none_that_is_not_there() -> None:
    variables = {"NSIMPORT_TENANTS", "NSIMPORT_CRITERIA_PATH", "DAGSTER_HOME", *ENVIRONMENT_DEFAULTS}
    assert {key: default for key, default in documented().items() if key not in variables} == in_the_code()


def test_every_environment_variable_that_is_read_is_documented() -> None:
    source = Path(settings.__file__).read_text(encoding="utf-8")
    read = set(re.findall(r'environment\.get\("([A-Z_]+)"\)', source)) | set(ENVIRONMENT_DEFAULTS)
    assert read <= set(documented())
    for variable, key in ENVIRONMENT_DEFAULTS.items():
        assert f"| `{variable}` | none | default of `{key}` |" in DOCUMENT

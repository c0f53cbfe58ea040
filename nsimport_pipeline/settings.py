"""The only reader of environment variables and ``tenants.yaml``.

Belongs here: every setting, its default, its check, and where it comes from. Does not belong here: anything that acts
on a setting. ``${VAR}`` is filled when a tenant is asked for, so that one tenant's missing variable
stops that tenant only.
"""

import os
import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator

from nsimport_pipeline.alert_settings import AlertRules
from nsimport_pipeline.errors import ConfigurationError, RefusedError
from nsimport_pipeline.retry_settings import CircuitSettings, Retries, StrictModel
from nsimport_pipeline.schedule_settings import Schedule, ScheduleName, known_zone

TENANT_NAME = re.compile(r"^[a-z0-9_]{1,32}$")
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://\S+$")
NESTED = ("retries", "circuit", "alert_rules", "schedules")
"""Keys whose values are laid over those of ``defaults`` key by key."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

DATE_FORMATS = (
    "M/D/YYYY",
    "D/M/YYYY",
    "D-Mon-YYYY",
    "D.M.YYYY",
    "D-MONTH-YYYY",
    "D MONTH, YYYY",
    "YYYY/M/D",
    "YYYY-M-D",
    "DD/MM/YYYY",
    "DD-Mon-YYYY",
    "DD.MM.YYYY",
    "DD-MONTH-YYYY",
    "DD MONTH, YYYY",
    "MM/DD/YYYY",
    "YYYY/MM/DD",
    "YYYY-MM-DD",
)
"""The date formats a NetSuite account can be set to."""

ENVIRONMENT_DEFAULTS = {
    "WAVE_SIZE": "wave_size",
    "WAVE_COMPLETION_THRESHOLD": "completion_threshold",
    "WAVE_RETRY_ATTEMPTS": "retry_attempts",
    "WAVE_TIMEOUT": "wave_timeout",
    "WAVE_CONTINUE_ON_PERMANENT": "continue_on_permanent",
}
"""Environment variables that set a default: stronger than ``defaults`` in the file, weaker than a tenant's own key."""


class OAuth2(StrictModel):
    """OAuth 2.0 client credentials: a signed assertion for a one-hour token."""

    method: Literal["oauth2"]
    client_id: SecretStr
    certificate_id: SecretStr
    private_key_file: Path
    algorithm: Literal["PS256", "ES256"] = "PS256"


class TokenBased(StrictModel):
    """Token-based authentication (OAuth 1.0a, HMAC-SHA256)."""

    method: Literal["tba"]
    consumer_key: SecretStr
    consumer_secret: SecretStr
    token_id: SecretStr
    token_secret: SecretStr


class RecordTypeOptions(StrictModel):
    """What a tenant changes for one record type."""

    enabled: bool = True
    extra_fields: tuple[str, ...] = ()
    exclude_fields: tuple[str, ...] = ()
    batch_size: Annotated[int, Field(ge=1, le=1000)] = 1000
    deletes: Literal["mark", "remove"] | None = None
    """What becomes of rows that NetSuite has deleted; None: what the criteria say."""


class Tenant(StrictModel):
    """One company: one NetSuite account, one database, its own slots. Times are in seconds."""

    name: str
    account: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+([_-][A-Za-z0-9]+)*$")]
    base_url: str | None = None
    auth: Annotated[OAuth2 | TokenBased, Field(discriminator="method")]
    warehouse_url: SecretStr
    slots: Annotated[int, Field(ge=1, le=500)] = 5
    timezone: str = "America/Los_Angeles"
    date_format: str = "M/D/YYYY"
    """The account's, for dates that NetSuite does not give as ISO text."""
    record_types: dict[str, RecordTypeOptions] = Field(default_factory=dict)
    enabled: bool | Literal["database"] = True
    """Whether new imports may begin; ``database``: the flag ``nsimport`` in the tenant's ``feature_flags`` decides."""
    store_raw: bool = True
    wave_size: Annotated[int, Field(ge=1, le=10_000)] = 300
    completion_threshold: Annotated[float, Field(gt=0, le=100)] = 90
    retry_attempts: Annotated[int, Field(ge=0, le=100)] = 3
    wave_timeout: Annotated[int, Field(ge=1)] = 1800
    batch_timeout: Annotated[int, Field(ge=1)] = 300
    """For all requests of a batch and the pauses after failures; waiting for NetSuite's slots is not counted."""
    request_timeout: Annotated[int, Field(ge=1)] | None = None
    """For one answer of NetSuite; by default ``batch_timeout``, which bounds it in any case."""
    continue_on_permanent: bool = True
    rejected_share: Annotated[float, Field(ge=0, le=100)] = 1
    """Percent of a record type's records that may be rejected before the import counts as one with failures."""
    overlap: Annotated[int, Field(ge=0)] = 86_400
    """Seconds that an incremental import looks back beyond the last one: for records that are committed late."""
    retries: Retries = Retries.model_validate({})
    circuit: CircuitSettings = CircuitSettings()
    alerts: tuple[SecretStr, ...] = ()
    """Addresses in Apprise's form (``mailtos://…``, ``slack://…``) that alerts are sent to."""
    alert_rules: AlertRules = AlertRules()
    schedules: dict[ScheduleName, Schedule] = Field(default_factory=dict)

    @field_validator("alerts")
    @classmethod
    def _addresses(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, address in enumerate(value, start=1):
            if not _ADDRESS.match(address.get_secret_value()):
                raise ValueError(f"number {number} is no address such as mailtos://… or jsons://host/path")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        return known_zone(value)

    @field_validator("date_format")
    @classmethod
    def _known_date_format(cls, value: str) -> str:
        if value not in DATE_FORMATS:
            raise ValueError(f"{value!r} is none of NetSuite's date formats: {', '.join(DATE_FORMATS)}")
        return value

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"^https?://[^/@\s]+/?$", value):
            raise ValueError("must look like https://host or http://host:port, with no user, password or path")
        return value.rstrip("/") if value else None

    @property
    def account_host(self) -> str:
        """The account in host names: lower case with hyphens (``1234567-sb1``)."""
        return self.account.lower().replace("_", "-")

    @property
    def realm(self) -> str:
        """The account in OAuth 1.0a realms: upper case with underscores (``1234567_SB1``)."""
        return self.account.upper().replace("-", "_")

    @property
    def url(self) -> str:
        """Base of every NetSuite address, without a slash at the end."""
        return self.base_url or f"https://{self.account_host}.suitetalk.api.netsuite.com"

    @property
    def answer_seconds(self) -> float:
        """How long NetSuite may take over one answer."""
        return float(min(self.batch_timeout, self.request_timeout or self.batch_timeout))

    @property
    def pool(self) -> str:
        """The Dagster pool whose slots are this tenant's requests in flight."""
        return pool_name(self.name)

    def options(self, record_type: str) -> RecordTypeOptions:
        return self.record_types.get(record_type, RecordTypeOptions())


_SCHEDULES = TypeAdapter(dict[Literal["schedules"], dict[ScheduleName, Schedule]])


def pool_name(tenant: str) -> str:
    return f"netsuite_{tenant}"


class Settings:
    """All tenants as the file has them; a tenant is checked in full when it is asked for."""

    def __init__(self, document: Mapping[str, Any], file: Path, environment: Mapping[str, str]) -> None:
        self._document = document
        self._environment = environment
        self.file = file

    @classmethod
    def load(cls, file: Path | None = None, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read ``tenants.yaml``. Raises ConfigurationError that says what is wrong and where."""
        environment = os.environ if environment is None else environment
        file = Path(file or environment.get("NSIMPORT_TENANTS") or "tenants.yaml").absolute()
        try:
            document = _parsed(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(
                f"no tenants file at {file}: copy tenants.example.yaml there, or set NSIMPORT_TENANTS"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file}: cannot be read: {error}") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" line {mark.line + 1}" if mark else ""
            raise ConfigurationError(f"{file}:{line} not valid YAML") from None
        if not isinstance(document, dict) or not isinstance(document.get("tenants"), dict):
            raise ConfigurationError(f"{file}: tenants: must be a mapping of tenant names to their settings")
        unknown = set(document) - {"defaults", "tenants"}
        if unknown:
            raise ConfigurationError(f"{file}: {sorted(unknown)[0]}: unknown key (defaults and tenants are known)")
        if not isinstance(document.get("defaults") or {}, dict):
            raise ConfigurationError(f"{file}: defaults: must be a mapping")
        for name, body in document["tenants"].items():
            if not isinstance(name, str) or not TENANT_NAME.match(name):
                raise ConfigurationError(f"{file}: tenants.{name}: a tenant's name is 1 to 32 of a-z, 0-9 and _")
            if not isinstance(body, dict):
                raise ConfigurationError(f"{file}: tenants.{name}: must be a mapping")
        return cls(document, file, environment)

    @property
    def tenant_names(self) -> list[str]:
        return sorted(self._document["tenants"])

    def tenant(self, name: str) -> Tenant:
        """The checked settings of one tenant, with every ``${VAR}`` filled in.

        Raises ConfigurationError for an unknown tenant, a missing variable or a wrong value.
        """
        if name not in self._document["tenants"]:
            known = ", ".join(self.tenant_names) or "none"
            raise ConfigurationError(f"unknown tenant {name!r} ({self.file} has: {known})")
        body = self._filled(self._merged(name), f"tenants.{name}")
        if "name" in body:
            raise ConfigurationError(
                f"{self._place(name, ('name',))}: unknown key: a tenant's name is the key above it"
            )
        body["name"] = name
        try:
            tenant = Tenant.model_validate(body)
        except ValidationError as error:
            raise self._wrong(name, error) from None
        return self._anchored(tenant)

    def schedules(self, name: str) -> dict[str, Schedule]:
        """A tenant's schedules, read without its secrets, each with a time zone. Raises ConfigurationError."""
        body = self._filled(self._merged(name).get("schedules") or {}, f"tenants.{name}.schedules")
        zone = self._merged(name).get("timezone", Tenant.model_fields["timezone"].default)
        try:
            found = _SCHEDULES.validate_python({"schedules": body})["schedules"]
            zone = known_zone(str(zone))
        except ValidationError as error:
            raise self._wrong(name, error) from None
        except ValueError as error:
            raise ConfigurationError(f"{self._place(name, ('timezone',))}: {error}") from None
        return {key: each.model_copy(update={"timezone": each.timezone or zone}) for key, each in found.items()}

    def enabled_tenant(self, name: str) -> Tenant:
        """Like ``tenant``; raises RefusedError if the file switches it off (``imports/rollout.py`` knows the rest)."""
        switched_off = name in self._document["tenants"] and self._merged(name).get("enabled") is False
        # One that is switched off may still lack half of its settings.
        tenant = None if switched_off else self.tenant(name)
        if tenant is None or tenant.enabled is False:
            raise RefusedError(f"tenant {name!r} is not enabled: set enabled: true in {self.file}")
        return tenant

    def number(self, name: str, key: str, otherwise: float) -> float:
        """One numeric setting of a tenant, read without its secrets; ``otherwise`` if it is not set or no number."""
        value = self._merged(name).get(key, otherwise) if name in self._document["tenants"] else otherwise
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise

    def warehouse_location(self, name: str) -> str:
        """Where a tenant's tables are, as ``scheme://host/database`` without user, password or variables' values."""
        url = str(self._merged(name).get("warehouse_url") or "")
        scheme, _, rest = url.partition("://")
        place = rest.rpartition("@")[2].partition("?")[0]
        return f"{scheme.partition('+')[0] or 'unknown'}://{place.rstrip('/')}"

    def _merged(self, name: str) -> dict[str, Any]:
        defaults = {**(self._document.get("defaults") or {}), **self._from_environment()}
        own = self._document["tenants"][name]
        nested = {key: _laid_over(defaults.get(key), own[key]) for key in NESTED if key in own}
        return {**defaults, **own, **nested}

    def _from_environment(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for variable, key in ENVIRONMENT_DEFAULTS.items():
            if text := self._environment.get(variable):
                try:
                    values[key] = yaml.safe_load(text)
                except yaml.YAMLError:
                    raise ConfigurationError(f"environment variable {variable}: not a valid value") from None
        return values

    def _wrong(self, name: str, error: ValidationError) -> ConfigurationError:
        """The first thing that is wrong with a tenant's settings, and where."""
        first = error.errors(include_url=False, include_input=False)[0]
        return ConfigurationError(f"{self._place(name, first['loc'])}: {first['msg'].removeprefix('Value error, ')}")

    def _place(self, name: str, location: tuple[int | str, ...]) -> str:
        """Where a setting of a tenant was made: file and key, or the environment variable."""
        key = location[0]
        path = ".".join(str(part) for part in location)
        if key not in self._document["tenants"][name]:
            variable = next((v for v, k in ENVIRONMENT_DEFAULTS.items() if k == key and self._environment.get(v)), None)
            if variable is not None:
                return f"environment variable {variable}"
            if key in (self._document.get("defaults") or {}):
                return f"{self.file}: defaults.{path}"
        return f"{self.file}: tenants.{name}.{path}"

    def _filled(self, value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {k: self._filled(v, f"{key}.{k}") for k, v in value.items()}
        if isinstance(value, list):
            return [self._filled(v, key) for v in value]
        if not isinstance(value, str):
            return value

        def fill(match: re.Match[str]) -> str:
            variable = match.group(1)
            if variable not in self._environment:
                raise ConfigurationError(f"{self.file}: {key}: environment variable {variable} is not set")
            return self._environment[variable]

        return _VARIABLE.sub(fill, value)

    def _anchored(self, tenant: Tenant) -> Tenant:
        """Relative paths are meant from the file that names them, whatever a process's working directory is."""
        changes: dict[str, Any] = {}
        url = tenant.warehouse_url.get_secret_value()
        scheme, separator, path = url.partition(":///")
        if scheme.startswith("sqlite") and separator and not path.startswith("/") and ":memory:" not in path:
            changes["warehouse_url"] = SecretStr(f"{scheme}:///{(self.file.parent / path).resolve()}")
        if isinstance(tenant.auth, OAuth2) and not tenant.auth.private_key_file.is_absolute():
            key_file = (self.file.parent / tenant.auth.private_key_file).resolve()
            changes["auth"] = tenant.auth.model_copy(update={"private_key_file": key_file})
        return tenant.model_copy(update=changes) if changes else tenant


@lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    """A YAML document; nobody changes it. Sensors read the same one every second."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506


def _laid_over(below: Any, above: Any) -> Any:
    """Mappings merged key by key, however deep; anything else as it is in ``above``."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _laid_over(below.get(key), value) for key, value in above.items()}


class Environment:
    """Settings of the process rather than of a tenant."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment

    @cached_property
    def criteria_path(self) -> Path | None:
        """``NSIMPORT_CRITERIA_PATH``: a directory that adds to or replaces the built-in catalogue."""
        value = self._environment.get("NSIMPORT_CRITERIA_PATH")
        return Path(value).absolute() if value else None

    @cached_property
    def dagster_home(self) -> Path:
        """``DAGSTER_HOME``, else ``.dagster`` in the working directory."""
        return Path(self._environment.get("DAGSTER_HOME") or ".dagster").absolute()

"""Settings: where each comes from, and errors that name file and key and never a secret."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from nsimport_pipeline.errors import ConfigurationError, RefusedError
from nsimport_pipeline.settings import Environment, OAuth2, RecordTypeOptions, Settings, Tenant

SECRETS = {"KEY": "s3cret-key", "SECRET": "s3cret-secret", "TOKEN": "s3cret-token", "DB": "s3cret-db"}
AUTH = {
    "method": "tba",
    "consumer_key": "${KEY}",
    "consumer_secret": "${SECRET}",
    "token_id": "${TOKEN}",
    "token_secret": "s3cret-plain",
}
ACME = {"account": "1234567_SB1", "auth": AUTH, "warehouse_url": "mysql+pymysql://u:${DB}@host/acme"}

Load = Callable[..., Settings]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tenants.yaml"


@pytest.fixture
def load(file: Path) -> Load:
    def loaded(
        tenant: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        without: str = "",
    ) -> Settings:
        body = {key: value for key, value in {**ACME, **(tenant or {})}.items() if key != without}
        document: dict[str, Any] = {"tenants": {"acme": body}}
        if defaults is not None:
            document["defaults"] = defaults
        file.write_text(yaml.safe_dump(document))
        return Settings.load(file, {**SECRETS, **(environment or {})})

    return loaded


def assert_no_secret(text: str) -> None:
    assert "s3cret" not in text


# ---------------------------------------------------------------- values


def test_a_tenant_has_its_own_keys_and_defaults_for_the_rest(load: Load) -> None:
    tenant = load({"slots": 9}).tenant("acme")
    assert (tenant.slots, tenant.wave_size, tenant.completion_threshold) == (9, 300, 90)
    assert (tenant.retry_attempts, tenant.wave_timeout, tenant.batch_timeout) == (3, 1800, 300)
    assert (tenant.continue_on_permanent, tenant.enabled, tenant.store_raw) == (True, True, True)
    assert tenant.timezone == "America/Los_Angeles"
    assert tenant.pool == "netsuite_acme"
    assert tenant.options("customer") == RecordTypeOptions()


def test_retries_are_laid_over_the_defaults_key_by_key(load: Load) -> None:
    defaults = {"retries": {"timeout": {"in_run": 7, "later": 2}}, "circuit": {"failures": 9}}
    tenant = load({"retries": {"timeout": {"later": None}}}, defaults=defaults).tenant("acme")
    assert (tenant.retries.timeout.in_run, tenant.retries.timeout.later) == (7, None)
    assert (tenant.retries.timeout.in_run_delay, tenant.retries.unknown.later) == (1, 1)
    assert (tenant.circuit.failures, tenant.circuit.longest_probe_delay) == (9, 60)


def test_variables_are_filled_in_at_any_depth(load: Load) -> None:
    tenant = load({"record_types": {"customer": {"extra_fields": ["${FIELD}"]}}}, environment={"FIELD": "custentity_x"})
    found = tenant.tenant("acme")
    assert found.warehouse_url.get_secret_value() == "mysql+pymysql://u:s3cret-db@host/acme"
    assert found.auth.consumer_key.get_secret_value() == "s3cret-key"  # type: ignore[union-attr]
    assert found.options("customer").extra_fields == ("custentity_x",)


@pytest.mark.parametrize(
    ("own", "environment", "defaults", "expected"),
    [
        (10, "20", 30, 10),
        (None, "20", 30, 20),
        (None, None, 30, 30),
        (None, "", 30, 30),
        (None, None, None, 300),
    ],
)
def test_a_tenants_key_beats_the_environment_beats_the_files_defaults_beats_the_built_in(
    load: Load, own: int | None, environment: str | None, defaults: int | None, expected: int
) -> None:
    settings = load(
        {} if own is None else {"wave_size": own},
        None if defaults is None else {"wave_size": defaults},
        {} if environment is None else {"WAVE_SIZE": environment},
    )
    assert settings.tenant("acme").wave_size == expected
    assert settings.number("acme", "wave_size", 300) == expected


def test_every_environment_variable_of_the_contract_is_read(load: Load) -> None:
    tenant = load(
        environment={
            "WAVE_SIZE": "7",
            "WAVE_COMPLETION_THRESHOLD": "55.5",
            "WAVE_RETRY_ATTEMPTS": "0",
            "WAVE_TIMEOUT": "60",
            "WAVE_CONTINUE_ON_PERMANENT": "false",
        }
    ).tenant("acme")
    assert (tenant.wave_size, tenant.completion_threshold, tenant.retry_attempts) == (7, 55.5, 0)
    assert (tenant.wave_timeout, tenant.continue_on_permanent) == (60, False)


@pytest.mark.parametrize(
    ("account", "host", "realm"),
    [
        ("1234567_SB1", "1234567-sb1", "1234567_SB1"),
        ("1234567-sb1", "1234567-sb1", "1234567_SB1"),
        ("TD1", "td1", "TD1"),
    ],
)
def test_an_account_has_a_form_for_hosts_and_one_for_realms(load: Load, account: str, host: str, realm: str) -> None:
    tenant = load({"account": account}).tenant("acme")
    assert (tenant.account_host, tenant.realm) == (host, realm)
    assert tenant.url == f"https://{host}.suitetalk.api.netsuite.com"


def test_a_base_url_takes_the_place_of_netsuites(load: Load) -> None:
    assert load({"base_url": "http://127.0.0.1:8123/"}).tenant("acme").url == "http://127.0.0.1:8123"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///acme.db", "sqlite:///{}/acme.db"),
        ("sqlite:///./data/../acme.db", "sqlite:///{}/acme.db"),
        ("sqlite+pysqlite:///acme.db", "sqlite+pysqlite:///{}/acme.db"),
        ("sqlite:////var/acme.db", "sqlite:////var/acme.db"),
        ("mysql+pymysql://u@h/acme", "mysql+pymysql://u@h/acme"),
    ],
)
def test_relative_database_paths_are_meant_from_the_file(
    load: Load, file: Path, monkeypatch: pytest.MonkeyPatch, url: str, expected: str
) -> None:
    settings = load({"warehouse_url": url})
    monkeypatch.chdir("/")
    assert settings.tenant("acme").warehouse_url.get_secret_value() == expected.format(file.parent)


def test_a_relative_key_file_is_meant_from_the_file(load: Load, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = {"method": "oauth2", "client_id": "c", "certificate_id": "k", "private_key_file": "keys/acme.pem"}
    settings = load({"auth": auth})
    monkeypatch.chdir("/")
    found = settings.tenant("acme").auth
    assert isinstance(found, OAuth2)
    assert found.private_key_file == file.parent / "keys" / "acme.pem"


def test_the_file_is_found_by_argument_then_variable_then_working_directory(
    file: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    monkeypatch.chdir(file.parent)
    assert Settings.load(environment={}).file == file
    elsewhere = file.parent / "other.yaml"
    elsewhere.write_text("tenants: {}")
    assert Settings.load(environment={"NSIMPORT_TENANTS": "other.yaml"}).file == elsewhere
    assert Settings.load(file, {"NSIMPORT_TENANTS": "other.yaml"}).file == file


def test_process_settings_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Environment({}).criteria_path is None
    assert Environment({}).dagster_home == tmp_path / ".dagster"
    assert Environment({"NSIMPORT_CRITERIA_PATH": "c", "DAGSTER_HOME": "d"}).criteria_path == tmp_path / "c"


# ---------------------------------------------------------------- errors


def refused(load_tenant: Callable[[], object], file: Path, *named: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_tenant()
    text = str(caught.value)
    for name in (str(file), *named):
        assert name in text, text
    assert_no_secret(text)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in text
    return text


def test_a_missing_variable_is_named_with_its_key(load: Load, file: Path) -> None:
    settings = load()
    settings._environment = {k: v for k, v in SECRETS.items() if k != "SECRET"}  # type: ignore[misc]
    refused(lambda: settings.tenant("acme"), file, "tenants.acme.auth.consumer_secret", "SECRET", "not set")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"timezone": "Mars/Olympus"}, ["tenants.acme.timezone", "Mars/Olympus"]),
        ({"date_format": "M.D.YY"}, ["tenants.acme.date_format", "M.D.YY", "DD.MM.YYYY"]),
        ({"timezone": "../../etc/passwd"}, ["tenants.acme.timezone"]),
        ({"base_url": "https://user:s3cret@host"}, ["tenants.acme.base_url"]),
        ({"base_url": "https://host/path"}, ["tenants.acme.base_url"]),
        ({"base_url": "ftp://host"}, ["tenants.acme.base_url"]),
        ({"colour": "s3cret"}, ["tenants.acme.colour"]),
        ({"name": "other"}, ["tenants.acme.name"]),
        ({"account": "12 34"}, ["tenants.acme.account"]),
        ({"slots": 0}, ["tenants.acme.slots"]),
        ({"slots": "s3cret"}, ["tenants.acme.slots"]),
        ({"wave_size": 0}, ["tenants.acme.wave_size"]),
        ({"completion_threshold": 101}, ["tenants.acme.completion_threshold"]),
        ({"completion_threshold": 0}, ["tenants.acme.completion_threshold"]),
        ({"retry_attempts": -1}, ["tenants.acme.retry_attempts"]),
        ({"retries": "s3cret"}, ["tenants.acme.retries"]),
        ({"retries": {"timeout": {"in_runs": 1}}}, ["tenants.acme.retries.timeout.in_runs"]),
        ({"retries": {"timeout": "s3cret"}}, ["tenants.acme.retries.timeout"]),
        ({"retries": {"timeouts": {"later": 1}}}, ["tenants.acme.retries.timeouts"]),
        ({"retries": {"unknown": {"in_run": 1}}}, ["tenants.acme.retries.unknown.in_run"]),
        ({"retries": {"unknown": {"later_delay": -1}}}, ["tenants.acme.retries.unknown.later_delay"]),
        ({"circuit": {"failures": 1}}, ["tenants.acme.circuit.failures"]),
        ({"auth": "s3cret"}, ["tenants.acme.auth"]),
        ({"auth": {"client_id": "s3cret"}}, ["tenants.acme.auth"]),
        ({"auth": {**AUTH, "method": "oauth9"}}, ["tenants.acme.auth"]),
        ({"auth": {**AUTH, "token_secret": 5}}, ["tenants.acme.auth", "token_secret"]),
        ({"auth": {**AUTH, "tokn": "s3cret"}}, ["tenants.acme.auth", "tokn"]),
        ({"record_types": {"customer": {"batch_size": 1001}}}, ["tenants.acme.record_types.customer.batch_size"]),
        ({"record_types": ["customer"]}, ["tenants.acme.record_types"]),
        ({5: "s3cret"}, ["tenants.acme"]),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(load: Load, file: Path, change: dict[Any, Any], named: list[str]) -> None:
    refused(lambda: load(change).tenant("acme"), file, *named)


@pytest.mark.parametrize("key", ["account", "auth", "warehouse_url"])
def test_a_missing_key_is_named(load: Load, file: Path, key: str) -> None:
    refused(lambda: load(without=key).tenant("acme"), file, f"tenants.acme.{key}")


def test_a_wrong_default_is_named_where_it_stands(load: Load, file: Path) -> None:
    refused(lambda: load(defaults={"wave_size": "many"}).tenant("acme"), file, "defaults.wave_size")
    refused(lambda: load(defaults={"wave_sise": 3}).tenant("acme"), file, "defaults.wave_sise")


@pytest.mark.parametrize("value", ["many", "[1", "{}", "0", "a: b: c"])
def test_a_wrong_environment_variable_is_named(load: Load, value: str) -> None:
    with pytest.raises(ConfigurationError, match="WAVE_SIZE"):
        load(environment={"WAVE_SIZE": value}).tenant("acme")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("tenants: [", ["line", "not valid YAML"]),
        ("tenants: {a: s3cret}}", ["line 1", "not valid YAML"]),
        ("", ["tenants"]),
        ("- s3cret", ["tenants"]),
        ("tenants: [acme]", ["tenants"]),
        ("tenants: {}\nother: s3cret", ["other"]),
        ("tenants: {}\ndefaults: [1]", ["defaults"]),
        ("tenants: {Acme: {}}", ["tenants.Acme"]),
        ("tenants: {'a b': {}}", ["tenants.a b"]),
        (f"tenants: {{{'a' * 33}: {{}}}}", ["tenants.aaa"]),
        ("tenants: {5: {}}", ["tenants.5"]),
        ("tenants: {acme: s3cret}", ["tenants.acme"]),
        ("1: 2\ntenants: {}", ["1"]),
    ],
)
def test_a_wrong_document_is_refused_when_it_is_read(file: Path, text: str, named: list[str]) -> None:
    file.write_text(text)
    refused(lambda: Settings.load(file, {}), file, *named)


def test_a_file_that_is_not_there_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert "NSIMPORT_TENANTS" in refused(lambda: Settings.load(missing, {}), missing)
    refused(lambda: Settings.load(tmp_path, {}), tmp_path, "cannot be read")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"tenants: \xff\xfe")
    refused(lambda: Settings.load(binary, {}), binary, "cannot be read")


def test_an_unknown_tenant_is_told_which_there_are(load: Load, file: Path) -> None:
    assert "acme" in refused(lambda: load().tenant("globex"), file, "globex")


def test_a_tenant_that_is_not_enabled_is_refused_even_if_it_is_not_fully_set_up(load: Load) -> None:
    with pytest.raises(RefusedError, match="acme"):
        load({"enabled": False}).enabled_tenant("acme")
    with pytest.raises(RefusedError, match="acme"):
        load({"enabled": False, "warehouse_url": "${NOT_SET_YET}"}).enabled_tenant("acme")
    assert load().enabled_tenant("acme").enabled


def test_one_tenants_missing_variable_stops_that_tenant_only(file: Path) -> None:
    broken = {**ACME, "warehouse_url": "${NOT_SET}"}
    file.write_text(yaml.safe_dump({"tenants": {"acme": ACME, "globex": broken}}))
    settings = Settings.load(file, SECRETS)
    assert settings.tenant_names == ["acme", "globex"]
    assert settings.tenant("acme").name == "acme"
    refused(lambda: settings.tenant("globex"), file, "NOT_SET")


# ---------------------------------------------------------------- secrets


def test_secrets_are_never_shown(load: Load) -> None:
    settings = load()
    tenant = settings.tenant("acme")
    for shown in (repr(tenant), str(tenant), tenant.model_dump_json(), str(tenant.model_dump()), repr(settings)):
        assert_no_secret(shown)
    assert_no_secret(repr(tenant.auth))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql+pymysql://u:s3cret@host:3306/acme?ssl_key=s3cret", "mysql://host:3306/acme"),
        ("mysql+pymysql://u:${DB}@host/acme", "mysql://host/acme"),
        ("mysql+pymysql://u:s3cret@x@host/acme", "mysql://host/acme"),
        ("sqlite:///data/acme.db", "sqlite:///data/acme.db"),
    ],
)
def test_where_a_warehouse_is_can_be_said_without_its_secrets(load: Load, url: str, shown: str) -> None:
    assert load({"warehouse_url": url}).warehouse_location("acme") == shown


def test_a_number_is_read_without_filling_in_secrets(load: Load) -> None:
    settings = load({"wave_size": "${NOT_SET}", "slots": True})
    assert settings.number("acme", "wave_size", 300) == 300
    assert settings.number("acme", "slots", 5) == 5
    assert settings.number("globex", "slots", 5) == 5


def test_schedules_are_read_without_secrets_over_those_of_defaults(load: Load) -> None:
    defaults = {"schedules": {"changes": {"cron": "H/15 * * * *", "quiet_hours": "22:00-06:00"}}}
    tenant = {"timezone": "Europe/Berlin", "warehouse_url": "${ABSENT}", "schedules": {"changes": {"enabled": True}}}
    (changes,) = load(tenant, defaults).schedules("acme").values()
    assert (changes.cron, changes.quiet_hours, changes.enabled) == ("H/15 * * * *", ("22:00-06:00",), True)
    assert (changes.mode, changes.timezone) == ("incremental", "Europe/Berlin")
    assert load().schedules("acme") == {}


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"cron": "* * *"}, "schedules.changes.cron: '* * *' has 3 fields"),
        ({}, "schedules.changes.cron: Field required"),
        ({"cron": "H * * * *", "mode": "sometimes"}, "schedules.changes.mode: "),
        ({"cron": "H * * * *", "timezone": "Mars"}, "schedules.changes.timezone: unknown time zone 'Mars'"),
        ({"cron": "H * * * *", "quiet_hours": "10pm-6am"}, "schedules.changes.quiet_hours: '10pm-6am' is not written"),
        ({"cron": "0 23 * * *", "quiet_hours": "22:00-06:00"}, "schedules.changes: '0 23 * * *' comes in quiet hours"),
        ({"cron": "H * * * *", "each": 1}, "schedules.changes.each: "),
    ],
)
def test_a_wrong_schedule_is_named(load: Load, file: Path, schedule: dict[str, Any], said: str) -> None:
    settings = load({"schedules": {"changes": schedule}})
    for ask in (settings.schedules, settings.tenant):
        with pytest.raises(ConfigurationError) as error:
            ask("acme")
        assert str(error.value).startswith(f"{file}: tenants.acme.{said}")


def test_settings_are_not_changed_by_accident(load: Load) -> None:
    tenant: Tenant = load().tenant("acme")
    with pytest.raises(ValueError, match="frozen"):
        tenant.slots = 9  # type: ignore[misc]

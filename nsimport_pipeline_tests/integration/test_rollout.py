"""The rollout switch: the tenants file decides, or the flag in the tenant's database where the file says so."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from nsimport_pipeline.errors import RefusedError
from nsimport_pipeline.imports.rollout import read_flag, require_on, set_flag, switch
from nsimport_pipeline.imports.store.flags import FlagRow
from nsimport_pipeline.settings import Tenant
from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def tenant(enabled: bool | str) -> Tenant:
    auth = {"method": "tba", **dict.fromkeys(("consumer_key", "consumer_secret", "token_id", "token_secret"), "x")}
    return Tenant.model_validate(
        {"name": "acme", "account": "1", "auth": auth, "warehouse_url": "sqlite:///x.db", "enabled": enabled}
    )


@pytest.mark.parametrize("row", [FlagRow(1, '["acme"]'), FlagRow(1, '["other", "acme"]'), FlagRow(1, '["*"]')])
def test_on_for_everyone_or_for_those_listed(row: FlagRow) -> None:
    assert read_flag("acme", row).on


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "no flag"),
        (FlagRow(None, '["acme"]'), "enabled is NULL"),
        (FlagRow(0, '["acme"]'), "is off"),
        (FlagRow(7, '["acme"]'), "is off"),
        (FlagRow(1, None), "tenant_ids is NULL"),
        (FlagRow(1, '["acme"'), "not valid JSON"),
        (FlagRow(1, ""), "not valid JSON"),
        (FlagRow(1, '"acme"'), "not a JSON list"),
        (FlagRow(1, '{"acme": true}'), "not a JSON list"),
        (FlagRow(1, '["acme", 4515181]'), "not a JSON list"),
        (FlagRow(1, "[]"), "not for this tenant"),
        (FlagRow(1, '["acme2"]'), "not for this tenant"),
    ],
)
def test_anything_unclear_means_off_and_is_said(row: FlagRow | None, words: str) -> None:
    found = read_flag("acme", row)
    assert not found.on
    assert words in found.why


@pytest.fixture
def engine(warehouse_url: str) -> Engine:
    engine = make_engine(warehouse_url, pool_size=2)
    ensure_control_tables(engine)
    return engine


def test_the_flag_is_asked_only_where_the_tenants_file_says_so(engine: Engine) -> None:
    set_flag(engine, "acme", False, now=NOW)
    assert switch(engine, tenant(True)).on
    assert not switch(engine, tenant("database")).on
    set_flag(engine, "acme", True, now=NOW)
    assert not switch(engine, tenant(False)).on
    assert switch(engine, tenant("database")).on


def test_a_tenant_that_is_off_is_refused_with_what_to_do(engine: Engine) -> None:
    with pytest.raises(RefusedError, match=r"no flag.*nsimport flags --tenant acme --on"):
        require_on(engine, tenant("database"))
    set_flag(engine, "acme", True, now=NOW)
    require_on(engine, tenant("database"))


def test_switching_one_tenant_leaves_the_others_as_they_are(engine: Engine) -> None:
    for name in ("acme", "other"):
        assert set_flag(engine, name, True, now=NOW).on
    assert not set_flag(engine, "acme", False, now=NOW).on
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT enabled, tenant_ids FROM feature_flags")).all() == [(1, '["other"]')]

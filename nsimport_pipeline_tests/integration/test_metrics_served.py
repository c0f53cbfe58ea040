"""``nsimport metrics --serve``, scraped as Prometheus does, while one tenant's database is gone."""

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from nsimport_pipeline.warehouse.engine import make_engine
from nsimport_pipeline.warehouse.migrate import ensure_control_tables
from nsimport_pipeline_tests.integration.imports_world import World

AUTH = {"method": "tba", "consumer_key": "a", "consumer_secret": "b", "token_id": "c", "token_secret": "d"}


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, as long as the test holds it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def values(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    assert "secret-of-gone" not in text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_tells_who_is_down_and_counts_the_others(tmp_path: Path, closed_port: int) -> None:
    there = f"sqlite:///{tmp_path / 'acme.db'}"
    engine = make_engine(there, pool_size=1)
    ensure_control_tables(engine)
    world = World(engine, [("customer", 0, 2)]).plan()
    urls = {
        "acme": there,
        "gone": f"mysql+pymysql://user:secret-of-gone@127.0.0.1:{closed_port}/gone",
        "unused": f"sqlite:///{tmp_path / 'unused.db'}",
    }
    tenants = {name: {"account": "T1", "auth": AUTH, "slots": 5, "warehouse_url": url} for name, url in urls.items()}
    file = tmp_path / "tenants.yaml"
    file.write_text(yaml.safe_dump({"tenants": tenants}), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "nsimport_pipeline", "metrics", "--serve", "0"],
        env={**os.environ, "NSIMPORT_TENANTS": str(file), "DAGSTER_HOME": str(tmp_path / "home")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        told = next(line for line in process.stderr if line.startswith("metrics on"))
        port = int(told.split(":")[2].split("/")[0])

        first = values(port)
        up = {name: first["nsimport_up", frozenset({("tenant", name)})] for name in urls}
        assert up == {"acme": 1, "gone": 0, "unused": 1}
        assert first["nsimport_dagster_up", frozenset()] == 1
        acme = ("tenant", "acme")
        assert first["nsimport_imports_open", frozenset({acme})] == 1
        assert first["nsimport_slots_limit", frozenset({acme})] == 5
        assert not any(("tenant", "gone") in labels for name, labels in first if name == "nsimport_imports_open")

        world.calm()
        for scrape in (values(port), values(port)):  # counted, then remembered
            assert scrape["nsimport_imports_open", frozenset({acme})] == 0
            assert scrape["nsimport_records_imported_total", frozenset({acme, ("record_type", "customer")})] == 2000
            assert scrape["nsimport_imports_total", frozenset({acme, ("state", "completed")})] == 1
        with closing(sqlite3.connect(tmp_path / "unused.db")) as unused:
            assert unused.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,)
    finally:
        process.terminate()
        process.wait(30)
        engine.dispose()

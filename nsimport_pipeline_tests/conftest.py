"""Fixtures that tests of several parts share: databases to import into.

Belongs here: what more than one directory of tests needs. Does not belong here: fixtures of one part.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from nsimport_pipeline import garbage
from nsimport_pipeline_tests import mysql_server as private_mysql

garbage.look_seldom()

# An example may take as long as it takes: a loaded machine is no reason to fail.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[private_mysql.MysqlServer]:
    """A private MySQL or MariaDB server that a test may look into, kill and restart (leave it running)."""
    if os.environ.get("NSIMPORT_TEST_MYSQL_URL") and not private_mysql.server_found():
        pytest.skip("no server of our own to kill or restart, and NSIMPORT_TEST_MYSQL_URL's is not ours")
    with private_mysql.mysql_server() as server:
        yield server


@pytest.fixture(scope="session")
def mysql_server_url(request: pytest.FixtureRequest) -> str:
    """The server that tests store into: ``NSIMPORT_TEST_MYSQL_URL``, or else the private one."""
    given = os.environ.get("NSIMPORT_TEST_MYSQL_URL")
    return given or request.getfixturevalue("mysql_server").url()


@pytest.fixture
def mysql_url(mysql_server_url: str) -> Iterator[str]:
    """A fresh, empty database on a MySQL-compatible server."""
    with private_mysql.fresh_database(mysql_server_url) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite warehouse that does not exist yet."""
    return f"sqlite:///{tmp_path / 'warehouse.db'}"


@pytest.fixture(params=["mysql", "sqlite"])
def warehouse_url(request: pytest.FixtureRequest) -> str:
    """A fresh, empty warehouse of each kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url

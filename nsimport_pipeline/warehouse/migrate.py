"""Bringing a tenant's control tables to the shape this version needs.

Belongs here: running the migrations, and the one lock over a tenant's database. Does not belong here: imported tables
(``schema.py`` creates and widens them from the criteria).
"""

from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from nsimport_pipeline.errors import TimedOut

if TYPE_CHECKING:
    from alembic.config import Config

HEAD_REVISION = "0001"
"""The newest migration. Kept here too, so that a run of an up-to-date database need not load Alembic."""
VERSION_TABLE = "nsimport_schema_version"
_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK_SECONDS = 60
# MySQL's named locks are the whole server's: two tenants' databases need not wait for each other.
_LOCK = "CONCAT('nsimport.', LEFT(SHA1(DATABASE()), 40))"
_TAKE_LOCK = text(f"SELECT GET_LOCK({_LOCK}, {_LOCK_SECONDS})")
_GIVE_LOCK = text(f"SELECT RELEASE_LOCK({_LOCK})")

# Alembic keeps the running migration in module globals.
_one_at_a_time = Lock()


def ensure_control_tables(engine: Engine) -> None:
    """Create or upgrade the control tables. Cheap when there is nothing to do, safe from several processes at once."""
    if current_revision(engine) == HEAD_REVISION:
        return
    from alembic import command

    with _one_at_a_time, engine.connect() as connection:
        mysql = connection.dialect.name in ("mysql", "mariadb")
        if mysql and not connection.execute(_TAKE_LOCK).scalar():
            raise TimedOut(f"the control tables are being upgraded elsewhere for over {_LOCK_SECONDS} s: try again")
        try:
            command.upgrade(_config(connection), HEAD_REVISION)
            connection.commit()
        finally:
            if mysql:
                connection.rollback()
                connection.execute(_GIVE_LOCK)


def remove_control_tables(engine: Engine) -> None:
    """Take every migration back. The imported tables stay."""
    from alembic import command

    with _one_at_a_time, engine.connect() as connection:
        command.downgrade(_config(connection), "base")
        connection.commit()


def current_revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608


def serialise(connection: Connection) -> None:
    """Let one transaction at a time go on from here, over all processes that use this database.

    Row lock on MySQL; a write transaction on SQLite is alone anyway.
    """
    if connection.dialect.name != "sqlite":
        connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE} FOR UPDATE"))  # noqa: S608


def _config(connection: Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config

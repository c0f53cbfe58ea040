"""Which warehouse URLs are taken, and what is said about the others."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.warehouse.engine import location, make_engine


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://u:secret@host/acme",
        "mysql://u:secret@host:3307/acme",
        "mariadb+pymysql://u:secret@host/acme?charset=latin1",
        "mysql+pymysql://u:secret@/acme?unix_socket=/run/mysqld.sock&connect_timeout=3",
        "sqlite:////tmp/acme.db",
    ],
)
def test_an_engine_is_made_without_connecting_and_never_shows_the_password(url: str) -> None:
    engine = make_engine(url, pool_size=3)
    assert "secret" not in repr(engine)
    assert engine.dialect.name in ("mysql", "sqlite")
    assert "latin1" not in str(engine.url)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:secret@host/acme", r"postgresql://, which is not supported"),
        ("mysql+mysqldb://u:secret@host/acme", r"mysql\+mysqldb://, which is not supported"),
        ("u:secret@host", "not a database URL"),
        ("mysql+pymysql://u:secret@host:port/acme", "not a database URL"),
        ("", "not a database URL"),
        ("mysql+pymysql://u:secret@host", "names no database"),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_in_one_sentence_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        make_engine(url, pool_size=1)
    assert "secret" not in str(caught.value)
    assert "warehouse_url" in str(caught.value)


def test_a_database_is_named_by_where_it_is(tmp_path: Path) -> None:
    assert location(sa.make_url("mysql+pymysql://u:secret@db.example/acme")) == "acme at db.example:3306"
    assert location(sa.make_url("mysql+pymysql://u@/acme?unix_socket=/run/s.sock")) == "acme at /run/s.sock"
    assert location(sa.make_url(f"sqlite:///{tmp_path}/a.db")) == f"{tmp_path}/a.db"

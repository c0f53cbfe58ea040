"""Whatever a criteria file holds: a ConfigurationError that names the file, or a record type that works."""

from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.netsuite.suiteql import column_groups, count_statement, page_statement, selected
from nsimport_pipeline.record_types.criteria import CATALOG_DIRECTORY, RecordType, load_catalog, load_criteria
from nsimport_pipeline.record_types.graph import check_graph
from nsimport_pipeline.record_types.normalizers import check_names
from nsimport_pipeline.record_types.transform import transform
from nsimport_pipeline.warehouse.schema import target_table
from nsimport_pipeline_tests.mutations import garbled, spoilt, written

CATALOG = load_catalog()
DOCUMENTS = {name: orjson.loads((CATALOG_DIRECTORY / name / "criteria.json").read_bytes()) for name in CATALOG}
ZONE = ZoneInfo("Europe/Zurich")


def use(record_type: RecordType, file: Path) -> None:
    """What is done with a record type before its first row is stored."""
    record_types = {**CATALOG, record_type.name: record_type}
    check_graph(record_types, dict.fromkeys(record_types, file))
    check_names(record_type, file)
    columns = selected(record_type)
    for group in column_groups(columns):
        page_statement(record_type, 1, 2, group).encode()
    count_statement(record_type).encode()
    assert len(record_type.version) == 12
    target_table(record_type)
    row = {record_type.source.key.lower(): "7"}
    done = transform(record_type, [row], timezone=ZONE, store_raw=True)
    assert len(done.rows) + len(done.rejected) == 1


@settings(max_examples=2000, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(random=st.integers(0, 2**64).map(Random))
def test_a_spoilt_criteria_file_is_refused_by_name_or_works(tmp_path: Path, random: Random) -> None:
    document: Any = DOCUMENTS[random.choice(sorted(DOCUMENTS))]
    if isinstance(document.get("fields"), list):
        document = {**document, "fields": random.sample(document["fields"], min(5, len(document["fields"])))}
    for _ in range(random.randrange(1, 4)):
        document = spoilt(random, document)
    body = written(document)
    if random.random() < 0.25:
        body = garbled(random, body)
    file = tmp_path / "criteria.json"
    file.write_bytes(body)
    try:
        use(load_criteria(file), file)
    except ConfigurationError as error:
        assert len(str(error)) < 2_000  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "9" * 6_000 + "}", "not valid JSON"),
        ('{"description": "\\ud800"}', "half a character"),
        ('{"record_type": NaN}', "not valid JSON"),
    ],
)
def test_what_pythons_own_reader_trips_over_is_refused_too(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "criteria.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said) as refused:
        load_criteria(file)
    assert str(file) in str(refused.value)

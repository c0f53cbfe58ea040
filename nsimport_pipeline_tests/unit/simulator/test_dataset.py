"""The generated account: counts, ids, references, hierarchies, scripts, and changes to it."""

from typing import Any

import pytest

from nsimport_pipeline.errors import ConfigurationError
from nsimport_pipeline.record_types.criteria import Catalog, load_catalog
from nsimport_pipeline.simulator.dataset import Dataset
from nsimport_pipeline.simulator.metadata import camel_case, find_record, metadata_names, schema
from nsimport_pipeline.simulator.options import SimulatorOptions, parse_rows
from nsimport_pipeline.simulator.tables import plan_tables
from nsimport_pipeline_tests.unit.simulator.conftest import ROWS, catalog_of, criteria


def query(dataset: Dataset, statement: str) -> list[tuple[Any, ...]]:
    return dataset.cursor().execute(statement).fetchall()


def one(dataset: Dataset, statement: str) -> Any:
    return query(dataset, statement)[0][0]


def test_there_are_exactly_as_many_rows_as_asked(dataset: Dataset) -> None:
    counts = dataset.counts()
    assert counts["customer"] == 300
    assert counts["transaction"] == 250 + 90
    assert counts["transactionline"] == 1000
    assert counts["customrecord_gadget"] == 50
    assert one(dataset, "SELECT count(*) FROM transaction WHERE type = 'CustInvc' AND voided = 'F'") == 90


def test_ids_rise_without_repeats_and_with_gaps(dataset: Dataset) -> None:
    for table in ("customer", "transaction", "customrecord_gadget"):
        ids = [row[0] for row in query(dataset, f'SELECT id FROM "{table}" ORDER BY id')]
        assert len(set(ids)) == len(ids)
        assert ids[0] > 0
        assert ids[-1] - ids[0] > len(ids)


def test_record_types_of_one_table_are_interleaved(dataset: Dataset) -> None:
    types = [row[0] for row in query(dataset, "SELECT type FROM transaction ORDER BY id LIMIT 40")]
    assert len(set(types)) == 2


def test_references_hold(dataset: Dataset) -> None:
    for table, column, target in (
        ("transaction", "entity", "customer"),
        ("customer", "subsidiary", "subsidiary"),
        ("customrecord_gadget", "custrecord_owner", "customer"),
        ("transactionline", "transaction", "transaction"),
        ("customersubsidiaryrelationship", "entity", "customer"),
    ):
        orphans = (
            f'SELECT count(*) FROM "{table}" a ANTI JOIN "{target}" b ON a.{column} = b.id WHERE a.{column} IS NOT NULL'
        )
        assert one(dataset, orphans) == 0
        assert one(dataset, f'SELECT count({column}) FROM "{table}"') > 0


def test_parents_are_never_their_own_descendants(dataset: Dataset) -> None:
    parents = dict(query(dataset, "SELECT id, parent FROM customer"))
    assert any(parents.values())
    for start in parents:
        seen, node = set(), start
        while node is not None:
            assert node not in seen
            seen.add(node)
            node = parents[node]


def test_a_line_is_unique_in_its_transaction_and_its_unique_key_in_the_table(dataset: Dataset) -> None:
    assert one(dataset, "SELECT count(DISTINCT uniquekey) FROM transactionline") == 1000
    assert one(dataset, "SELECT count(DISTINCT (transaction, id)) FROM transactionline") == 1000
    assert one(dataset, "SELECT count(DISTINCT id) FROM transactionline") < 100
    assert one(dataset, "SELECT count(*) FROM transactionline WHERE mainline = 'T'") == 340
    per_order = query(
        dataset,
        "SELECT count(*) FROM transactionline l JOIN transaction t ON t.id = l.transaction "
        "WHERE t.type = 'SalesOrd' GROUP BY t.id",
    )
    assert len({row[0] for row in per_order}) > 2


def test_every_entity_has_one_primary_subsidiary_and_some_have_more(dataset: Dataset) -> None:
    primary = "SELECT count(DISTINCT entity), count(*) FROM customersubsidiaryrelationship WHERE isprimarysub = 'T'"
    assert query(dataset, primary) == [(300, 300)]
    assert dataset.counts()["customersubsidiaryrelationship"] == 330


def test_values_are_of_the_kind_their_criteria_say(dataset: Dataset) -> None:
    assert {row[0] for row in query(dataset, "SELECT DISTINCT custrecord_colour FROM customrecord_gadget")} <= {
        "Red",
        "Blue",
        None,
    }
    assert one(dataset, "SELECT max(length(name)) FROM customrecord_gadget") <= 20
    assert one(dataset, "SELECT bool_and(json_valid(custrecord_settings)) FROM customrecord_gadget")
    assert {row[0] for row in query(dataset, "SELECT DISTINCT isperson FROM customer")} == {"T", "F"}


def test_amounts_are_negative_zero_small_and_large(dataset: Dataset) -> None:
    low, high, zeros = query(
        dataset, "SELECT min(creditlimit), max(creditlimit), count(*) FILTER (creditlimit = 0) FROM customer"
    )[0]
    assert low < 0
    assert high > 10**9
    assert zeros > 0


def test_names_come_in_several_scripts(dataset: Dataset) -> None:
    names = "".join(row[0] for row in query(dataset, "SELECT entityid FROM customer"))
    for low, high in (
        ("а", "я"),
        ("α", "ω"),
        ("ا", "ي"),
        ("א", "ת"),
        ("一", "龥"),
        ("가", "힣"),
        ("अ", "ह"),
        ("à", "ÿ"),
    ):
        assert any(low <= letter <= high for letter in names), (low, high)
    assert "🚀" in names
    assert '"' in names
    assert "\\" in names
    assert "'" in names


def test_several_rows_share_one_second(dataset: Dataset) -> None:
    assert one(dataset, "SELECT max(n) FROM (SELECT count(*) AS n FROM customer GROUP BY lastmodifieddate)") >= 5


def test_the_same_seed_gives_the_same_account_and_another_one_does_not(dataset: Dataset, catalog: Catalog) -> None:
    for seed, same in ((1, True), (2, False)):
        other = Dataset(catalog, SimulatorOptions(rows=ROWS, seed=seed))
        for table in ("customer", "transactionline"):
            statement = f"SELECT * FROM {table} ORDER BY ALL"
            assert (query(dataset, statement) == query(other, statement)) is same
        other.close()


def test_a_table_too_big_for_memory_goes_to_a_file(catalog: Catalog) -> None:
    options = SimulatorOptions(rows={"*": 0, "gadget": 310_000}, memory_limit="100MB")
    dataset = Dataset(catalog, options)
    assert dataset.counts()["customrecord_gadget"] == 310_000
    assert one(dataset, "SELECT count(DISTINCT id) FROM customrecord_gadget") == 310_000
    dataset.close()


def test_an_umbrella_has_its_parts_rows() -> None:
    kind = {"name": "kind", "source": "itemtype", "type": "string"}
    whole = criteria("item", "item", [kind])
    parts = [
        criteria("service_item", "item", [kind], where="t.itemtype = 'Service'"),
        criteria("kit_item", "item", [kind], where="t.itemtype IN ('Kit', 'Assembly')"),
    ]
    user = criteria("usage", "usage", [{"name": "item", "type": "reference", "references": "item"}])
    rows = {"item": 100, "service_item": 40, "kit_item": 50, "usage": 200}
    dataset = Dataset(catalog_of(whole, *parts, user), SimulatorOptions(rows=rows))
    assert dataset.counts()["item"] == 100
    assert one(dataset, "SELECT count(*) FROM item WHERE itemtype = 'Service'") == 40
    assert one(dataset, "SELECT count(*) FROM item WHERE itemtype IN ('Kit', 'Assembly')") == 50
    used = query(dataset, "SELECT DISTINCT i.itemtype FROM usage u JOIN item i ON i.id = u.item")
    assert len(used) > 2
    dataset.close()


def test_columns_that_only_an_expression_mentions_exist() -> None:
    fields = [
        {
            "name": "city",
            "expression": "(SELECT a.city FROM locationmainaddress a WHERE a.nkey = t.mainaddress)",
            "type": "string",
        }
    ]
    tables = plan_tables(catalog_of(criteria("location", "location", fields)), SimulatorOptions())
    assert {"city", "nkey"} <= set(tables["locationmainaddress"].columns)


def test_the_real_catalogue_has_wide_tables() -> None:
    tables = plan_tables(load_catalog(), SimulatorOptions())
    for name in ("customer", "transaction", "employee"):
        assert len(tables[name].columns) >= 30, name


def test_deleting_a_record_leaves_a_trace_and_deleting_a_line_does_not(own_dataset: Dataset) -> None:
    order = one(own_dataset, "SELECT max(id) FROM transaction WHERE type = 'SalesOrd'")
    before = own_dataset.counts()
    assert own_dataset.delete("transaction", f"t.id = {order}") == 1
    after = own_dataset.counts()
    assert after["deletedrecord"] == before["deletedrecord"] + 1
    assert one(own_dataset, f"SELECT count(*) FROM transactionline WHERE transaction = {order}") == 0
    assert own_dataset.delete("transactionline", "t.uniquekey % 2 = 0") > 0
    assert own_dataset.counts()["deletedrecord"] == after["deletedrecord"]


def test_a_delete_that_fails_changes_nothing(own_dataset: Dataset) -> None:
    before = own_dataset.counts()
    with pytest.raises(Exception, match="nope"):
        own_dataset.delete("customer", "nope = 1")
    assert own_dataset.counts() == before
    assert own_dataset.delete("customer", "id < 0") == 0


def test_row_counts_are_read_from_the_command_line() -> None:
    assert parse_rows(["customer=137705", "*=0"]) == {"customer": 137705, "*": 0}
    for wrong in ("customer", "customer=", "=5", "customer=-1", "customer=many"):
        with pytest.raises(ConfigurationError, match="--rows"):
            parse_rows([wrong])


@pytest.mark.parametrize("wrong", [{"port": 70000}, {"scale": -1}, {"latency": -0.1}, {"slots": 0}, {"jitter": 1.5}])
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        SimulatorOptions(**wrong)


def test_metadata_names_and_types_the_columns(dataset: Dataset) -> None:
    found = find_record(dataset.tables, "salesOrder")
    assert found is not None
    body = schema(*found, "http://host/x", metadata_names(dataset.tables))
    properties = body["properties"]
    assert properties["lastModifiedDate"] | {"title": ""} == {
        "title": "",
        "type": "string",
        "format": "date-time",
        "nullable": True,
    }
    assert properties["entity"]["$ref"].endswith("/metadata-catalog/customer")
    assert set(body["x-ns-filterable"]) == set(properties)
    assert find_record(dataset.tables, "nothing") is None
    assert camel_case("custrecord_x") == "custrecord_x"

"""Named rules of the criteria: status words, addresses, percentages, and the names of persons and companies."""

from typing import Any

import pytest

from nsimport_pipeline.record_types.criteria import FieldSpec, load_catalog
from nsimport_pipeline.record_types.normalizers import NORMALIZERS
from nsimport_pipeline_tests.unit.record_types.test_transform import as_dicts, record_type, run

TEXT = FieldSpec(name="x", type="string")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("invoice_status", "Open", "open"),
        ("invoice_status", "Paid In Full", "paid"),
        ("invoice_status", "Invoice : Paid In Full", "paid"),
        ("invoice_status", "CustInvc:A", "open"),
        ("invoice_status", "paid", "paid"),
        ("fulfillment_status", "Not Shipped", "not_shipped"),
        ("fulfillment_status", "Item Fulfillment : Shipped", "shipped"),
        ("fulfillment_status", "B", "packed"),
        ("sales_order_status", "Sales Order : Pending Fulfillment", "pending_fulfillment"),
        ("sales_order_status", "Pending Fulfilment", "pending_fulfillment"),
        ("sales_order_status", "SalesOrd:E", "pending_billing_partially_fulfilled"),
        ("sales_order_status", "Pending Billing/Partially Fulfilled", "pending_billing_partially_fulfilled"),
        ("sales_order_status", "H", "closed"),
        ("sales_order_status", "  ", None),
        ("opportunity_status", "Closed - Won", "closed_won"),
        ("project_status", "PROJECT-In Progress", "in_progress"),
        ("project_status", "In Progress", "in_progress"),
        ("project_status", "Warten auf Größe", "warten_auf_grösse"),
        ("snake_case", "शब्द 133 ⚙\ufe0f", "शब्द_133"),
        ("percentage", "0.125", "12.5"),
        ("percentage", "12.5%", "12.5%"),
        ("percentage", "-0.5", "-50"),
        ("percentage", "many", "many"),
        ("address", "Main St 1\r\n\r\n  Springfield <br>USA ", "Main St 1\nSpringfield\nUSA"),
        ("address", "Main St 1\nUSA", "Main St 1\nUSA"),
        ("address", " \n ", None),
        ("snake_case", "NON_BILLABLE", "non_billable"),
        ("snake_case", "Time and Materials", "time_and_materials"),
    ],
)
def test_a_text_becomes(name: str, text: str, expected: str | None) -> None:
    got = NORMALIZERS[name](text, TEXT)
    assert got == expected
    if got is not None and name != "percentage":
        assert NORMALIZERS[name](got, TEXT) == got, "a second time changes nothing"


def test_every_normalizer_of_the_catalogue_is_used_where_it_is_meant() -> None:
    used = {field.normalize for record_type in load_catalog().values() for field in record_type.fields}
    assert used - {None} == set(NORMALIZERS) - {"percentage"}


def test_a_share_with_the_percentage_normalizer_is_stored_in_percent() -> None:
    shares = record_type({"name": "p", "type": "percent", "normalize": "percentage"})
    rows = run(shares, {"id": 1, "p": "0.125"}, {"id": 2, "p": "3%"}, {"id": 3, "p": 0.5}, {"id": 4, "p": "x"})
    assert [str(row[-1]) for row in rows.rows] == ["12.5", "3", "50"]
    assert [row.refid for row in rows.rejected] == [4]


class TestPersonOrCompany:
    def names(self, **item: Any) -> tuple[Any, ...]:
        result = run(load_catalog()["customer"], {"id": "1", **item})
        assert not result.rejected
        (row,) = as_dicts(result)
        return tuple(row[name] for name in ("is_person", "first_name", "last_name", "company_name", "entity_id"))

    def test_a_company_with_its_name_stays(self) -> None:
        assert self.names(isperson="F", companyname="Acme", entityid="C1") == (False, None, None, "Acme", "C1")

    def test_a_company_without_name_gets_one(self) -> None:
        assert self.names(isperson="F", altname="Acme", entityid="C1") == (False, None, None, "Acme", "C1")
        assert self.names(isperson="F", entityid="C1") == (False, None, None, "C1", "C1")
        assert self.names(isperson="F", firstname="Jo", lastname="Doe") == (False, "Jo", "Doe", "Jo Doe", "Jo Doe")

    def test_a_person_gets_a_full_name_as_company_name(self) -> None:
        assert self.names(isperson="T", firstname="Jo", lastname="Doe", entityid="7 Jo Doe") == (
            *(True, "Jo", "Doe", "Jo Doe", "7 Jo Doe"),
        )

    def test_a_person_without_personal_name_gets_one(self) -> None:
        assert self.names(isperson="T", companyname="Jo Doe", entityid="P1") == (True, None, "Jo Doe", "Jo Doe", "P1")
        assert self.names(isperson="T", entityid="P1") == (True, None, "P1", "P1", "P1")
        assert self.names(isperson="T", altname="Old Name", lastname="Doe")[2:4] == ("Doe", "Doe")

    def test_one_that_does_not_say_is_judged_by_its_names(self) -> None:
        assert self.names(lastname="Doe", entityid="P1")[0] is True
        assert self.names(companyname="Acme", lastname="Doe", entityid="P1")[0] is False
        assert self.names(entityid="P1")[0] is False

    def test_one_without_any_name_stays_without(self) -> None:
        assert self.names() == (False, None, None, None, "")

    def test_a_mixed_batch_keeps_each_its_own(self) -> None:
        items = [
            {"id": 1, "isperson": "T", "firstname": "Jo"},
            {"id": 2, "isperson": "F", "companyname": "Acme"},
            {"id": 3, "companyname": "Beta"},
        ]
        rows = as_dicts(run(load_catalog()["vendor"], *items))
        assert [(row["is_person"], row["company_name"], row["entity_id"]) for row in rows] == [
            (True, "Jo", "Jo"),
            (False, "Acme", "Acme"),
            (False, "Beta", "Beta"),
        ]
        assert all(type(row["is_person"]) is bool for row in rows)

    def test_a_table_without_one_of_the_columns_is_left_alone(self) -> None:
        customer = load_catalog()["customer"]
        fewer = customer.model_copy(update={"fields": tuple(f for f in customer.fields if f.name != "company_name")})
        (row,) = as_dicts(run(fewer, {"id": 1, "isperson": "T"}))
        assert row["last_name"] is None

"""Which columns NetSuite's tables have beyond those that the criteria name, and what kind of value a name suggests.

Belongs here: knowledge about names, as data. Does not belong here: values (``values.py``), tables
(``tables.py``).
"""

import re
from typing import Literal

Kind = Literal[
    "string", "text", "integer", "decimal", "money", "percent", "boolean", "date", "datetime", "reference", "json"
]

_ENTITY = (
    "entityid entitynumber altname companyname isperson firstname middlename lastname email phone altphone fax "
    "mobilephone url category terms currency externalid isinactive comments datecreated lastmodifieddate "
    "defaultbillingaddress defaultshippingaddress"
)

EXTRA_COLUMNS: dict[str, str] = {
    "customer": f"{_ENTITY} searchstage entitystatus parent salesrep partner leadsource pricelevel creditlimit "
    "oncredithold receivablesaccount firstorderdate lastorderdate dateclosed startdate enddate",
    "vendor": f"{_ENTITY} legalname balance balanceprimary unbilledorders creditlimit expenseaccount payablesaccount "
    "accountnumber",
    "employee": "entityid firstname middlename lastname email phone mobilephone fax title department class location "
    "subsidiary supervisor currency approvallimit expenselimit purchaseorderlimit purchaseorderapprovallimit "
    "giveaccess issalesrep issupportrep hiredate releasedate employeetype employeestatus laborcost externalid "
    "isinactive initials comments datecreated lastmodifieddate",
    "job": "entityid entitynumber altname companyname customer parent jobtype entitystatus projectmanager startdate "
    "enddate calculatedenddate projectedenddate jobbillingtype billingschedule jobitem jobprice currency fxrate "
    "estimatedcost estimatedrevenue estimatedlaborcost estimatedlaborrevenue estimatedtime actualtime timeremaining "
    "percentcomplete percenttimecomplete allowtime allowexpenses datecreated lastmodifieddate externalid isinactive",
    "transaction": "tranid transactionnumber trandisplayname number type abbrevtype recordtype trandate duedate "
    "closedate createddate lastmodifieddate createdby lastmodifiedby entity employee status billingstatus "
    "approvalstatus currency exchangerate foreigntotal foreignamountpaid foreignamountunpaid posting postingperiod "
    "memo otherrefnum externalid shipdate actualshipdate shipcarrier shippingaddress billingaddress terms nexus "
    "source void voided isreversal customtype",
    "transactionline": "linesequencenumber mainline taxline item itemtype quantity quantitybilled quantityshiprecv "
    "quantitycommitted quantitybackordered quantitypicked quantitypacked rate rateamount ratepercent netamount "
    "foreignamount debitforeignamount creditforeignamount costestimate units price subsidiary department class "
    "location entity expenseaccount memo isclosed isfullyshipped isinventoryaffecting donotdisplayline "
    "kitcomponent transactionlinetype accountinglinetype expectedshipdate actualshipdate linelastmodifieddate "
    "linecreateddate",
    "item": "itemid fullname displayname description itemtype subtype parent subsidiary department class location "
    "incomeaccount expenseaccount assetaccount gainlossaccount deferralaccount averagecost lastpurchaseprice cost "
    "totalquantityonhand matrixtype isinactive createddate lastmodifieddate externalid upccode vendorname weight "
    "weightunit manufacturer mpn countryofmanufacture isonline isdropshipitem reorderpoint",
    "subsidiary": "name fullname legalname parent currency country state edition fiscalcalendar iselimination email "
    "url mainaddress shippingaddress returnaddress tranprefix lastmodifieddate externalid isinactive",
    "location": "name fullname parent subsidiary locationtype mainaddress returnaddress latitude longitude "
    "makeinventoryavailable usebins tranprefix lastmodifieddate externalid isinactive",
    "department": "name fullname parent subsidiary includechildren lastmodifieddate externalid isinactive",
    "classification": "name fullname parent subsidiary includechildren lastmodifieddate externalid isinactive",
    "pricelevel": "name discountpct isonline isinactive updateexistingprices lastmodifieddate externalid",
    "currency": "name symbol exchangerate isbasecurrency currencyprecision displaysymbol symbolplacement "
    "lastmodifieddate isinactive externalid",
    "accountingperiod": "periodname parent startdate enddate isposting isadjust isquarter isyear closed closedondate "
    "alllocked arlocked aplocked allownonglchanges isinactive lastmodifieddate",
    "charge": "amount billdate billto billingitem billingmode chargedate chargeemployee chargetype class createddate "
    "currency department description externalid invoice lastmodifieddate location memo quantity rate rule runid "
    "salesorder salesorderline servicestartdate serviceenddate stage subsidiary timerecord transaction use",
    "customersubsidiaryrelationship": "entity subsidiary isprimarysub lastmodifieddate",
    "vendorsubsidiaryrelationship": "entity subsidiary isprimarysub lastmodifieddate",
    "deletedrecord": "name recordid:integer recordtypeid:integer scriptid type context deletedby deleteddate "
    "iscustomlist iscustomrecord iscustomtransaction",
}
"""Realistic columns by table, beside ``id`` and what the criteria name; ``name:kind`` where the name misleads."""

REFERENCE_TARGETS: dict[str, str] = {
    "accountingperiod": "accounting_period",
    "billto": "customer",
    "chargeemployee": "employee",
    "chargetype": "charge_type",
    "class": "classification",
    "createdby": "employee",
    "currency": "currency",
    "customer": "customer",
    "deletedby": "employee",
    "department": "department",
    "employee": "employee",
    "entity": "customer",
    "invoice": "invoice",
    "lastmodifiedby": "employee",
    "location": "location",
    "parent": "",
    "postingperiod": "accounting_period",
    "pricelevel": "price_level",
    "projectmanager": "employee",
    "salesorder": "sales_order",
    "salesrep": "employee",
    "subsidiary": "subsidiary",
    "supervisor": "employee",
}
"""Record type that a column of this name points to where no criteria says so; empty: its own."""

_LISTS = frozenset(
    "assetaccount billingaddress billingitem billingschedule category defaultbillingaddress "
    "defaultshippingaddress deferralaccount edition employeestatus employeetype entitystatus expenseaccount "
    "fiscalcalendar gainlossaccount incomeaccount item jobbillingtype jobitem jobtype leadsource locationtype "
    "mainaddress nexus partner payablesaccount price receivablesaccount returnaddress rule runid shipcarrier "
    "shippingaddress terms timerecord transaction units weightunit".split()
)
_BOOLEANS = frozenset(
    "allowexpenses allownonglchanges allowtime alllocked aplocked arlocked closed donotdisplayline giveaccess "
    "includechildren kitcomponent mainline makeinventoryavailable oncredithold posting taxline updateexistingprices "
    "usebins void voided".split()
)
_DATETIMES = frozenset(
    "createddate datecreated deleteddate lastmodifieddate linecreateddate linelastmodifieddate".split()
)
_MONEY = re.compile(r"amount|total$|cost$|price$|balance|limit$|revenue|unbilled|paid|costestimate")
_DECIMAL = re.compile(r"^quantity|rate$|time$|remaining$|weight$|latitude|longitude|reorderpoint")
_PERCENT = re.compile(r"percent|pct$|probability")
_INTEGER = re.compile(r"sequencenumber$|precision$|^(salesorderline|daysopen|symbolplacement)$")


def guess_kind(name: str) -> Kind:
    """The kind of value that a NetSuite column called ``name`` most likely holds."""
    if name in _DATETIMES:
        return "datetime"
    if name.endswith("date") or name.startswith("date") or name == "closedondate":
        return "date"
    if name in _BOOLEANS or re.match(r"^(is|has)[a-z]", name):
        return "boolean"
    if name in REFERENCE_TARGETS or name in _LISTS:
        return "reference"
    for pattern, kind in ((_PERCENT, "percent"), (_INTEGER, "integer"), (_MONEY, "money"), (_DECIMAL, "decimal")):
        if pattern.search(name):
            return kind  # type: ignore[return-value]
    return "text" if name in ("comments", "description", "memo") else "string"


def extra_columns(table: str) -> dict[str, Kind]:
    """Realistic columns of ``table`` with their kinds; a table nobody knows gets a few that every record has."""
    names = EXTRA_COLUMNS.get(table, "name externalid isinactive createddate lastmodifieddate")
    columns: dict[str, Kind] = {}
    for word in names.split():
        name, _, kind = word.partition(":")
        columns[name] = kind or guess_kind(name)  # type: ignore[assignment]
    return columns

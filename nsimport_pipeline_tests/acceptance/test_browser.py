"""What a person sees in Dagster's UI, in a real browser. Screenshots are left in pytest's temporary directory."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from nsimport_pipeline_tests.acceptance.conftest import Interrupted
from nsimport_pipeline_tests.acceptance.environment import TENANT, Environment, wait_until

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,1100",
)
PRESS = """
const button = [...document.querySelectorAll(arguments[0])].find(
  (one) => one.innerText.trim().startsWith(arguments[1]) && !one.disabled);
if (button) button.click();
return Boolean(button);"""
PATIENCE = 60.0
"""Seconds a page may take on a busy machine."""


class Browser:
    """A headless Chromium looking at one Dagster."""

    def __init__(self, driver: webdriver.Chrome, base_url: str, screenshots: Path) -> None:
        self._driver = driver
        self._base_url = base_url
        self._screenshots = screenshots

    def look_at(self, path: str, name: str, *expected: str) -> str:
        """Open a page, wait until it shows all ``expected`` texts, keep a screenshot; the page's text."""
        self._driver.get(self._base_url + path)
        self.wait_for(*expected)
        self._driver.save_screenshot(str(self._screenshots / f"{name}.png"))
        return self.text()

    def wait_for(self, *expected: str) -> None:
        wait_until(lambda: all(text in self.text() for text in expected) or None, PATIENCE, f"{expected} to be shown")

    def text(self) -> str:
        return str(self._driver.execute_script("return document.body.innerText"))

    def click(self, selector: str, label: str) -> None:
        """Press the first button that is enabled and begins with ``label``, as soon as there is one."""
        try:
            # Found and pressed in one go: React may replace a button between two commands.
            wait_until(lambda: self._driver.execute_script(PRESS, selector, label), PATIENCE, f"the button {label!r}")
        except AssertionError:
            self._driver.save_screenshot(str(self._screenshots / "missing_button.png"))
            raise

    def open_dialog(self, label: str) -> None:
        """Press a button until its dialog is there: pressed while the page still loads, it does nothing."""

        def opened() -> bool:
            if not self._driver.find_elements(By.CSS_SELECTOR, "[role=dialog]"):
                self.click("button", label)
                time.sleep(1)
            return bool(self._driver.find_elements(By.CSS_SELECTOR, "[role=dialog]"))

        wait_until(opened, PATIENCE, f"the dialog of {label!r}")


@pytest.fixture(scope="module")
def browser(on_sqlite: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    binary, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    assert binary, "no Chromium found: scripts/ensure-chromium installs it"
    assert chromedriver, "no driver for Chromium found: scripts/ensure-chromium installs it"
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield Browser(driver, on_sqlite.ui, tmp_path_factory.mktemp("screenshots"))
    finally:
        driver.quit()


def test_lineage_shows_record_types_by_family(browser: Browser, customers: Interrupted) -> None:
    browser.look_at("/asset-groups", "lineage", "lists", "entities", "items", "transactions")


def test_an_asset_tells_its_columns_where_it_is_stored_and_whether_it_is_complete(
    browser: Browser, customers: Interrupted
) -> None:
    text = browser.look_at(f"/assets/{TENANT}/customer", "asset", "Columns", "refid", "Latest check results")
    assert "Name or number the customer is listed by." in text
    assert "customers" in text
    assert "netsuite" in text


def test_partitions_are_offsets_and_all_are_materialized(browser: Browser, customers: Interrupted) -> None:
    browser.look_at(
        f"/assets/{TENANT}/customer?view=partitions", "partitions", "1000", "2000", "3000", "Materialized (4)"
    )


def test_materializations_carry_numbers_that_plot(browser: Browser, customers: Interrupted) -> None:
    browser.look_at(f"/assets/{TENANT}/customer?view=events", "events", "rows_upserted", "fetch_seconds")


def test_the_overview_shows_a_table_of_record_types(browser: Browser, customers: Interrupted) -> None:
    text = browser.look_at(
        f"/assets/{TENANT}/overview?view=events", "overview", "progress_percent", "records/s", customers.import_id
    )
    assert "customer" in text


def test_the_launchpad_says_what_is_wrong_with_an_option(browser: Browser, on_sqlite: Environment) -> None:
    config = quote("ops: {start: {config: {tenant: acme, record_types: [currency], mode: sideways}}}")
    where = f"/locations/nsimport_pipeline/jobs/start_import/playground/setup?config={config}"
    browser.look_at(where, "launchpad", "config:mode not in enum type Literal['full', 'incremental'] got sideways")


def test_runs_are_found_by_tag(browser: Browser, customers: Interrupted) -> None:
    wanted = f"tag:nsimport/import={customers.import_id}"
    text = browser.look_at(f"/runs?q%5B0%5D={wanted}", "runs", "waves", customers.import_id)
    assert "customer" in text


def test_the_pool_shows_the_slots(browser: Browser, on_sqlite: Environment, customers: Interrupted) -> None:
    browser.look_at("/deployment/concurrency", "pools", f"netsuite_{TENANT}", "netsuite_solo")


def test_all_partitions_launched_in_the_browser_are_imported_under_gate_and_slots(
    browser: Browser, on_sqlite: Environment, customers: Interrupted
) -> None:
    before = {row["import_id"] for row in on_sqlite.query("SELECT import_id FROM import_jobs")}
    browser.look_at(f"/assets/{TENANT}/customer?view=partitions", "before_launch", "Materialized (4)")
    browser.open_dialog("Materialize…")
    # Dagster warns that what customers depend on was not imported here.
    browser.click("[role=dialog] button", "Confirm")
    browser.click("[role=dialog] button", "All")
    browser.click("[role=dialog] button", "Launch backfill")

    def launched() -> list[str] | None:
        rows = on_sqlite.query("SELECT import_id, state FROM import_jobs WHERE origin = 'manual'")
        done = [row["import_id"] for row in rows if row["import_id"] not in before and row["state"] == "completed"]
        # Waves hold two batches here, so a backfill of four partitions is two runs, each an import of its own.
        return done if len(done) == 2 else None

    imports = wait_until(launched, 150, "the backfill to be imported", every=0.5)
    batches = on_sqlite.query(
        "SELECT import_id, partition_key, started_at, finished_at FROM wave_batches WHERE import_id IN (:a, :b)",
        a=imports[0],
        b=imports[1],
    )
    assert sorted(row["partition_key"] for row in batches) == ["0", "1000", "2000", "3000"]
    spans = sorted(
        (
            min(row["started_at"] for row in batches if row["import_id"] == name),
            max(row["finished_at"] for row in batches if row["import_id"] == name),
        )
        for name in imports
    )
    assert spans[0][1] <= spans[1][0], "the second run began before the first had made room behind the gate"

"""Report page in Chromium: rendering, sorting, filtering, console errors, printing and mobile layout."""

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from temper.report import make_report
from tests.report.page.test_page import KINDS
from tests.report.test_pipeline import finished_run, write_study

pytestmark = [pytest.mark.browser, pytest.mark.slow]
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1200,1000",
)
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
RECORDS = [
    *KINDS,
    finished_run("pgd", "l2", 0, 0.93, 0.69, kind="combined"),
    finished_run("pgd", "dropout", 0, 0.88, 0.665, kind="combined"),
    finished_run("pgd_l2", "none", 0, 0.95, 0.5, kind="adversarial"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("chromium or chromedriver is not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    make_report(write_study(folder, RECORDS), folder / "results")
    return folder / "results"


@pytest.fixture
def page(browser: Any, results: Path, tmp_path: Path) -> Any:
    """Load the page, copied to an empty folder, and wait until its chart is drawn."""
    alone = Path(shutil.copy(results / "index.html", tmp_path))
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", OFFLINE)
    browser.get(alone.as_uri())
    wait(browser, "return document.querySelector('#chart')?.dataset.drawn !== undefined")
    return browser


OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}


def wait(browser: Any, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda driver: driver.execute_script(script))


def column(browser: Any, table: str, position: int) -> list[str]:
    """Return the texts of a column in the visible rows."""
    script = f"""return [...document.querySelectorAll('#{table} tbody tr:not([hidden])')]
        .map((row) => row.cells[{position}].textContent)"""
    found: list[str] = browser.execute_script(script)
    return found


def click(browser: Any, selector: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def test_page_renders_without_console_messages(page: Any) -> None:
    assert page.get_log("browser") == []
    assert page.title == "study · Temper"
    wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.execute_script(wide), "no horizontal overflow"
    pictures = "return [...document.images].map((image) => image.complete && image.naturalWidth > 100)"
    found = page.execute_script(pictures)
    assert found and all(found)
    marks = "return document.querySelectorAll('#chart svg .mark-symbol.role-mark path').length"
    assert page.execute_script(marks) == 6, "a mark for each cell"


def test_table_sorts_by_number_with_missing_values_last(page: Any) -> None:
    heading = "#table-accuracy th:nth-child(3) button"
    for direction in ("ascending", "descending"):
        click(page, heading)
        assert page.execute_script("return document.querySelector('#table-accuracy th[aria-sort]').ariaSort") == direction
        values = [float(text.split()[0]) for text in column(page, "table-accuracy", 2) if text != "–"]
        assert len(values) == 6 and values == sorted(values, reverse=direction == "descending")
        assert set(column(page, "table-accuracy", 2)[6:]) == {"–"}


def test_table_sorts_by_name(page: Any) -> None:
    click(page, "#table-accuracy th:nth-child(2) button")
    names = column(page, "table-accuracy", 1)
    assert names == sorted(names) and len(set(names)) == 3


def test_table_filters_by_words(page: Any) -> None:
    from selenium.webdriver.common.by import By

    field = page.find_element(By.CSS_SELECTOR, "#table-accuracy input")
    field.send_keys("pgd l2")
    assert [*zip(column(page, "table-accuracy", 0), column(page, "table-accuracy", 1), strict=True)] == [
        ("pgd", "l2"),
        ("pgd_l2", "l2"),
    ]
    assert page.find_element(By.CSS_SELECTOR, "#table-accuracy output").text == "2 of 9"
    field.send_keys(" nothing")
    assert column(page, "table-accuracy", 0) == []


def test_claims_filter_by_verdict(page: Any) -> None:
    shown = "return [...document.querySelectorAll('.claims > li:not([hidden])')].map((claim) => claim.dataset.verdict)"
    before = page.execute_script(shown)
    assert len(set(before)) > 1
    click(page, ".filters button[data-verdict='not evaluated']")
    assert page.execute_script(shown) == [verdict for verdict in before if verdict != "not evaluated"]
    click(page, ".filters button[data-verdict='not evaluated']")
    assert page.execute_script(shown) == before


def test_menus_select_the_axes_of_the_scatter_plot(page: Any) -> None:
    page.execute_script("""const menu = document.getElementById('x-axis');
        menu.selectedIndex = [...menu.options].findIndex((option) => option.text === 'training s');
        menu.dispatchEvent(new Event('change'))""")
    wait(page, "return document.querySelector('#chart').dataset.drawn.startsWith('training s')")
    texts = page.execute_script("return [...document.querySelectorAll('#chart svg text')].map((text) => text.textContent)")
    assert "training s" in texts and "clean %" not in texts
    assert page.get_log("browser") == []


def test_page_is_legible_on_a_phone(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        page.refresh()
        wait(page, "return document.querySelector('#chart')?.dataset.drawn !== undefined")
        assert page.execute_script("return document.documentElement.scrollWidth") <= PHONE["width"], "no horizontal scrolling"
        small = """return [...document.querySelectorAll('p, td, dd, dt, h1, h2, li, figcaption, small')]
            .map((each) => parseFloat(getComputedStyle(each).fontSize)).reduce((a, b) => Math.min(a, b))"""
        assert page.execute_script(small) >= 12, "font size in pixels of the smallest text"
        first = "const [a, b] = document.querySelectorAll('.card'); return b.offsetTop - a.offsetTop - a.offsetHeight"
        assert page.execute_script(first) >= 0, "cards are stacked"
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_page_prints(page: Any) -> None:
    printed = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert printed.startswith(b"%PDF") and printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") > 2

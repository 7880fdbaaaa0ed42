"""Dagster as a user starts it, with the example, and a browser that looks at it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
# A run starts three processes, one after the other; beside other tests each takes its time.
PATIENCE = 150


class Ui:
    """Dagster's pages, and what a user does there."""

    def __init__(self, page: Page, url: str, name: str) -> None:
        self.page = page
        self._url = url
        self._name = name

    def open(self, path: str) -> None:
        self.page.goto(f"{self._url}/{path}")

    def materialize(self, asset: str) -> None:
        """Press the button on the asset's page, and go on to the page of the run."""
        self.open(f"assets/{asset}")
        self.page.get_by_role("button", name="Materialize").first.click()
        self.page.get_by_text("View", exact=True).click()
        self.page.wait_for_url("**/runs/*")

    def shows(self, text: str, **options: Any) -> None:
        """Wait until a text is on the page."""
        expect(self.page.get_by_text(text, **options).first).to_be_visible()

    def shows_after_a_reload(self, text: str) -> None:
        """Wait for a text that Dagster shows when the page is asked for again."""
        for attempt in eventually(AssertionError):
            with attempt:
                self.page.reload()
                expect(self.page.get_by_text(text).first).to_be_visible(timeout=3_000)

    def logged(self, text: str, *, only: str) -> None:
        """Wait for a text in the log of a run, filtered, for the page holds what is in view."""
        self.page.get_by_placeholder(re.compile("^Filter")).fill(only)
        self.shows(text)

    def metadata(self, name: str) -> Locator:
        """The line of an asset's metadata with a name."""
        named = self.page.get_by_text(name, exact=True)
        return self.page.get_by_role("row").filter(has=named)

    @contextmanager
    def window_of(self, name: str) -> Iterator[Locator]:
        """The window that opens for an entry of the metadata that is too long for its line."""
        self.metadata(name).get_by_text("Show").click()
        window = self.page.get_by_role("dialog")
        yield window
        window.get_by_role("button", name="Close").click()
        expect(window).to_be_hidden()

    def shot(self, step: str) -> None:
        path = SCREENSHOTS / f"{self._name}-{step}.png"
        self.page.screenshot(path=path, animations="disabled")


def eventually(*errors: type[Exception]) -> Retrying:
    """Attempts until one raises none of these errors."""
    return Retrying(
        retry=retry_if_exception_type(errors),
        stop=stop_after_delay(PATIENCE),
        wait=wait_fixed(0.3),
        reraise=True,
    )


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser. Who has none need not install one, but where changes are checked it must be."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "There is no Chromium: install Debian's package `chromium`, say with `make browser`."
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def dagster_url(chromium: str, data_dir: Path) -> Iterator[str]:
    """`dagster dev`, daemon and all, with the example and a code location for the tests."""
    home = data_dir / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = ("QDRANT_URL", "QDRANT_API_KEY", "EMBEDDING_MODEL")
    environment = {name: value for name, value in os.environ.items() if name not in names} | {
        "DAGSTER_HOME": str(home),
        "EXAMPLE_DATA_DIR": str(data_dir),
        "FRESHNESS_DAEMON_INTERVAL_SECONDS": "5",
    }
    command = [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)]
    for module in ("example_project.definitions", "tests.browser.definitions"):
        command += ["--module-name", module]
    log = data_dir / "dagster.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for attempt in eventually(httpx.TransportError):
            with attempt:
                assert process.poll() is None, log.read_text()
                httpx.get(f"{url}/server_info", timeout=10).raise_for_status()
        yield url
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """What Ctrl-C does, and then an end to what is left of it."""
    os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="session")
def context(chromium: str) -> Iterator[BrowserContext]:
    expect.set_options(timeout=PATIENCE * 1000)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium)
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        context.set_default_timeout(PATIENCE * 1000)
        yield context
        browser.close()


@pytest.fixture
def ui(request: pytest.FixtureRequest, context: BrowserContext, dagster_url: str) -> Iterator[Ui]:
    page = context.new_page()
    # The community's dialog, which covers everything until it was answered once.
    skip = page.get_by_role("button", name="Skip", exact=True)
    page.add_locator_handler(skip, lambda button: button.click())
    ui = Ui(page, dagster_url, request.node.originalname.removeprefix("test_"))
    yield ui
    ui.shot("end")
    page.close()


@pytest.fixture(scope="session")
def search(dagster_url: str, data_dir: Path, model: dict[str, Any]) -> Any:
    """Search what the example loaded, while Dagster runs."""
    from dagster_qdrant import QdrantResource

    return QdrantResource(path=str(data_dir / "qdrant"), **model).search

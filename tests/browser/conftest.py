"""One stack and one browser for all of these tests; for each test a person nobody has heard of."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.console import Console
from tests.browser.stack import Stack, running_stack
from tests.tools import require_tool

OpenConsole = Callable[..., Console]

_ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = require_tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def whole_stack(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture
def stack(whole_stack: Stack) -> Iterator[Stack]:
    """The stack, with nothing left of what the test before asked COS to do."""
    whole_stack.cos.clear_faults()
    whole_stack.cos.clear_journal()
    yield whole_stack
    whole_stack.cos.clear_faults()


@pytest.fixture
def open_console(
    stack: Stack, browser: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[OpenConsole]:
    """Opens the page with a token of the test's own; the keyword arguments are the token's policy."""
    opened: list[Console] = []

    def open_it(**policy: Any) -> Console:
        context = browser.new_context(viewport={"width": 1000, "height": 900})
        token = stack.token(request.node.name, **policy)
        opened.append(Console(stack, context, context.new_page(), token, tmp_path))
        return opened[-1].open()

    yield open_it
    for console in opened:
        console.context.close()
        assert console.complaints == []


@pytest.fixture
def console(open_console: OpenConsole) -> Console:
    return open_console()

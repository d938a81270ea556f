"""axe finds nothing to complain of, in any state, look, language or width; pictures are kept to be looked at."""

from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.console import MIB, Console
from tests.browser.stack import Stack
from tests.tools import require_node_package

WIDTHS: Final = (1000, 375)


@pytest.fixture
def axe() -> str:
    return str(require_node_package("axe-core") / "axe.min.js")


def violations_in_every_look(page: Page, folder: Path) -> list[str]:
    """What axe finds in both colours, both languages and both widths; leaves the page as it was."""
    page.emulate_media(reduced_motion="reduce")  # half-way through a change of colours nothing can be read
    found = []
    for theme in ("first", "second"):
        for language in ("first", "second"):
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                page.screenshot(path=folder / f"{theme}-{language}-{width}.png", full_page=True)
                found += violations(page)
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            spoken = page.evaluate("document.documentElement.lang")
            page.locator("#language").click()
            page.wait_for_function("before => document.documentElement.lang !== before", arg=spoken)
        page.locator("#theme").click()
    return found


def violations(page: Page) -> list[str]:
    rules: list[dict[str, Any]] = page.evaluate("axe.run().then((result) => result.violations)")
    return [f"{rule['id']}: {node['html'][:120]}" for rule in rules for node in rule["nodes"]]


def test_a_list_with_every_state_has_no_violations(console: Console, stack: Stack, axe: str) -> None:
    console.context.add_init_script(path=axe)
    console.page.reload()
    console.expect_connection("Live")
    stack.create_batch(
        console.token, *({"key": f"day/{name}.jpg", "size": MIB} for name in "ab"), {"key": "//", "size": 1}
    )
    stack.cos.fault("error", operation="UploadPart", key="failed.mov", times=None, status=403, code="AccessDenied")
    console.choose([console.file("done.txt", 900), console.file("failed.mov", 6 * MIB)])
    console.expect_state("Done", "done.txt")
    console.expect_state("Failed", "failed.mov")
    stack.cos.fault("stall", operation="UploadPart", times=None)
    console.choose([console.file(name, 6 * MIB) for name in ("moving.mp4", "paused.iso", "canceled.zip")])
    console.expect_state("Uploading", "moving.mp4", "paused.iso", "canceled.zip")
    console.press("paused.iso", "Pause")
    console.press("canceled.zip", "Cancel")
    console.expect_state("Paused", "paused.iso")
    console.expect_state("Canceled", "canceled.zip")
    expect(console.page.locator("#chart")).to_be_visible()

    assert violations_in_every_look(console.page, console.folder) == []


def test_an_empty_list_and_the_way_in_have_no_violations(
    stack: Stack, browser: Browser, axe: str, tmp_path: Path
) -> None:
    context = browser.new_context()
    context.add_init_script(path=axe)
    page = context.new_page()
    page.goto(stack.url)
    expect(page.get_by_label("Token")).to_be_focused()
    way_in = violations(page)
    page.screenshot(path=tmp_path / "way-in.png")

    page.get_by_label("Token").fill(stack.token("empty"))
    page.keyboard.press("Enter")
    expect(page.locator("#connection")).to_have_text("Live")

    assert way_in + violations_in_every_look(page, tmp_path) == []
    context.close()


def test_the_page_is_small_and_soon_ready(stack: Stack, browser: Browser, record_property: Any) -> None:
    """The time is told, not judged: this machine has other things to do."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{stack.url}#token={stack.token('measured')}")
    page.wait_for_function("performance.getEntriesByName('interactive').length === 1")

    sizes = page.evaluate("performance.getEntries().map((entry) => entry.encodedBodySize ?? 0)")
    ready = page.evaluate("performance.getEntriesByName('interactive')[0].startTime")
    record_property("interactive_milliseconds", ready)
    print(f"console page: {sum(sizes)} bytes in {len([size for size in sizes if size])} files, ready in {ready:.0f} ms")
    assert 20_000 < sum(sizes) < 60_000
    context.close()

"""Whose files they are: the page says it, a link cannot change it unasked, and names read as what they are."""

import base64
import json
import re
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import OpenConsole
from tests.browser.console import Console
from tests.browser.stack import Stack
from tests.browser.test_accessibility import axe, violations

__all__ = ["axe"]


def follow(console: Console, token: str) -> None:
    """Have the address of the open page changed, as a page that opened it can."""
    console.page.evaluate("token => { location.hash = `token=${token}`; }", token)


def test_s16_the_page_says_whose_token_it_is(open_console: OpenConsole) -> None:
    console = open_console(prefix="films/")

    whose = expect(console.page.locator("#whose"))
    whose.to_have_text(
        re.compile(r"Signed in as test_s16_the_page_says_whose_token_it_is · folder films/ · until .*\d:\d\d.*")
    )
    console.page.locator("#language").click()
    whose.to_contain_text("已登录：test_s16_the_page_says_whose_token_it_is · 文件夹 films/ · 有效期至 20")


def test_f13_an_end_that_no_calendar_has_breaks_nothing(console: Console) -> None:
    claims = {"sub": "test_f13_an_end_that_no_calendar_has_breaks_nothing", "exp": 2**53}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    follow(console, f"eyJhbGciOiJIUzI1NiJ9.{payload}.x")

    expect(console.page.locator("#whose")).to_contain_text("until ?")


def test_s16_a_link_with_anothers_token_asks_first(console: Console, stack: Stack, axe: str) -> None:
    console.choose([console.file("mine.txt", 900)])
    console.expect_state("Done", "mine.txt")
    mine, page = console.page.locator("#whose").inner_text(), console.page
    question = page.get_by_role("alertdialog")

    follow(console, stack.token("mallory"))

    expect(question).to_contain_text("mallory")
    expect(page.get_by_role("button", name="Stay signed in")).to_be_focused()
    page.evaluate(Path(axe).read_text())
    assert violations(page) == []
    assert page.evaluate("location.hash") == ""
    console.choose([console.file("mine too.txt", 900)])
    console.expect_state("Done", "mine too.txt")
    page.get_by_role("button", name="Stay signed in").click()
    expect(question).to_be_hidden()
    expect(page.locator("#whose")).to_have_text(mine)
    page.reload()
    console.expect_state("Done", "mine.txt", "mine too.txt")


def test_s16_a_link_opened_in_a_tab_that_is_signed_in_asks_too_and_switches_cleanly(
    console: Console, stack: Stack
) -> None:
    console.choose([console.file("mine.txt", 900)])
    console.expect_state("Done", "mine.txt")
    page = console.page
    page.goto("about:blank")
    page.goto(f"{stack.url}#token={stack.token('bob')}")

    console.expect_state("Done", "mine.txt")
    page.get_by_role("button", name="Switch").click()

    expect(page.locator("#whose")).to_contain_text("Signed in as bob ·")
    expect(page.locator("#empty")).to_have_text("No files yet.")
    expect(page.get_by_role("alertdialog")).to_be_hidden()


def test_s16_a_newer_token_of_the_same_person_is_taken_at_once(console: Console, stack: Stack) -> None:
    follow(console, stack.token("test_s16_a_newer_token_of_the_same_person_is_taken_at_once", prefix="a/"))

    expect(console.page.locator("#whose")).to_contain_text("folder a/")
    expect(console.page.get_by_role("alertdialog")).to_be_hidden()


def test_s16_who_signs_in_by_hand_as_somebody_else_leaves_nothing_running(console: Console, stack: Stack) -> None:
    stack.cos.fault("stall", operation="UploadPart", times=None)
    console.choose([console.file("mine.iso", 3 << 20)])
    console.expect_state("Uploading", "mine.iso")
    page = console.page
    page.evaluate("document.getElementById('sign-in').hidden = false")

    page.get_by_label("Token").fill(stack.token("carol"))
    page.keyboard.press("Enter")

    expect(page.locator("#whose")).to_contain_text("Signed in as carol ·")
    expect(page.locator("#empty")).to_have_text("No files yet.")


def test_s22_a_name_that_turns_the_direction_of_writing_shows_it(console: Console) -> None:
    console.drop("evil\u202egpj.exe", "text")
    shown = "evil⟨U+202E⟩gpj.exe"

    console.expect_state("Done", shown)
    assert "\u202e" not in console.page.locator("body").inner_text()

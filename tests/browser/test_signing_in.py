"""Nobody is ever left without a way in: wrong tokens, one after another, and browsers that keep nothing."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect

from tests.browser.stack import Stack


@pytest.fixture
def page(stack: Stack, browser: Browser) -> Iterator[Page]:
    """The page as somebody opens it who has no token."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


def sign_in(page: Page, token: str) -> None:
    """Type *token* into the form, which is there."""
    expect(page.locator("#token")).to_be_visible()
    page.fill("#token", token)
    page.press("#token", "Enter")


def spoiled(token: str, letter: str) -> str:
    """*token*, of the same person, with a signature that is none."""
    head, claims, _ = token.split(".")
    return f"{head}.{claims}.{letter * 43}"


@pytest.mark.parametrize("of_one_person", [True, False])
def test_a1_the_form_stays_for_as_many_wrong_tokens_as_are_typed(page: Page, stack: Stack, of_one_person: bool) -> None:
    token = stack.token(f"somebody with a typing error {of_one_person}")
    page.goto(stack.url)
    for letter in "abc":
        sign_in(page, spoiled(token, letter) if of_one_person else f"bad{letter}")
        expect(page.locator("#connection")).to_have_text("Signed out")
        expect(page.locator("#sign-in")).to_be_visible()

    sign_in(page, token)

    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator("#sign-in")).to_be_hidden()


def test_a1_a_wrong_token_after_a_link_with_a_wrong_one_leaves_the_form(page: Page, stack: Stack) -> None:
    token = stack.token("somebody with a broken link")
    page.goto(f"{stack.url}#token={spoiled(token, 'x')}")
    sign_in(page, spoiled(token, "y"))
    expect(page.locator("#connection")).to_have_text("Signed out")

    sign_in(page, token)

    expect(page.locator("#connection")).to_have_text("Live")


@pytest.mark.parametrize(
    "storage",
    [
        "Object.defineProperty(window, name, { get() { throw new DOMException('blocked', 'SecurityError'); } })",
        "Object.defineProperty(window, name, { value: null })",
        "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }",
    ],
)
@pytest.mark.parametrize("names", ["sessionStorage", "localStorage", "sessionStorage localStorage"])
def test_a_page_whose_browser_keeps_nothing_works_without_memory(
    page: Page, stack: Stack, storage: str, names: str
) -> None:
    """Report 10."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.add_init_script(f"for (const name of '{names}'.split(' ')) {storage};")
    page.goto(stack.url)

    sign_in(page, stack.token(f"nobody kept by {names}"))
    expect(page.locator("#connection")).to_have_text("Live")
    file: FilePayload = {"name": "kept.txt", "mimeType": "text/plain", "buffer": b"nowhere"}
    page.set_input_files("#files", file)

    expect(page.locator("#count-success")).not_to_have_text("0")
    assert stack.stored("kept.txt") == b"nowhere"
    assert complaints == []


def test_a_storage_that_has_become_full_does_not_tell_what_was_kept_before(page: Page, stack: Stack) -> None:
    page.goto(stack.url)

    told = page.evaluate(
        """async () => {
            const { keep, kept } = await import("/console/storage.js");
            keep("sessionStorage", "name", "before");
            Storage.prototype.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
            keep("sessionStorage", "name", "now");
            return kept("sessionStorage", "name");
        }"""
    )

    assert told == "now"

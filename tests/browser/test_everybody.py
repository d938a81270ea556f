"""The page for everybody: by keyboard, by screen reader, on a phone, and for whoever has no token yet."""

from playwright.sync_api import Browser, expect

from tests.browser.console import MIB, Console
from tests.browser.stack import Stack


def test_everything_works_from_the_keyboard(console: Console, stack: Stack) -> None:
    page = console.page
    stack.cos.fault("stall", operation="UploadPart", times=None)
    for name in ("Dark colours", "中文", "Choose files"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=name)).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(console.file("film", 6 * MIB))
    console.expect_state("Uploading", "film")

    console.button("film", "Pause").focus()
    page.keyboard.press("Enter")
    expect(console.button("film", "Restart")).to_be_focused()
    stack.cos.clear_faults()
    page.keyboard.press("Space")
    console.expect_state("Done", "film")

    expect(page.get_by_role("heading", name="film")).to_be_focused()


def test_every_control_can_be_reached_by_tab_and_shows_its_focus(console: Console, stack: Stack) -> None:
    stack.cos.fault("stall", operation="UploadPart", times=None)
    console.choose(console.file("film", 6 * MIB))
    console.expect_state("Uploading", "film")
    console.page.locator("body").click(position={"x": 5, "y": 5})

    reached = []
    for _ in range(9):
        console.page.keyboard.press("Tab")
        reached.append(console.page.evaluate("[document.activeElement.textContent || document.activeElement.value]")[0])
        shown = (
            "getComputedStyle(document.activeElement.closest('#filter label') ?? document.activeElement).outlineStyle"
        )
        assert console.page.evaluate(shown) == "solid"

    look = ["Dark colours", "中文"]
    assert reached == [*look, "Choose files", "Choose a folder", "", "Pause all", "all", "Pause", "Cancel"]


def test_a_screen_reader_hears_names_values_and_news(console: Console, stack: Stack) -> None:
    stack.cos.fault("stall", operation="UploadPart", times=None)
    console.choose(console.file("film", 6 * MIB))

    expect(console.bar("film")).to_have_attribute("aria-valuetext", "99 %, Uploading")
    expect(console.bar("All files")).to_be_visible()
    expect(console.button("film", "Pause")).to_have_accessible_description("film")
    stack.cos.clear_faults()
    expect(console.page.locator("[aria-live=polite]")).to_have_text("film uploaded.", timeout=15_000)


def test_a_phone_shows_everything_without_scrolling_sideways(console: Console, stack: Stack) -> None:
    stack.cos.fault("stall", operation="UploadPart", times=None)
    console.page.set_viewport_size({"width": 320, "height": 640})
    name = "a-very-long-name-without-any-space-" * 5 + ".tar.gz"

    console.choose(console.file(name, 6 * MIB))
    console.expect_state("Uploading", name)
    console.shot("phone", full_page=True)

    width = "document.documentElement.scrollWidth"
    assert console.page.evaluate(width) == 320


def test_dark_colours_are_used_where_they_are_preferred(console: Console) -> None:
    console.choose(console.file("note", 10))
    console.expect_state("Done", "note")
    light = console.page.evaluate("getComputedStyle(document.body).backgroundColor")

    console.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    console.shot("dark")

    assert console.page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert console.page.evaluate("getComputedStyle(document.querySelector('#drop')).transitionDuration") == "0s"


def test_the_token_leaves_the_address_and_outlives_a_reload(console: Console, stack: Stack) -> None:
    assert console.page.url == stack.url

    console.page.reload()

    console.expect_connection("Live")


def test_whoever_has_no_token_is_asked_for_one(stack: Stack, browser: Browser) -> None:
    page = browser.new_context().new_page()
    page.goto(stack.url)
    expect(page.get_by_label("Token")).to_be_focused()

    page.get_by_label("Token").fill("no.such.token")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("The token has expired or is not valid.")).to_be_visible()
    page.get_by_label("Token").fill(stack.token("late"))
    page.keyboard.press("Enter")

    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.get_by_label("Token")).to_be_hidden()
    page.context.close()


def test_a_folder_of_names_with_markup_stays_text(console: Console) -> None:
    name = "<img src=x onerror=alert(1)>"

    console.choose(console.file(name, 10))

    console.expect_state("Done", name)

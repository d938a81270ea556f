"""What the page shows beyond its rows: states, batches, throughput, errors in words, two languages, two looks."""

import re
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Locator, expect

from gateway.domain.errors import all_codes
from tests.browser.console import MIB, Console
from tests.browser.stack import Stack

OWN_CODES = ("network", "file_unreadable", "file_differs")


def show_only(console: Console, state: str) -> None:
    """Press the filter *state* as a mouse or a finger does."""
    console.page.locator("#filter label").filter(has_text=state).click()


def batch_named(console: Console, name: str) -> Locator:
    heading = console.page.get_by_role("heading", name=name, exact=True)
    return console.page.locator(".batch").filter(has=heading)


def test_the_list_can_be_narrowed_to_one_state(console: Console, stack: Stack) -> None:
    stack.cos.fault("error", operation="UploadPart", key="broken", times=None, status=403, code="AccessDenied")
    console.choose([console.file(name, 2 * MIB) for name in ("good", "broken")])
    console.expect_state("Done", "good")
    console.expect_state("Failed", "broken")

    show_only(console, "Failed")
    expect(console.row("broken")).to_be_visible()
    expect(console.row("good")).to_have_count(0)
    show_only(console, "Paused")
    expect(console.page.get_by_text("No files in this state.")).to_be_visible()
    show_only(console, "All")

    expect(console.row("good")).to_be_visible()
    counts = console.page.locator("#filter label").all_inner_texts()
    assert counts == ["All 2", "Active 0", "Paused 0", "Failed 1", "Done 1", "Canceled 0"]


def test_the_filter_works_from_the_keyboard_and_follows_a_change_of_state(console: Console, stack: Stack) -> None:
    stack.cos.fault("stall", operation="UploadPart", times=None)
    console.choose(console.file("film", 6 * MIB))
    console.expect_state("Uploading", "film")

    console.page.get_by_role("radio", name="All").focus()
    console.page.keyboard.press("ArrowRight")
    expect(console.page.get_by_role("radio", name="Active 1")).to_be_checked()
    console.press("film", "Pause")

    expect(console.row("film")).to_have_count(0)
    expect(console.page.get_by_role("radio", name="Paused 1")).to_be_visible()


def test_a_batch_shows_its_files_its_sum_and_what_was_refused(console: Console, stack: Stack) -> None:
    files: list[dict[str, Any]] = [{"key": f"day/{name}", "size": 2 * MIB} for name in ("one", "two")]
    stack.create_batch(console.token, *files, {"key": "/not//allowed", "size": 1})

    batch = batch_named(console, "Batch of 3 files")
    expect(batch.get_by_role("listitem")).to_have_count(2)
    expect(batch.locator("> .trouble")).to_contain_text("File 3 was refused. Invalid key.")
    expect(batch.locator(".facts").first).to_contain_text("0 bytes of 4.2 MB")
    expect(console.row("day/two")).to_be_visible()
    batch.get_by_role("button", name="Hide files").click()

    expect(console.row("day/two")).to_have_count(0)
    expect(batch.get_by_role("button", name="Show files")).to_have_attribute("aria-expanded", "false")


def test_s6_what_comes_in_several_pages_is_shown_whole(console: Console, stack: Stack) -> None:
    files: list[dict[str, Any]] = [{"key": f"many/{number}", "size": 1} for number in range(120)]
    stack.create_batch(console.token, *files, {"key": "/not//allowed", "size": 1})
    batch = batch_named(console, "Batch of 121 files")
    for _ in range(2):
        expect(batch.locator("> .trouble")).to_contain_text("File 121 was refused.")
        expect(batch.get_by_role("listitem")).to_have_count(120)
        console.page.reload()


def test_a_whole_batch_is_paused_restarted_and_canceled(console: Console, stack: Stack) -> None:
    made = stack.create_batch(console.token, *({"key": f"whole/{n}", "size": 2 * MIB} for n in (1, 2)))
    batch = batch_named(console, "Batch of 2 files")

    batch.get_by_role("button", name="Pause all").click()
    console.expect_state("Paused", "whole/1", "whole/2")
    batch.get_by_role("button", name="Restart all").click()
    console.expect_state("Waiting", "whole/1", "whole/2")
    batch.locator("> .bottom").get_by_role("button", name="Cancel").click()
    console.expect_state("Canceled", "whole/1", "whole/2")

    mine = [task for task in stack.tasks(console.token) if task["batch_id"] == made["id"]]
    assert [task["state"] for task in mine] == ["canceled", "canceled"]


def test_the_chart_counts_the_bytes_that_came_in_words_too(console: Console) -> None:
    chart = console.page.locator("#chart")
    expect(chart).to_be_hidden()

    console.choose(console.file("film", 12 * MIB))
    console.expect_state("Done", "film")

    words = re.compile("Throughput: Now .+ 13 MB in the last 5 minutes")
    expect(console.page.get_by_role("img", name=words)).to_be_visible()
    assert len(console.page.locator("#chart path").get_attribute("d") or "") > 300


def test_a_browser_in_chinese_gets_chinese_and_the_button_english(stack: Stack, browser: Browser) -> None:
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(f"{stack.url}#token={stack.token('chinese', prefix='中/')}")
    expect(page.locator("#connection")).to_have_text("实时")
    stack.cos.fault("error", operation="UploadPart", times=None, status=403, code="AccessDenied")
    page.set_input_files("#files", {"name": "猫.mov", "mimeType": "video/quicktime", "buffer": b"x" * (2 * MIB)})

    trouble = page.locator(".trouble")
    expect(page.get_by_role("listitem").locator(".state")).to_have_text("失败")
    expect(trouble).to_have_text(
        "COS 拒绝网关访问。请告知网关管理员：网关的 COS 密钥缺少权限。 (storage_denied, AccessDenied)"
    )
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.get_by_role("button", name="English").click()
    expect(trouble).to_contain_text("COS denies the gateway access. COS answered 403 AccessDenied. Tell whoever")
    page.reload()
    expect(page.locator("#connection")).to_have_text("Live")
    context.close()


REPORTED: Final = frozenset(
    {
        "bad_digest",
        "bad_framing",
        "bad_json",
        "bad_query",
        "bad_request",
        "bad_request_target",
        "content_encoding_unsupported",
        "expectation_failed",
        "field_order",
        "field_too_large",
        "header_too_large",
        "invalid_field",
        "invalid_part_number",
        "invalid_range",
        "invalid_size",
        "length_required",
        "malformed_multipart",
        "method_not_allowed",
        "not_found",
        "part_size_mismatch",
        "part_too_large",
        "ticket_invalid",
        "too_many_parts",
        "unknown_field",
        "unsupported_media_type",
        "upgrade_not_supported",
        "uri_too_long",
    }
)
"""Codes that the page itself would have to be at fault for; for any other somebody has to decide what to advise."""


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_error_has_words_and_something_to_do(console: Console, language: str) -> None:
    """A code that a language does not know would show the gateway's English, and no advice its name only."""
    codes = {code: error.retryable for code, error in all_codes().items()} | dict.fromkeys(OWN_CODES, False)

    told = console.page.evaluate(
        """async ([language, codes]) => {
            const { speak, troubleOf } = await import("/console/words.js");
            speak(language);
            return codes.map(([code, retryable]) => troubleOf({ code, title: "TITLE", retryable }));
        }""",
        [language, list(codes.items())],
    )

    for code, text in zip(codes, told, strict=True):
        happened, advice = re.fullmatch(r"(.+?[.。])\s?(.+)", text.removesuffix(f" ({code})"), re.DOTALL).groups()  # type: ignore[union-attr]
        assert advice.endswith((".", "。")), code
        assert (happened.rstrip(".。") == "TITLE") == (language == "en"), code
        if language == "en" and code not in REPORTED:
            assert not advice.startswith("Reload the page"), code


def test_both_languages_say_the_same_things(console: Console) -> None:
    missing = console.page.evaluate(
        """async () => {
            const [en, zh] = (await Promise.all([import("/console/english.js"), import("/console/chinese.js")]))
                .map((language) => language.default);
            const gaps = (text) => [...new Set(String(text).match(/\\{\\d\\}/g))].sort().join();
            const differs = (name) => !(name in zh && name in en) || gaps(en[name]) !== gaps(zh[name]);
            const names = Object.keys({ ...en, ...zh }).filter((name) => !["errors", "advice"].includes(name));
            const advice = Object.keys({ ...en.advice, ...zh.advice });
            return [...names.filter(differs), ...advice.filter((name) => !en.advice[name] || !zh.advice[name])];
        }"""
    )

    assert missing == []


def test_the_chosen_look_outlives_a_reload(console: Console) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light = console.page.evaluate(colour)
    button = console.page.get_by_role("button", name="Dark colours")
    expect(button).to_have_attribute("aria-pressed", "false")

    button.click()
    dark = console.page.evaluate(colour)
    console.page.reload()
    console.expect_connection("Live")

    assert dark != light
    assert console.page.evaluate(colour) == dark
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    assert console.page.evaluate(colour) == light

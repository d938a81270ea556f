"""A reload, a lost network, a lost websocket: what is stored stays, and the rest follows."""

import os

import pytest
from playwright.sync_api import expect

from tests.browser.console import MIB, Console
from tests.browser.stack import Stack
from tests.browser.test_control import FILM_BYTES, hold_after


def reload_half_way(console: Console, stack: Stack, name: str) -> None:
    """Send the file *name* until three of its seven parts are stored, then reload the page."""
    hold_after(stack, 3)
    console.choose(console.folder / name)
    stack.until(lambda entries: sum(entry["status"] == 200 for entry in entries) >= 4)
    console.page.reload()
    console.expect_state("Interrupted", name)
    stack.cos.clear_faults()


def test_after_a_reload_the_file_is_chosen_again_and_goes_on(console: Console, stack: Stack) -> None:
    film = console.file("film", FILM_BYTES)
    reload_half_way(console, stack, "film")
    console.shot("interrupted")

    console.go_on_with("film", film)
    console.expect_state("Done", "film")

    assert stack.stored("film") == film.read_bytes()
    assert [stack.stored_parts("film").count(number) for number in (1, 2, 3)] == [1, 1, 1]
    assert len(stack.tasks(console.token)) == 1


def test_dropping_the_same_file_again_goes_on_with_the_same_task(console: Console, stack: Stack) -> None:
    film = console.file("film", FILM_BYTES)
    reload_half_way(console, stack, "film")

    console.choose(film)
    expect(console.page.get_by_text("Interrupted")).to_have_count(0)
    console.expect_state("Done", "film")

    assert stack.stored("film") == film.read_bytes()
    assert len(stack.tasks(console.token)) == 1
    assert stack.stored_parts("film").count(1) == 1


@pytest.mark.promise(16)
def test_f3_a_task_whose_upload_is_lost_is_left_alone_until_a_person_asks(console: Console, stack: Stack) -> None:
    """Somebody may have canceled it: the same file, chosen again, is a task of its own."""
    film = console.file("film", FILM_BYTES)
    reload_half_way(console, stack, "film")
    stack.cos.fault("error", operation="UploadPart", key="film", times=None, status=404, code="NoSuchUpload")
    console.go_on_with("film", film)
    console.expect_trouble("film", "upload_lost", "Somebody may have canceled it.")
    expect(console.page.get_by_role("button", name="Restart all")).to_have_count(0)
    stack.cos.clear_faults()
    console.page.reload()
    console.expect_state("Failed", "film")

    console.choose(film)
    expect(console.page.locator(".state").get_by_text("Done", exact=True)).to_have_count(1, timeout=15_000)

    assert stack.stored("film") == film.read_bytes()
    assert sorted(task["state"] for task in stack.tasks(console.token)) == ["error", "success"]


def test_a_different_file_is_refused_in_words(console: Console, stack: Stack) -> None:
    film = console.file("film", FILM_BYTES)
    original = film.read_bytes()
    times = film.stat()
    reload_half_way(console, stack, "film")

    film.write_bytes(original[: FILM_BYTES // 2] + b"?" + original[FILM_BYTES // 2 + 1 :])
    os.utime(film, ns=(times.st_atime_ns, times.st_mtime_ns))
    console.go_on_with("film", film)
    console.expect_trouble("film", "This is another file.", "the content is not")
    console.go_on_with("film", console.file("other", MIB))
    console.expect_trouble("film", "it was called “film”, this one is “other”")
    film.write_bytes(original[:-1])
    console.go_on_with("film", film)
    console.expect_trouble("film", f"it had {FILM_BYTES} bytes, this one has {FILM_BYTES - 1}")
    console.shot("refused")

    assert stack.tasks(console.token)[0]["state"] == "uploading"
    film.write_bytes(original)
    os.utime(film, ns=(times.st_atime_ns, times.st_mtime_ns))
    console.go_on_with("film", film)
    console.expect_state("Done", "film")
    assert stack.stored("film") == original


def test_another_browser_knows_the_file_by_its_stored_parts(console: Console, stack: Stack) -> None:
    """Nothing is remembered there; a paused task still takes its own file only."""
    film = console.file("film", FILM_BYTES)
    original = film.read_bytes()
    reload_half_way(console, stack, "film")
    console.page.evaluate("localStorage.clear()")
    console.page.evaluate("sessionStorage.removeItem('gateway.task.tab')")
    console.page.reload()
    console.press("film", "Pause")

    film.write_bytes(b"?" + original[1:])
    console.go_on_with("film", film)
    console.expect_trouble("film", "the parts already stored have other content")
    film.write_bytes(original)
    console.go_on_with("film", film)

    console.expect_state("Done", "film")
    assert stack.stored("film") == original


def test_a_lost_network_is_waited_for(console: Console, stack: Stack) -> None:
    film = console.file("film", FILM_BYTES)
    hold_after(stack, 3)
    console.choose(film)
    stack.until(lambda entries: sum(entry["status"] == 200 for entry in entries) >= 4)

    console.context.set_offline(True)
    console.expect_state("Offline, waiting for the network", "film")
    console.shot("offline")
    stack.cos.clear_faults()
    console.context.set_offline(False)
    console.expect_state("Done", "film", seconds=30)

    assert stack.stored("film") == film.read_bytes()


def test_an_expired_token_is_asked_for_again_and_everything_goes_on(
    console: Console, stack: Stack, request: pytest.FixtureRequest
) -> None:
    """A token is good for 30 s beyond its end: this one for three more."""
    film = console.file("film", FILM_BYTES)
    expiring = stack.token(request.node.name, seconds=-27)
    console.page.evaluate("token => sessionStorage.setItem('gateway.token', token)", expiring)
    console.page.reload()
    hold_after(stack, 0)
    console.choose(film)

    expect(console.page.get_by_text("The token has expired or is not valid.")).to_be_visible(timeout=15_000)
    stack.cos.clear_faults()
    console.expect_state("Waiting for you to sign in", "film")
    console.page.get_by_label("Token").fill(stack.token(request.node.name))
    console.page.keyboard.press("Enter")
    console.expect_state("Done", "film")

    assert stack.stored("film") == film.read_bytes()


def test_without_a_websocket_the_page_asks(console: Console, stack: Stack) -> None:
    deaf = console.context.new_page()
    deaf.route_web_socket("**/v1/progress", lambda socket: socket.close())
    deaf.goto(f"{stack.url}#token={console.token}")
    expect(deaf.locator("#connection")).to_have_text("Connected, updating every few seconds")

    console.choose(console.file("film", FILM_BYTES))
    console.expect_state("Done", "film")

    expect(deaf.get_by_role("listitem").locator(".state")).to_have_text("Done", timeout=10_000)

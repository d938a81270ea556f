"""Pause, restart, cancel and retry, from this tab and from another one."""

from playwright.sync_api import expect

from tests.browser.console import MIB, Console
from tests.browser.stack import Stack
from tests.fakes.local_cos import BUCKET

FILM_BYTES = 26 * MIB + 5  # seven parts of 4 MiB


def hold_after(stack: Stack, part_number: int) -> None:
    """Let COS take the parts up to *part_number*, and hold the others."""
    for number in range(part_number + 1, 8):
        stack.cos.fault("stall", operation="UploadPart", part_number=number, times=None)


def test_a_paused_file_goes_on_from_its_stored_parts(console: Console, stack: Stack) -> None:
    film = console.file("film", FILM_BYTES)
    hold_after(stack, 3)
    console.choose(film)
    stack.until(lambda entries: sum(entry["status"] == 200 for entry in entries) >= 4)

    console.press("film", "Pause")
    console.expect_state("Paused", "film")
    assert stack.tasks(console.token)[0]["state"] == "paused"
    console.shot("paused")
    stack.cos.clear_faults()
    console.press("film", "Restart")
    console.expect_state("Done", "film")

    assert stack.stored("film") == film.read_bytes()
    assert sorted(stack.stored_parts("film"))[:3] == [1, 2, 3]
    assert stack.stored_parts("film").count(1) == 1


def test_a_file_that_waits_for_its_turn_can_be_paused_and_canceled(console: Console, stack: Stack) -> None:
    names = ["a", "b", "c", "d", "e"]
    stack.cos.fault("stall", operation="UploadPart", times=None)
    console.choose([console.file(name, 2 * MIB) for name in names])
    console.expect_state("Uploading", "a", "b", "c")

    console.press("d", "Pause")
    console.press("e", "Cancel")
    stack.cos.clear_faults()

    console.expect_state("Done", "a", "b", "c")
    console.expect_state("Paused", "d")
    console.expect_state("Canceled", "e")
    console.press("d", "Restart")
    console.expect_state("Done", "d")
    assert "e" not in stack.cos.keys(BUCKET)


def test_a_pause_waits_for_none_of_the_six_connections_of_a_browser(console: Console, stack: Stack) -> None:
    """Nine parts are under way and none moves: the request for the pause would come after the last of them."""
    names = ["a", "b", "c"]
    stack.cos.fault("stall", operation="UploadPart", times=None)
    console.choose([console.file(f"busy/{name}", 18 * MIB) for name in names])
    console.expect_state("Uploading", *names)

    with console.page.expect_response("**/v1/tasks/*/pause", timeout=10_000):
        console.press("b", "Pause")

    console.expect_state("Paused", "b")
    stack.cos.clear_faults()
    console.press("b", "Restart")
    console.expect_state("Done", *names)


def test_a_file_canceled_while_its_task_is_created_leaves_no_task_behind(console: Console, stack: Stack) -> None:
    """The gateway made the task; its answer never comes, the websocket tells of it."""
    console.page.route("**/v1/tasks", lambda route: route.fetch() and None)
    console.choose(console.file("late", 2 * MIB))
    expect(console.row("late")).to_be_visible()

    console.press("late", "Cancel")

    stack.until(lambda entries: any(entry["operation"] == "AbortMultipartUpload" for entry in entries))
    assert [task["state"] for task in stack.tasks(console.token)] == ["canceled"]


def test_cancel_leaves_neither_object_nor_fragments(console: Console, stack: Stack) -> None:
    hold_after(stack, 3)
    console.choose(console.file("unwanted", FILM_BYTES))
    stack.until(lambda entries: sum(entry["status"] == 200 for entry in entries) >= 4)

    console.press("unwanted", "Cancel")
    console.expect_state("Canceled", "unwanted")
    stack.cos.clear_faults()
    stack.until(lambda entries: any(entry["operation"] == "AbortMultipartUpload" for entry in entries))

    assert "unwanted" not in stack.cos.open_uploads(BUCKET)
    assert "unwanted" not in stack.cos.keys(BUCKET)
    expect(console.row("unwanted").get_by_role("button")).to_have_count(0)


def test_an_error_is_told_in_words_and_retry_goes_on_from_the_stored_parts(console: Console, stack: Stack) -> None:
    film = console.file("film", FILM_BYTES)
    stack.cos.fault("error", operation="UploadPart", part_number=5, times=None, status=403, code="AccessDenied")

    console.choose(film)
    console.expect_state("Failed", "film")
    console.expect_trouble("film", "COS denies the gateway access.", "Tell whoever runs the gateway")
    console.shot("failed")
    stack.cos.clear_faults()
    console.press("film", "Retry")
    console.expect_state("Done", "film")

    assert stack.stored("film") == film.read_bytes()
    assert stack.stored_parts("film").count(1) == 1


def test_a_passing_failure_of_cos_needs_nobody(console: Console, stack: Stack) -> None:
    film = console.file("film", FILM_BYTES)
    stack.cos.fault("error", operation="UploadPart", times=9)

    console.choose(film)
    console.expect_state("Done", "film", seconds=30)

    assert stack.stored("film") == film.read_bytes()


def test_another_tab_sees_the_task_and_can_pause_and_restart_it(console: Console, stack: Stack) -> None:
    film = console.file("film", FILM_BYTES)
    hold_after(stack, 3)
    console.choose(film)
    other = console.another_tab()
    other.expect_state("Uploading", "film")
    expect(other.bar("film")).to_have_attribute("aria-valuetext", "46 %, Uploading")

    other.press("film", "Pause")
    console.expect_state("Paused", "film")
    stack.cos.clear_faults()
    other.press("film", "Restart")

    console.expect_state("Done", "film")
    other.expect_state("Done", "film")
    assert stack.stored("film") == film.read_bytes()


def test_pause_all_and_restart_all(console: Console, stack: Stack) -> None:
    stack.cos.fault("stall", operation="UploadPart", times=None)
    console.choose([console.file(name, 6 * MIB) for name in ("a", "b")])
    console.expect_state("Uploading", "a", "b")

    console.page.get_by_role("button", name="Pause all").click()
    console.expect_state("Paused", "a", "b")
    stack.cos.clear_faults()
    console.page.get_by_role("button", name="Restart all").click()

    console.expect_state("Done", "a", "b")


def test_finished_files_can_be_hidden(console: Console) -> None:
    console.choose(console.file("note", 10))
    console.expect_state("Done", "note")

    console.page.get_by_role("button", name="Hide finished").click()

    expect(console.row("note")).to_have_count(0)

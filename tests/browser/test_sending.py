"""What is dropped on the page stands in COS, byte for byte."""

from playwright.sync_api import expect

from gateway.tracing import trace_of
from tests.browser.conftest import OpenConsole
from tests.browser.console import MIB, Console
from tests.browser.stack import Stack
from tests.fakes.local_cos import BUCKET


def test_files_of_every_size_arrive_byte_for_byte(console: Console, stack: Stack) -> None:
    sizes = {
        "empty": 0,
        "one byte": 1,
        "1 MiB.bin": MIB,
        "5 MiB and 1.bin": 5 * MIB + 1,
        "film ü 40 MiB": 40 * MIB + 17,
    }
    paths = [console.file(name, size) for name, size in sizes.items()]

    console.choose(paths)
    console.expect_state("Done", *sizes, seconds=30)

    console.shot("done")
    for path in paths:
        assert stack.stored(path.name) == path.read_bytes(), path.name
    assert {task["key"]: task["state"] for task in stack.tasks(console.token)} == dict.fromkeys(sizes, "success")


def test_files_that_are_called_alike_stay_apart(console: Console, stack: Stack) -> None:
    """Three photos of one choice (report 9), and one of a later choice; the very same file again replaces itself."""
    choose = """([texts, at]) => {
        const chosen = new DataTransfer();
        for (const text of texts) chosen.items.add(new File([text], "image.jpg", { lastModified: at }));
        const picker = document.getElementById("files");
        picker.files = chosen.files;
        picker.dispatchEvent(new Event("change"));
    }"""
    console.page.evaluate(choose, [["one", "two!", "three"], 1])
    console.expect_state("Done", "image.jpg", "image (2).jpg", "image (3).jpg")
    console.page.evaluate(choose, [["four"], 2])
    console.expect_state("Done", "image (4).jpg")
    console.page.evaluate(choose, [["one"], 1])
    expect(console.page.locator("#count-success")).to_have_text("5")

    stored = {name: stack.stored(name) for name in stack.cos.keys(BUCKET) if name.startswith("image")}
    assert stored == {
        "image.jpg": b"one",
        "image (2).jpg": b"two!",
        "image (3).jpg": b"three",
        "image (4).jpg": b"four",
    }


def test_all_calls_about_a_file_carry_one_trace_of_its_own(console: Console) -> None:
    asked: list[tuple[str, str | None]] = []
    console.page.on("request", lambda request: asked.append((request.method, request.headers.get("traceparent"))))

    console.choose([console.file("film", 9 * MIB), console.file("song", 9 * MIB)])
    console.expect_state("Done", "film", "song")

    sent = [trace for method, trace in asked if method == "PUT"]
    assert len(sent) == 6
    assert {trace for method, trace in asked if method == "POST"} == set(sent)
    assert [sent.count(trace) for trace in set(sent)] == [3, 3]
    assert all(trace_of((trace or "").encode()) for trace in sent)


def test_three_files_are_sent_at_once_and_the_fourth_waits(console: Console, stack: Stack) -> None:
    names = ["first", "second", "third", "fourth"]
    stack.cos.fault("stall", operation="UploadPart", times=None)

    console.choose([console.file(name, 2 * MIB) for name in names])
    console.expect_state("Uploading", *names[:3])

    console.expect_state("Waiting", "fourth")
    assert len(stack.tasks(console.token)) == 3
    stack.cos.clear_faults()
    console.expect_state("Done", *names)


def test_three_parts_of_a_file_are_under_way_together(console: Console, stack: Stack) -> None:
    stack.cos.fault("stall", operation="UploadPart", times=None)

    console.choose(console.file("film", 18 * MIB))
    stack.until(lambda entries: sum(entry["operation"] == "UploadPart" for entry in entries) == 3)

    console.expect_state("Uploading", "film")
    assert sorted(entry["part_number"] for entry in stack.cos.journal("UploadPart")) == [1, 2, 3]
    stack.cos.clear_faults()
    console.expect_state("Done", "film")


def test_progress_tells_amount_speed_and_time_for_each_and_for_all(console: Console, stack: Stack) -> None:
    stack.cos.fault("slow", operation="UploadPart", times=None, bytes_per_second=4 * MIB)

    console.choose([console.file("film", 24 * MIB), console.file("song", 8 * MIB)])

    facts = r"\d.*MB of \d+ MB · \d+ % · .*/s · .* left"
    for place in (console.row("film").locator(".facts"), console.page.locator("#all-facts")):
        expect(place).to_contain_text("left", timeout=15_000)
        assert place.text_content() is not None
    console.shot("moving")
    console.page.wait_for_function(
        "pattern => new RegExp(pattern).test(document.querySelector('#all-facts').textContent)", arg=facts
    )
    stack.cos.clear_faults()
    console.expect_state("Done", "film", "song")
    expect(console.page.locator("#all-facts")).to_have_text("All done: 2 files, 34 MB.")


def test_shown_progress_never_runs_backwards(console: Console, stack: Stack) -> None:
    """Parts break off and are sent again; the bar does not tell."""
    stack.cos.fault("reset", operation="UploadPart", times=None, attempts=[1, 2], after_bytes=MIB)
    console.page.evaluate(
        """() => {
            window.seen = [];
            new MutationObserver(() => {
                for (const bar of document.querySelectorAll(".row progress")) window.seen.push(bar.value);
            }).observe(document.querySelector("#list"), { subtree: true, attributes: true, childList: true });
        }"""
    )

    console.choose(console.file("film", 20 * MIB))
    console.expect_state("Done", "film")

    seen = console.page.evaluate("window.seen")
    assert seen == sorted(seen)
    assert len(set(seen)) > 3


def test_a_file_may_be_dropped_anywhere(console: Console, stack: Stack) -> None:
    console.drop("note.txt", "dropped")
    console.expect_state("Done", "note.txt")

    assert stack.stored("note.txt") == b"dropped"


def test_a_folder_keeps_its_paths_below_the_folder_typed_in(console: Console, stack: Stack) -> None:
    inner = console.file("holiday/beach.jpg", 1000)
    console.page.get_by_label("Send to folder").fill("2026")
    with console.page.expect_file_chooser() as chooser:
        console.page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(inner.parent)

    console.expect_state("Done", "2026/holiday/beach.jpg")

    assert stack.stored("2026/holiday/beach.jpg") == inner.read_bytes()


def test_the_folder_of_the_token_is_filled_in_and_another_one_is_refused_in_words(open_console: OpenConsole) -> None:
    console = open_console(prefix="alice/")
    folder = console.page.get_by_label("Send to folder")
    expect(folder).to_have_value("alice/")

    folder.fill("bob/")
    console.choose(console.file("note", 10))

    console.expect_state("Failed", "bob/note")
    console.expect_trouble("bob/note", "The token does not allow this key.", "ask for a token that covers it")

"""The auditor is believed by every row of the fault matrix: each lie that it is there to find, it finds."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final

import pytest

from tests.fakes.cos_caller import caller_at
from tests.system import auditor as module
from tests.system.auditor import Auditor, Watched
from tests.system.processes import LocalCos, wait_until
from tests.system.stack import MIB, SECRET, Caller, Stack, body, good
from tests.system.witness import auditing


class Scene:
    """A file whose first part is stored, and the auditor who heard of it; ``after`` is undone at the end."""

    def __init__(self, stack: Stack, caller: Caller, auditor: Auditor, after: ExitStack) -> None:
        self.stack, self.caller, self.auditor, self.after = stack, caller, auditor, after
        self.data = body("audited", 2 * MIB)
        key = f"audited/{len(stack.callers)}.bin"
        self.task = caller.create(key, len(self.data), part_size=MIB)
        good(caller.put_part(self.task["id"], 1, self.data[:MIB]))

    @property
    def file(self) -> Watched:
        return self.auditor.files[self.task["id"]]

    def move(self, verb: str) -> dict[str, Any]:
        return good(self.caller.control(self.task["id"], verb))

    def finish(self) -> dict[str, Any]:
        good(self.caller.put_part(self.task["id"], 2, self.data[MIB:]))
        return self.move("complete")

    def told(self, **changes: Any) -> None:
        """The owner is shown the task with *changes*."""
        self.auditor.saw(self.file, {**self.file.task, **changes})


def loses_a_part(scene: Scene) -> None:
    scene.auditor.acknowledged(scene.file, {"number": 2, "size": MIB, "etag": '"0"'})


def stores_another_object(scene: Scene) -> None:
    scene.finish()
    good(scene.caller.call("PUT", f"/v1/objects/{scene.task['key']}", content=b"other"), 200, 201)


def tells_two_results(scene: Scene) -> None:
    done = scene.finish()
    scene.told(result={**done["result"], "etag": '"other"'})


def brings_back_what_was_canceled(scene: Scene) -> None:
    scene.move("cancel")
    scene.told(state="uploading", version=scene.file.task["version"] + 1)


def goes_back_in_time(scene: Scene) -> None:
    scene.move("pause")
    scene.told(version=1)


def changes_without_a_version(scene: Scene) -> None:
    scene.caller.task(scene.task["id"])
    scene.told(stored_parts=2)


def goes_on_with_a_body(scene: Scene) -> None:
    connection = scene.after.enter_context(scene.caller.connect())
    connection.sendall(scene.caller.head("PUT", f"/v1/tasks/{scene.task['id']}/parts/2", f"Content-Length: {MIB}"))
    wait_until(lambda: scene.stack.gateway.metrics()["gateway_bodies_in_flight"] == 1, "the body", 5)


def leaves_an_upload(scene: Scene) -> None:
    scene.move("cancel")
    keys = (LocalCos.SECRET_ID, LocalCos.SECRET_KEY, None)
    cos = caller_at(scene.stack.cos.port, LocalCos.BUCKET, LocalCos.REGION, *keys)
    begun = cos.call("POST", scene.task["key"], {"uploads": ""}).text("UploadId")
    scene.auditor._judge(scene.file, {**scene.file.task, "upload_id": begun})


def tells_a_secret(scene: Scene) -> None:
    (scene.stack.folder / "told.log").write_text(SECRET)
    scene.after.callback((scene.stack.folder / "told.log").unlink)


def takes_its_time(scene: Scene) -> None:
    scene.auditor.answered("GET /", module.ANSWER_SECONDS + 1, 200, {})


def shows_too_much_progress(scene: Scene) -> None:
    scene.auditor._judge(scene.file, {**scene.file.task, "loaded": 5 * MIB})


def refuses_without_a_word(scene: Scene) -> None:
    scene.auditor.answered("GET /", 0.1, 503, {"title": "Sorry"})


def fails_unexpectedly(scene: Scene) -> None:
    with scene.stack.gateway.program.log.open("a") as log:
        log.write('{"level": "error", "logger": "gateway.web.gate", "message": "a defect"}\n')


LIES: Final[Mapping[str, tuple[Callable[[Scene], None], ...]]] = {
    "I1": (loses_a_part,),
    "I2": (stores_another_object,),
    "I3": (tells_two_results,),
    "I4": (brings_back_what_was_canceled, goes_back_in_time, changes_without_a_version),
    "I6": (goes_on_with_a_body,),
    "I7": (leaves_an_upload,),
    "I8": (tells_a_secret,),
    "I9": (takes_its_time,),
    "I11": (shows_too_much_progress,),
    "I12": (refuses_without_a_word, fails_unexpectedly),
}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.5)
    monkeypatch.setattr(module, "ABORT_SECONDS", 0.5)


@pytest.mark.parametrize(("invariant", "lie"), [(name, lie) for name, lies in LIES.items() for lie in lies])
def test_a_gateway_that_lies_is_found_out(
    stack: Stack, alice: Caller, invariant: str, lie: Callable[[Scene], None]
) -> None:
    with ExitStack() as after, pytest.raises(AssertionError, match=rf"^{invariant}: "), auditing(stack) as auditor:
        lie(Scene(stack, alice, auditor, after))


def test_memory_and_descriptors_beyond_their_bounds_are_found(
    stack: Stack, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILES_OPEN_MOST", 5)
    greedy = Auditor(stack, memory_most_bytes=MIB)

    with pytest.raises(AssertionError, match=r"^I5: .* bytes\nI5: .* files open"):
        greedy.check()


def test_a_gateway_that_does_not_lie_is_believed(stack: Stack, alice: Caller) -> None:
    with ExitStack() as after, auditing(stack) as auditor:
        Scene(stack, alice, auditor, after).finish()
        Scene(stack, alice, auditor, after).move("cancel")
        Scene(stack, alice, auditor, after).move("pause")

"""A body that failed is out of memory at once. The gateway here has no collector that could find it later."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from tests.system.cos_door import Door, Key
from tests.system.processes import free_port, wait_until
from tests.system.stack import MIB, body, read_answer, running_stack, unread

BODY: Final = body("kept", 4 * MIB)
CUT: Final = BODY[:-1000]
COUNT: Final = 16
MOST_BYTES: Final = 16 * MIB
"""What a heap does by itself; if bodies stayed there would be four times as much."""
ROUNDS: Final = 3
"""How many bodies overlap is chance, and the heap keeps its highest mark; what stays makes it grow each time."""
WRONG: Final = {"x-cos-hash-crc64ecma": "1"}
OCTETS: Final = {"Content-Type": "application/octet-stream"}


class Broken(Exception):
    """A client's trouble."""


class Failing:
    """Sends bodies that come to nothing, each way as often as is wanted."""

    def __init__(self, door: Door) -> None:
        self._cos = door.cos
        self._caller = door.stack.caller("alice")
        self._key: Key = door.key(self._caller)
        self._count = 0

    def run(self, way: "Callable[[Failing], None]", count: int) -> None:
        for _ in range(count):
            self._count += 1
            way(self)
            self._cos.clear_faults()
        wait_until(self._is_at_rest, "rest", 5)

    def _is_at_rest(self) -> bool:
        metrics = self._caller.gateway.metrics()
        return metrics["gateway_bodies_in_flight"] == metrics["gateway_calls_in_flight"] == 0

    def denied_part(self) -> None:
        self._deny()
        assert self._caller.put_part(self._task(), 1, BODY).status_code == 502

    def wrong_part(self) -> None:
        assert self._caller.put_part(self._task(), 1, BODY, **WRONG).status_code == 400

    def cut_part(self) -> None:
        self._cut("PUT", f"/v1/tasks/{self._task()}/parts/1")

    def canceled_part(self) -> None:
        task_id = self._task()
        self._cut("PUT", f"/v1/tasks/{task_id}/parts/1", lambda: self._caller.control(task_id, "cancel"))

    def denied_content(self) -> None:
        self._deny()
        assert self._caller.put_content(self._task(), BODY).status_code == 502

    def wrong_content(self) -> None:
        assert self._caller.put_content(self._task(), BODY, **WRONG).status_code == 400

    def cut_content(self) -> None:
        self._cut("PUT", f"/v1/tasks/{self._task()}/content")

    def canceled_content(self) -> None:
        task_id = self._task()
        self._cut("PUT", f"/v1/tasks/{task_id}/content", lambda: self._caller.control(task_id, "cancel"))

    def denied_form(self) -> None:
        self._deny()
        assert self._caller.post_form(self._name(), 2 * BODY).status_code == 502

    def denied_raw_file(self) -> None:
        self._deny()
        answer = self._caller.call("POST", f"/v1/files?key={self._name()}", content=BODY, headers=OCTETS)
        assert answer.status_code == 502

    def cut_raw_file(self) -> None:
        self._cut("POST", f"/v1/files?key={self._name()}")

    def denied_append(self) -> None:
        self._deny()
        answer = self._caller.call("POST", f"/v1/objects/{self._name()}?append&position=0", content=BODY)
        assert answer.status_code == 502

    def cut_append(self) -> None:
        self._cut("POST", f"/v1/objects/{self._name()}?append&position=0")

    def denied_at_the_cos_door(self) -> None:
        self._deny()
        assert self._key.caller().call("PUT", self._name(), body=BODY).status == 403

    def cut_at_the_cos_door(self) -> None:
        self._cut_at_the_cos_door({})

    def cut_part_at_the_cos_door(self) -> None:
        begun = self._key.caller().call("POST", self._name(), {"uploads": ""})
        self._cut_at_the_cos_door({"partNumber": "1", "uploadId": begun.text("UploadId") or ""})

    def _name(self) -> str:
        return f"failing/{self._count}.bin"

    def _task(self) -> str:
        return str(self._caller.create(self._name(), len(BODY), part_size=len(BODY))["id"])

    def _deny(self) -> None:
        for operation in ("UploadPart", "PutObject", "AppendObject"):
            self._cos.fault("error", operation=operation, status=403, code="AccessDenied", times=1)

    def _cut(self, method: str, path: str, instead: Callable[[], object] | None = None) -> None:
        """Break a body off; or do something else to it *instead*, and read the answer."""
        with self._caller.connect() as connection:
            octets = (f"{name}: {value}" for name, value in OCTETS.items())
            connection.sendall(self._caller.head(method, path, f"Content-Length: {len(BODY)}", *octets) + CUT)
            wait_until(lambda: unread(connection) == 0, "the gateway to have it", 5)
            if instead:
                instead()
                assert read_answer(connection).status_code == 409

    def _cut_at_the_cos_door(self, query: Mapping[str, str]) -> None:
        def breaking_off() -> Iterator[bytes]:
            yield CUT
            raise Broken

        with suppress(Broken):
            length = {"Content-Length": str(len(BODY))}
            self._key.caller().call("PUT", self._name(), query, headers=length, body=breaking_off())


WAYS: Final = [value for name, value in vars(Failing).items() if not name.startswith("_") and name != "run"]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    script, port = str(Path(__file__).with_name("without_collector.py")), free_port()
    with running_stack(tmp_path_factory.mktemp("failures"), gateways=0) as stack:
        stack.start_gateway(launcher=[sys.executable, script], cos_listen=f"127.0.0.1:{port}", log_level="info")
        yield Door(stack, port)


@pytest.mark.promise(21)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_body_that_came_to_nothing_leaves_nothing(door: Door, way: Callable[[Failing], None]) -> None:
    failing = Failing(door)
    failing.run(way, 4)
    grown: list[int] = []
    while len(grown) < ROUNDS and (not grown or grown[-1] >= MOST_BYTES):
        before = door.stack.gateway.program.rss_bytes
        failing.run(way, COUNT)
        grown.append(door.stack.gateway.program.rss_bytes - before)

    assert grown[-1] < MOST_BYTES, grown

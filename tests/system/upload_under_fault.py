"""An upload that meets faults, and goes on as any client's would."""

from functools import partial
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, Stack, body, good, parts_of


class Upload:
    """A file of a few parts on its way."""

    def __init__(self, caller: Caller, stack: Stack, key: str, parts: int = 2, part_size: int = MIB) -> None:
        self.caller, self.stack, self.key = caller, stack, key
        self.data = body(key, parts * part_size)
        self.pieces = parts_of(self.data, part_size)
        self.id = caller.create(key, len(self.data), part_size=part_size)["id"]

    def put(self, number: int) -> httpx.Response:
        return self.caller.put_part(self.id, number, self.pieces[number - 1])

    def is_taken(self, number: int) -> bool:
        return self.put(number).status_code == 200

    def attempts(self, number: int = 1) -> list[dict[str, Any]]:
        return self.stack.cos.journal("UploadPart", key=self.key, part_number=number)

    def watch(self) -> ClientConnection:
        """Its progress, as its owner sees it."""
        url = f"ws://127.0.0.1:{self.caller.gateway.port}/v1/tasks/{self.id}/progress"
        offered = [Subprotocol("gateway.v1"), Subprotocol(f"bearer.{self.caller.bearer}")]
        return connect(url, subprotocols=offered, proxy=None)

    @property
    def stored(self) -> int:
        return int(self.caller.task(self.id)["stored_parts"])

    def finish(self) -> None:
        """Send what is missing as any client would, complete, and compare."""
        for number in range(1, len(self.pieces) + 1):
            wait_until(partial(self.is_taken, number), "the part", 15)
        assert good(self.caller.control(self.id, "complete"))["result"]["crc64_verified"]
        assert self.stack.cos.read(self.key) == self.data


def metric(stack: Stack, name: str) -> float:
    return stack.gateway.metrics().get(name, 0.0)

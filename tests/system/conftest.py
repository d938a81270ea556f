"""One running stack for each module of system tests, and an upload that survives whatever they do."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.system.auditor import Auditor
from tests.system.cos_door import Door, running_door
from tests.system.stack import MIB, Caller, Stack, body, good, running_stack
from tests.system.witness import auditing

HOSTILE_RSS_BYTES: Final = 8 * MIB
"""What a hostile test may cost the server in memory at its worst moment: a part or two, and the allocator's reserve."""
HOSTILE_CPU_SECONDS: Final = 2.0
"""And of a processor's time, however long the test lasts."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis, a local COS and one gateway."""
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis, a local COS and two gateways that share them."""
    with running_stack(tmp_path_factory.mktemp("pair"), gateways=2) as stack:
        yield stack


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Redis, a local COS and one gateway with a COS door."""
    with running_door(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture
def dora(door: Door, request: pytest.FixtureRequest) -> Caller:
    """Somebody new before the COS door, with a COS that works."""
    door.cos.clear_faults()
    return door.stack.caller(f"dora of {request.node.name}")


_ROW: Final = re.compile(r"test_b[0-9]")


@pytest.fixture(autouse=True)
def audited(request: pytest.FixtureRequest) -> Iterator[Auditor | None]:
    """Every row of the fault matrix ends with the auditor's judgement, but where a test has an auditor of its own."""
    used = [name for name in ("sentinels", "pair", "crew", "stack") if name in request.fixturenames]
    if not _ROW.match(request.node.name) or "auditor" in request.fixturenames or not used:
        yield None
        return
    *_, stack = [request.getfixturevalue(name) for name in used]
    with auditing(stack) as auditor:
        yield auditor


@pytest.fixture
def alice(stack: Stack, request: pytest.FixtureRequest) -> Caller:
    """Somebody nobody has heard of, with a COS that works."""
    stack.cos.clear_faults()
    return stack.caller(f"alice of {request.node.name}")


@dataclass(frozen=True, slots=True)
class Victim:
    """An upload under way, which nothing hostile may harm: half of it is stored."""

    caller: Caller
    task: dict[str, Any]
    data: bytes


@pytest.fixture(scope="module")
def victim(stack: Stack) -> Iterator[Victim]:
    """An upload that ends well after everything this module did to its server."""
    caller, data, key = stack.caller("victim"), body("victim", 2 * MIB), "victim/file.bin"
    task = caller.create(key, len(data), part_size=MIB)
    good(caller.put_part(task["id"], 1, data[:MIB]))
    yield Victim(caller, caller.task(task["id"]), data)
    assert [line for line in stack.gateway.log_lines() if line["level"] in ("error", "critical")] == []
    good(caller.put_part(task["id"], 2, data[MIB:]))
    assert good(caller.control(task["id"], "complete"))["state"] == "success"
    assert stack.cos.read(key) == data


@pytest.fixture
def unharmed(stack: Stack, victim: Victim) -> Iterator[None]:
    """Nothing that was stored is lost, nothing failed unexpectedly, and the test never cost the server much."""
    server = stack.gateway.program
    memory_bytes, cpu_seconds = server.begin_peak(), server.cpu_seconds
    yield
    assert server.peak_bytes - memory_bytes < HOSTILE_RSS_BYTES
    assert server.cpu_seconds - cpu_seconds < HOSTILE_CPU_SECONDS
    assert victim.caller.task(victim.task["id"]) == victim.task
    assert not any('status="500"' in name for name in stack.gateway.metrics())

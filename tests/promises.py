"""What the gateway promises, and the tests that show it: those marked ``@pytest.mark.promise(number, …)``.

``python -m tests.promises`` writes ``tests/PROMISES.md`` anew; ``test_promises.py`` compares.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
TABLE: Final = TESTS / "PROMISES.md"
PROMISES: Final = (
    "A gateway killed at any byte loses no acknowledged part; the client finishes on another, sending only the rest.",
    "Whatever Redis forgets, the next call with the ticket makes the task again from what COS holds.",
    "A failover that loses writes repeats work at worst: no wrong object, no lost part, nothing canceled comes back.",
    "Without Redis, parts under way still reach COS; their senders get a retryable 503 or, if told so, their receipt.",
    "A process stopped past its time and continued changes no outcome: the list of ETags at Complete is the fence.",
    "A part whose bytes all arrived is committed even if its sender is gone.",
    "A flipped, dropped, doubled or moved byte is found before success, given digests; behind the gateway always.",
    "Success is told only of an object with the length and CRC-64 of the parts, and those the client told.",
    "No part is acknowledged whose bytes are not as many as were declared.",
    "A part sent again, out of order or twice at once has one effect; of different bytes at once one body wins whole.",
    "If-Match and If-None-Match on a part give 412 instead of a silent replacement.",
    "Complete can be repeated, anywhere, at once: one result. A lost answer is settled by HEAD, never by guessing.",
    "An error inside a 200, cut XML, endless spaces or NoSuchUpload after success make no false success or failure.",
    "One Idempotency-Key opens one upload; a lost answer leaves at most one orphan, which is swept.",
    "An existing object is replaced unless that is forbidden; then it is refused at create and again at the end.",
    "After a 2xx to cancel nothing completes the task, and no part of it remains at COS.",
    "No upload without a task lives longer than its time under our prefixes, judged by COS's own listing.",
    "A pause holds within a second in every process and costs nothing acknowledged.",
    "A task moves only along its table, each move with a new version; a stale writer is told the current one.",
    "Every request ends within its deadline, whatever breaks.",
    "Memory is bounded by what is in flight, not by files or slow clients; too much is refused early with Retry-After.",
    "SIGTERM: not ready at once, parts that can finish do, others get 503; the process ends in time with nothing lost.",
    "A COS that is overloaded gets fewer requests, never more: repetitions stay below a fifth.",
    "A lost message freezes no progress: a snapshot at connect, after every reconnect and every 15 s.",
    "Nobody learns that another's task, key or bucket exists.",
    "No input chooses a host, region, bucket or a key outside the allowed prefix; no redirect is followed.",
    "Secrets, tokens, signatures and tickets are in no log, metric, error, trace or process argument.",
    "A message that two parsers could end differently is refused, never repaired.",
    "Every refusal is a problem document with a registered code and a request id; a bug is one 500 without detail.",
    "One caller at their limit does not slow down another.",
    "Two versions run side by side on one Redis; what one does not know it keeps.",
    "Each of these is bound to a test, and a test checks this table.",
)
"""P1 to P32, in order."""

Shown = dict[int, list[str]]


def shown() -> Shown:
    """The ids of the tests that show each promise, by its number."""
    found: Shown = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "node_modules" in path.parts or "mark.promise" not in text:
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for number in _marked(function):
                    found[number].append(f"{path.relative_to(TESTS.parent)}::{function.name}")
    return found


def _marked(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[int]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.promise":
            yield from (ast.literal_eval(argument) for argument in decorator.args)


def table(tests: Shown) -> str:
    """The document: every promise with the tests that show it."""
    lines = [
        "# Promises, and the tests that show them",
        "",
        "Written by `python -m tests.promises`; a test compares.",
        "",
    ]
    for number, promise in enumerate(PROMISES, 1):
        lines += [f"**P{number}** {promise}", "", *(f"- `{test}`" for test in tests.get(number, ())), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    TABLE.write_text(table(shown()))

"""Who did it: each request's line and each event of the audit trail name the caller, at every door; and by what they
show a caller, or one token, is revoked.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.system.cos_door import Door, running_door
from tests.system.processes import wait_until
from tests.system.stack import MIB, Caller, good, require_problem, token

TASKS_PER_SUBJECT: Final = 3
Line = dict[str, Any]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door that looks at revocations often, and where few tasks are many."""
    settings = {"token_recheck_seconds": "0.1", "tasks_per_subject_count": str(TASKS_PER_SUBJECT)}
    with running_door(tmp_path_factory.mktemp("who"), **settings) as door:
        yield door


def pseudonym(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def bearer_of(caller: Caller) -> Subprotocol:
    return Subprotocol(f"bearer.{caller.bearer}")


class Log:
    """What the gateway of *door* writes from now on."""

    def __init__(self, door: Door) -> None:
        self._gateway = door.stack.gateway
        self._skipped = len(self._gateway.log_lines())

    def lines(self, logger: str, count: int, **fields: Any) -> list[Line]:
        """The first *count* lines of *logger* with these *fields*, once they are there."""

        def found() -> list[Line]:
            lines = self._gateway.log_lines()[self._skipped :]
            return [line for line in lines if line["logger"] == logger and fields.items() <= line.items()]

        wait_until(lambda: len(found()) >= count, f"{count} lines of {logger} with {fields}")
        return found()

    def requests(self, count: int = 1, **fields: Any) -> list[Line]:
        return self.lines("gateway.access", count, **fields)

    def events(self, name: str, count: int = 1, **fields: Any) -> list[Line]:
        return self.lines("gateway.audit", count, message=name, **fields)


@pytest.fixture
def log(door: Door) -> Log:
    return Log(door)


def test_s12_rest_names_the_caller_the_token_and_the_code(door: Door, log: Log) -> None:
    alice = door.stack.caller("alice", jti="token 1", prefix="alice/")
    who: Line = {"subject": pseudonym("alice"), "token": pseudonym("jti:token 1")}

    good(alice.post_form("alice/a.txt", b"bytes"), 201)
    require_problem(alice.post_form("bob/a.txt", b"bytes"), 403, "key_not_allowed")
    require_problem(alice.call("GET", "/v1/tasks/unknown"), 404, "task_not_found")

    [stored] = log.requests(status=201, **who)
    assert "code" not in stored
    [denied] = log.requests(status=403, code="key_not_allowed", **who)
    assert log.events("denied", code="key_not_allowed", door="rest", **who)[0]["request_id"] == denied["request_id"]
    log.requests(status=404, code="task_not_found", **who)
    [created] = log.events("create", owner=pseudonym("alice"), door="rest", **who)
    assert log.events("complete", **who)[0]["task_id"] == created["task_id"]
    assert created["bucket"] == door.cos.BUCKET


def test_s12_a_good_token_that_has_run_out_still_has_a_name_and_a_forged_one_has_none(door: Door, log: Log) -> None:
    late = door.stack.caller_with(token("late", seconds=-60))
    forger = door.stack.caller_with(token("late")[:-4] + "AAAA")

    require_problem(late.call("GET", "/v1/tasks"), 401, "token_expired")
    require_problem(forger.call("GET", "/v1/tasks"), 401, "token_invalid")

    log.events("denied", code="token_expired", subject=pseudonym("late"))
    [forged] = log.requests(code="token_invalid")
    assert "subject" not in forged
    assert "subject" not in log.events("denied", code="token_invalid")[0]


def test_s12_a_batch_names_what_was_denied_among_its_files(door: Door, log: Log) -> None:
    carol = door.stack.caller("carol", prefix="carol/")
    who: Line = {"subject": pseudonym("carol"), "door": "rest"}
    files = [{"key": f"{at}/film.mp4", "size": 2 * MIB} for at in ("carol", "bob", "carol/2", "dan")]

    batch = good(carol.call("POST", "/v1/batches", json={"files": files}), 201)
    good(carol.call("POST", f"/v1/batches/{batch['id']}/cancel"))

    assert len(log.events("denied", 2, code="key_not_allowed", **who)) == 2
    created, canceled = log.events("create", 2, **who), log.events("cancel", 2, **who)
    assert {line["task_id"] for line in created} == {line["task_id"] for line in canceled}
    assert len(created) == len(canceled) == 2


def test_s12_a_websocket_names_its_caller_also_when_it_is_refused(door: Door, log: Log) -> None:
    address = door.stack.gateway.url.replace("http", "ws") + "/v1/progress"
    erin, fred = door.stack.caller("erin"), door.stack.caller("fred", actions=["read"])
    with connect(address, subprotocols=[bearer_of(erin)]) as socket:
        socket.recv(timeout=10)
    with pytest.raises(InvalidStatus):
        connect(address, subprotocols=[bearer_of(fred)])

    log.requests(method="WEBSOCKET", status=101, subject=pseudonym("erin"))
    log.requests(method="WEBSOCKET", status=403, code="forbidden", subject=pseudonym("fred"))
    log.events("denied", code="forbidden", subject=pseudonym("fred"))


def test_s12_the_cos_door_names_whose_key_it_is_and_what_was_refused(door: Door, log: Log) -> None:
    gina = door.stack.caller("gina", jti="token 2", prefix="gina/")
    who: Line = {"subject": pseudonym("gina"), "token": pseudonym("jti:token 2")}
    key = door.key(gina)
    sender = key.caller()

    assert sender.call("PUT", "gina/a.txt", body=b"bytes").status == 200
    assert sender.call("PUT", "outside.txt", body=b"bytes").status == 403
    assert sender.call("POST", "gina/log.txt", {"append": "", "position": "0"}, body=b"12345").status == 200
    assert sender.call("PUT", "gina/a.txt", body=b"bytes", signed=False).status == 403

    issued = log.events("key_issued", **who)[0]
    assert (issued["key_id"], issued["expires_at"]) == (key.secret_id, key.expired_time)
    log.requests(method="PUT", status=200, **who)
    log.requests(method="PUT", status=403, **who)
    assert log.events("denied", door="cos", **who)[0]["code"] in ("key_not_allowed", "AccessDenied")
    log.events("create", door="cos", **who)
    log.events("complete", door="cos", **who)
    [appended] = log.events("append", door="cos", **who)
    assert (appended["position"], appended["size"], appended["bucket"]) == (0, 5, door.cos.BUCKET)
    assert "subject" not in log.events("denied", door="cos", code="AccessDenied")[-1]


def test_s12_a_limit_is_an_event(door: Door, log: Log) -> None:
    hugo = door.stack.caller("hugo")
    for number in range(TASKS_PER_SUBJECT):
        hugo.create(f"hugo/{number}.bin", 2 * MIB)

    require_problem(hugo.call("POST", "/v1/tasks", json={"key": "hugo/more", "size": 2 * MIB}), 403, "quota_exceeded")

    [limit] = log.events("limit", subject=pseudonym("hugo"))
    assert (limit["code"], limit["door"]) == ("quota_exceeded", "rest")


@pytest.mark.parametrize("name", ["subject", "token"])
def test_s12_what_a_line_shows_is_enough_to_revoke(door: Door, log: Log, name: str) -> None:
    """By the subject's name all its tokens and keys end, by a token's only that and the keys it was used to get."""
    subject, earlier = f"ivan by {name}", int(time.time()) - 60
    leaked = door.stack.caller(subject, jti=f"{name} leaked", iat=earlier)
    other = door.stack.caller(subject, jti=f"{name} other", iat=earlier)
    key = door.key(leaked)
    shown = log.requests(path="/v1/keys", subject=pseudonym(subject))[0][name]

    assert door.stack.redis.command("ZADD", "gw:revoked", str(int(time.time())), shown) == b":1"

    log.events("revoked", revoked=shown)
    require_problem(leaked.call("GET", "/v1/tasks"), 401, "token_invalid")
    assert key.caller().call("PUT", "ivan.txt", body=b"x").status == 403
    assert other.call("GET", "/v1/tasks").status_code == (401 if name == "subject" else 200)
    log.events("denied", code="token_invalid", subject=pseudonym(subject))


def test_s12_no_line_holds_a_raw_subject_token_or_id_of_one(door: Door, log: Log) -> None:
    subject, token_id = "canary-subject-of-a-person", "canary-id-of-a-token"
    kate = door.stack.caller(subject, jti=token_id, prefix="kate/")
    good(kate.post_form("kate/a.txt", b"bytes"), 201)
    require_problem(kate.post_form("a.txt", b"bytes"), 403, "key_not_allowed")
    key = door.key(kate)
    assert key.caller().call("PUT", "kate/b.txt", body=b"bytes").status == 200
    for name in (subject, f"jti:{token_id}"):
        door.stack.redis.command("ZADD", "gw:revoked", str(int(time.time())), name)
    log.events("revoked", revoked=pseudonym(subject))
    log.events("revoked", revoked=pseudonym(f"jti:{token_id}"))
    require_problem(kate.call("GET", "/v1/tasks"), 401, "token_invalid")
    log.requests(code="token_invalid", subject=pseudonym(subject))

    text = door.stack.gateway.program.log.read_text()
    for canary in (subject, token_id, kate.bearer, key.secret_key, key.token or "", "kate/a.txt"):
        assert canary not in text


def test_s22_a_gateway_leaves_no_core_file(door: Door) -> None:
    """It would hold every secret, and bytes of files."""
    limits = Path(f"/proc/{door.stack.gateway.program.pid}/limits").read_text().splitlines()

    [core] = [line.split() for line in limits if line.startswith("Max core file size")]
    assert core[4:6] == ["0", "0"]

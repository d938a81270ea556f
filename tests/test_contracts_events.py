"""What ``openapi/`` says of webhooks is what is sent."""

import json
from pathlib import Path
from typing import Any

import yaml

from gateway.domain.notices import NoticeKind
from gateway.hooks.sender import ANSWER_SECONDS
from gateway.hooks.signing import signed_headers
from gateway.transfer.notices import CLAIM_SECONDS

_FOLDER = Path(__file__).parents[1] / "openapi"
_OPENAPI: dict[str, Any] = yaml.safe_load((_FOLDER / "openapi.yaml").read_text())
_HOOK: dict[str, Any] = _OPENAPI["webhooks"]["taskEvent"]["post"]
_SCHEMAS: dict[str, Any] = _OPENAPI["components"]["schemas"]


def test_the_headers_of_a_webhook_are_documented() -> None:
    sent = signed_headers("evt_1", 1, b"{}", "s" * 32)

    assert {header["name"] for header in _HOOK["parameters"]} == set(sent)
    assert all(header["required"] for header in _HOOK["parameters"])


def test_the_types_of_events_are_documented() -> None:
    assert _SCHEMAS["Event"]["properties"]["type"]["enum"] == [kind.value for kind in NoticeKind]


def test_an_events_task_is_a_task_without_its_ticket() -> None:
    event = json.loads((_FOLDER / "examples" / "event-task-success.json").read_text())

    assert [*event["task"], "ticket"] == list(_SCHEMAS["Task"]["properties"])


def test_a_receiver_has_the_documented_time_and_nobody_else_tells_meanwhile() -> None:
    assert f"within {ANSWER_SECONDS:g} seconds" in _HOOK["description"].replace("\n", " ")
    assert CLAIM_SECONDS > ANSWER_SECONDS + 4  # two calls to Redis

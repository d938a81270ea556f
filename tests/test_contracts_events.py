"""What ``openapi/`` says of webhooks is what is sent."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import yaml

from gateway.domain.notices import NoticeKind
from gateway.hooks.sender import ANSWER_SECONDS
from gateway.hooks.signing import signed_headers
from gateway.transfer.notices import CLAIM_SECONDS
from tests.tools import require_tool

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

    assert [*event["task"], "ticket"] == [*_SCHEMAS["ListedTask"]["properties"], *_SCHEMAS["Task"]["properties"]]


def test_a_receiver_has_the_documented_time_and_nobody_else_tells_meanwhile() -> None:
    assert f"within {ANSWER_SECONDS:g} seconds" in _HOOK["description"].replace("\n", " ")
    assert CLAIM_SECONDS > ANSWER_SECONDS + 4  # two calls to Redis


_EXAMPLES = (
    (Path(__file__).parents[1] / "README.md").read_text().partition("\n### Webhooks\n")[2].partition("\n### ")[0]
)
_SECRET = "webhook-secret-0123456789-0123456789"
_BODY = '{"key":"片段"}'.encode()


def _requests() -> list[tuple[dict[str, str], str, bool]]:
    """Headers, body and whether a receiver should believe them."""
    now = int(time.time())

    def headers(sent_at: int = now, secret: str = _SECRET) -> dict[str, str]:
        return {name.lower(): value for name, value in signed_headers("evt_1", sent_at, _BODY, secret).items()}

    told = headers()
    return [
        (told, _BODY.decode(), True),
        ({**told, "webhook-signature": f"v1,AAAA {told['webhook-signature']}"}, _BODY.decode(), True),
        ({**told, "webhook-signature": "v1,AAAA"}, _BODY.decode(), False),
        ({**told, "webhook-id": "evt_2"}, _BODY.decode(), False),
        ({**told, "webhook-timestamp": str(now + 1)}, _BODY.decode(), False),
        (headers(now - 3600), _BODY.decode(), False),
        (headers(secret=_SECRET + "x"), _BODY.decode(), False),
        (told, _BODY.decode() + " ", False),
    ]


def test_the_readmes_receiver_in_python_believes_us_alone() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", _EXAMPLES, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 -- our own README

    for headers, body, ours in _requests():
        assert names["is_ours"](headers, body.encode(), _SECRET) is ours


def test_the_readmes_receiver_in_node_believes_us_alone(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```js\n(.*?)^```$", _EXAMPLES, re.MULTILINE | re.DOTALL)
    script = tmp_path / "receiver.mjs"
    asked = json.dumps([[headers, body] for headers, body, _ in _requests()])
    script.write_text(
        f"{code}\nconst asked = {asked};\n"
        f"console.log(JSON.stringify(asked.map(([h, b]) => isOurs(h, Buffer.from(b), {json.dumps(_SECRET)}))));"
    )

    ended = subprocess.run([require_tool("node"), str(script)], capture_output=True, text=True, timeout=30)

    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == [ours for *_, ours in _requests()]

"""``openapi/`` says what the code does: routes, codes, states, fields, messages and every example."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

from gateway import VERSION
from gateway.app import Gateway
from gateway.config import load_settings
from gateway.config_values import BucketSetting
from gateway.domain import object_headers, parts, policy
from gateway.domain.batch import BatchId
from gateway.domain.checksums import combine_all
from gateway.domain.errors import all_codes
from gateway.domain.policy import Caller, Policy
from gateway.domain.task import Task, TaskState
from gateway.transfer.memory_budget import MemoryBudget
from gateway.web.admin_door import AdminDoor
from gateway.web.batch_routes import CreateBatch
from gateway.web.console_routes import console_routes
from gateway.web.gate import Gate
from gateway.web.health_routes import HealthRoutes
from gateway.web.json_bodies import parse
from gateway.web.key_routes import AskForKey
from gateway.web.object_routes import APPEND_OPTIONS
from gateway.web.passage import Passage
from gateway.web.progress_fanout import Fanout, Sources, Timing
from gateway.web.sealing import MAX_SEALED_BYTES
from gateway.web.task_document import listed_document, task_document
from gateway.web.task_requests import FORM_FIELDS, CompleteTask, CreateTask, FingerprintBody, ListedPart
from tests import contract_examples
from tests.fakes.store import MemoryTaskStore
from tests.web.sample_tasks import grow, new_task

_FOLDER = Path(__file__).parents[1] / "openapi"
_METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}

Document = dict[str, Any]


def _load(name: str) -> Document:
    document: Document = yaml.safe_load((_FOLDER / name).read_text())
    return document


OPENAPI = _load("openapi.yaml")
ASYNCAPI = _load("asyncapi.yaml")
SCHEMAS: Document = OPENAPI["components"]["schemas"]
CODES: Document = SCHEMAS["Problem"]["x-codes"]


def _operations() -> Iterator[tuple[str, str, Document]]:
    for path, item in OPENAPI["paths"].items():
        for method in item.keys() & _METHODS:
            yield method.upper(), path, item[method]


def _resolved(node: Document) -> Document:
    """*node*, or what its reference into the same document stands for."""
    while "$ref" in node:
        target: Any = OPENAPI
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        node = target
    return node


def _check(schema: Document, instance: Any) -> None:
    """Raise ValidationError unless *instance* fits *schema*, whose references point into the OpenAPI document."""
    local = json.loads(json.dumps(schema).replace("./openapi.yaml#", "#"))
    Draft202012Validator({**local, "components": OPENAPI["components"]}).validate(instance)


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway(
        load_settings(
            buckets=(BucketSetting("files", "files-1250000000", "ap-guangzhou", ""),),
            cos_secret_id="AKIDexample",
            cos_secret_key="example",
            token_secret="0123456789abcdef0123456789abcdef",
        )
    )


def _routes(app: object) -> list[Route | WebSocketRoute]:
    while isinstance(app, AdminDoor | Gate | Passage):
        app = app._app
    assert isinstance(app, Starlette)
    return [route for route in app.routes if isinstance(route, Route | WebSocketRoute)]


def _methods_and_paths(app: object) -> set[tuple[str, str]]:
    http = [route for route in _routes(app) if isinstance(route, Route)]
    return {(method, route.path.replace(":path}", "}")) for route in http for method in _documented_methods(route)}


def _documented_methods(route: Route) -> set[str]:
    """Starlette answers HEAD wherever there is a GET."""
    methods = set(route.methods or ())
    return methods - {"HEAD"} if "GET" in methods else methods


# --- openapi.yaml


def test_the_openapi_document_is_valid_and_of_this_version() -> None:
    validate(OPENAPI)

    assert OPENAPI["info"]["version"] == ASYNCAPI["info"]["version"] == VERSION


async def test_the_documented_operations_are_the_routes_of_each_listener(gateway: Gateway) -> None:
    page = {(method, route.path) for route in console_routes() for method in (route.methods or set())}
    on_admin = {(method, path) for method, path, _ in _operations() if "servers" in OPENAPI["paths"][path]}
    on_public = {(method, path) for method, path, _ in _operations()} - on_admin

    assert on_public == _methods_and_paths(gateway.public) - page
    assert on_admin == _methods_and_paths(gateway.admin) - {("GET", "/livez"), ("GET", "/readyz")}


def test_every_operation_that_is_no_probe_asks_for_a_token() -> None:
    open_to_all = {path for _, path, operation in _operations() if operation.get("security") == []}

    assert OPENAPI["security"] == [{"bearer": []}]
    assert open_to_all == {"/livez", "/readyz", "/version", "/metrics"}


def test_every_registered_code_is_documented_with_its_status_title_and_retryable_flag() -> None:
    documented = {code: (row["status"], row["retryable"], row["title"]) for code, row in CODES.items()}

    assert documented == {code: (e.status_hint, e.retryable, e.title) for code, e in all_codes().items()}
    assert set(SCHEMAS["Code"]["enum"]) == set(CODES)


def test_each_operation_documents_the_statuses_of_its_codes() -> None:
    for method, path, operation in _operations():
        statuses = {str(CODES[code]["status"]) for code in operation["x-codes"]}
        refusals = {status for status in operation["responses"] if status[0] in "45"}

        assert (method, path, refusals) == (method, path, statuses)
        assert "default" in operation["responses"]


def test_codes_are_reserved_exactly_where_nothing_answers_them() -> None:
    answered = {code for _, _, operation in _operations() for code in operation["x-codes"]}
    answered |= {*OPENAPI["x-codes-of-every-operation"], *OPENAPI["x-codes-of-every-token"]}
    answered |= {code for channel in ASYNCAPI["channels"].values() for code in channel["x-codes"]}

    assert {code for code, row in CODES.items() if row.get("reserved")} == set(CODES) - answered


def test_the_task_states_are_those_of_the_code() -> None:
    assert SCHEMAS["TaskState"]["enum"] == [state.value for state in TaskState]


def test_a_task_document_has_exactly_the_documented_members() -> None:
    listed, whole = (SCHEMAS[name] for name in ("ListedTask", "Task"))

    assert list(listed_document(new_task("t1"))) == list(listed["properties"]) == listed["required"]
    assert list(task_document(new_task("t1"), None)) == [*listed["properties"], *whole["properties"]]
    assert list(whole["properties"]) == whole["required"] == ["upload_id", "ticket"]


def _flat(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Document:
    """Pydantic's schema of a field as we write it: ``anyOf`` with null becomes a list of types."""
    if "$ref" in schema:
        return {"type": definitions[schema["$ref"].rpartition("/")[2]]["type"]}
    if "anyOf" not in schema:
        return {name: value for name, value in schema.items() if name not in ("title", "default", "items", "$ref")}
    branches = [_flat(branch, definitions) for branch in schema["anyOf"]]
    merged = {name: value for branch in branches for name, value in branch.items()}
    return {**merged, "type": [branch["type"] for branch in branches]}


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (CreateTask, ["ObjectOptions", "CreateTask"]),
        (FingerprintBody, ["Fingerprint"]),
        (CompleteTask, ["CompleteTask"]),
        (ListedPart, ["ListedPart"]),
        (AskForKey, ["AskForKey"]),
        (CreateBatch, ["CreateBatch"]),
    ],
)
def test_requests_are_documented_field_by_field(model: type[BaseModel], names: list[str]) -> None:
    expected = model.model_json_schema()
    documented = {field: rule for name in names for field, rule in SCHEMAS[name]["properties"].items()}

    assert set(documented) == set(expected["properties"])
    assert SCHEMAS[names[-1]].get("required", []) == expected.get("required", [])
    assert False in (SCHEMAS[names[-1]].get("additionalProperties"), SCHEMAS[names[-1]].get("unevaluatedProperties"))
    for field, rule in expected["properties"].items():
        flat = _flat(rule, expected.get("$defs", {}))
        told = {name: documented[field].get(name) for name in flat}
        if isinstance(values := told.get("additionalProperties"), dict):  # which values a header takes, the domain says
            told["additionalProperties"] = {"type": values["type"]}
        assert (field, told) == (field, flat)


def test_forms_and_queries_take_the_documented_options() -> None:
    options = set(SCHEMAS["ObjectOptions"]["properties"])

    assert options == FORM_FIELDS
    assert set(SCHEMAS["AppendOptions"]["properties"]) == APPEND_OPTIONS
    assert set(SCHEMAS["FileForm"]["properties"]) - options == {"file"}


def test_limits_are_those_of_the_code() -> None:
    options = SCHEMAS["ObjectOptions"]["properties"]

    assert options["key"]["maxLength"] == policy.MAX_KEY_BYTES
    assert options["size"]["maximum"] == parts.MAX_OBJECT_BYTES
    assert (options["part_size"]["minimum"], options["part_size"]["maximum"]) == (
        parts.MIN_PART_BYTES,
        parts.MAX_PART_BYTES,
    )
    assert options["slice_size"]["minimum"] == parts.MIB
    assert OPENAPI["components"]["parameters"]["UploadTicket"]["schema"]["maxLength"] == MAX_SEALED_BYTES
    assert (options["traffic_limit"]["minimum"], options["traffic_limit"]["maximum"]) == (
        object_headers.MIN_TRAFFIC_LIMIT,
        object_headers.MAX_TRAFFIC_LIMIT,
    )
    for name in ("storage_class", "acl"):
        for value in filter(None, options[name]["enum"]):
            assert object_headers.object_headers({name: value}, {}, {})


def test_the_actions_of_a_token_are_those_of_the_code() -> None:
    text = OPENAPI["components"]["securitySchemes"]["bearer"]["description"]

    assert re.findall(r"Actions: `([a-z_ ]+)`", text) == [" ".join(policy.Action)]


# --- examples


def _referenced(node: Any, schema: Document | None = None) -> Iterator[tuple[str, Document]]:
    """Every example that *node* refers to, with the schema of the place where it stands."""
    if isinstance(node, list):
        for item in node:
            yield from _referenced(item, schema)
    elif isinstance(node, dict):
        schema = node.get("payload", node.get("schema", schema))
        for value in node.values():
            yield from _referenced(value, schema)
        for key in ("externalValue", "$ref"):
            if isinstance(node.get(key), str) and node[key].endswith(".json"):
                assert schema is not None, node
                yield Path(node[key]).stem, schema


_PLACES = [
    *_referenced(OPENAPI),
    *(
        (Path(example["payload"]["$ref"]).stem, message["payload"])
        for message in ASYNCAPI["components"]["messages"].values()
        for example in message["examples"]
    ),
]


@pytest.mark.parametrize(("name", "schema"), _PLACES, ids=[name for name, _ in _PLACES])
def test_an_example_fits_the_schema_beside_it(name: str, schema: Document) -> None:
    _check(schema, json.loads((_FOLDER / "examples" / f"{name}.json").read_text()))


def test_every_example_is_referred_to() -> None:
    assert {path.stem for path in (_FOLDER / "examples").iterdir()} == {name for name, _ in _PLACES}


@pytest.mark.parametrize("name", contract_examples.answers())
def test_an_example_is_what_the_code_answers(name: str) -> None:
    text = (_FOLDER / "examples" / f"{name}.json").read_text()

    assert json.loads(text) == contract_examples.answers()[name]


def test_the_example_requests_are_understood() -> None:
    examples = {
        name: json.loads((_FOLDER / "examples" / f"{name}.json").read_text()) for name in contract_examples.requests()
    }
    listed = parse(CompleteTask, examples["complete-task"]).wanted()
    plain = parse(CreateTask, examples["create-task"]).new_task(slice_size=1 << 20, part_size=1 << 22)
    optional = parse(CreateTask, examples["create-task-options"]).new_task(slice_size=1 << 20, part_size=1 << 22)

    assert examples == contract_examples.requests()
    printed = parse(CreateTask, examples["create-task-fingerprint"]).new_task(slice_size=1 << 20, part_size=1 << 22)
    assert printed.fingerprint is not None
    assert (printed.size, printed.part_size) == (printed.fingerprint.size, printed.fingerprint.part_size)
    assert (plain.size, optional.size) == (10_000_000, None)
    assert listed.crc64 == combine_all((part.crc64 or 0, part.size) for part in contract_examples.PARTS)


async def test_the_example_probes_are_what_the_code_answers(gateway: Gateway) -> None:
    app = Starlette(routes=HealthRoutes(MemoryTaskStore(), gateway.metrics).admin_routes())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        heard = {name: (await client.get(f"/{name}")).json() for name in ("livez", "readyz", "version")}
    said = contract_examples.answers()

    assert heard["livez"] == said["livez"]
    assert heard["readyz"] == said["readyz"]
    assert heard["version"].keys() == said["version"].keys()
    assert said["version"]["version"] == heard["version"]["version"] == VERSION


# --- asyncapi.yaml


async def test_the_documented_channels_are_the_websocket_routes(gateway: Gateway) -> None:
    routes = {route.path for route in _routes(gateway.public) if isinstance(route, WebSocketRoute)}

    assert {channel["address"] for channel in ASYNCAPI["channels"].values()} == routes


async def test_the_messages_of_a_watch_are_the_documented_ones() -> None:
    """A watcher hears of a task and its batch, of its next part, and of a part that turned out to be lost."""
    store = MemoryTaskStore()
    task = await store.create(replace(new_task("t1"), batch_id="b1"))

    async def add_up(batch_id: BatchId) -> list[Task]:
        return [await store.load(task.id) or task]

    timing = Timing(gap=0.001, batch_gap=60)
    sources = Sources(store, store.bus, listed_document, MemoryBudget(1 << 20), add_up, timing)
    alice = Caller("alice", Policy(), math.inf)
    texts: list[str] = []
    async with Fanout(sources).watching(alice, "alice", None) as inbox:
        texts += await inbox.next()
        task = await grow(store, task, 1)
        while len(texts) < 3:
            texts += await inbox.next()
        await store.forget_parts(task, [1])
        texts += await inbox.next()

    messages = list(map(json.loads, texts))
    documented = ASYNCAPI["components"]["messages"]
    assert [message["type"] for message in messages] == ["snapshot", "task", "batch", "part_lost"]
    assert set(documented) == {message["type"] for message in messages}
    for message in messages:
        _check(documented[message["type"]]["payload"], message)


def test_both_channels_carry_every_message() -> None:
    for channel in ASYNCAPI["channels"].values():
        assert {reference["$ref"].rpartition("/")[2] for reference in channel["messages"].values()} == set(
            ASYNCAPI["components"]["messages"]
        )

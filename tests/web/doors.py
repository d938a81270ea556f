"""One way to say the same of an object at every door that writes one: for tests of what may be said, and of types."""

import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree

import httpx

from gateway.cos.signing import Credentials, authorization, encode_query, sign_policy
from gateway.domain.object_headers import FIELD_OF_HEADER, FORBID_OVERWRITE, META
from tests.web.rest import Rest

_COS: Final = "http://127.0.0.1"
_OPTIONS: Final = {**FIELD_OF_HEADER, "cache-control": "cache_control"}
_BOUNDARY: Final = "doors"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a write ended. ``code`` is the door's own word for a refusal, empty for a success."""

    status: int
    code: str
    answer: httpx.Response = field(repr=False)

    @property
    def is_good(self) -> bool:
        return self.answer.is_success


@dataclass(frozen=True, slots=True)
class Doors:
    """One caller at both doors of a gateway, with a key of the same token at the COS door."""

    rest: httpx.AsyncClient
    cos: httpx.AsyncClient
    key: Mapping[str, Any]

    async def signed(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        unsigned: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """One request at the COS door; *unsigned* headers are sent beside and not signed."""
        given = {"host": "127.0.0.1", "x-cos-security-token": self.key["session_token"], **(headers or {})}
        credentials = Credentials(self.key["tmp_secret_id"], self.key["tmp_secret_key"])
        now = int(time.time())
        signature = authorization(credentials, method, f"/{key}", query or {}, given, start=now - 60, end=now + 600)
        target = f"{_COS}/{quote(key, safe='/-_.~')}" + (f"?{encode_query(query)}" if query else "")
        sent = {**given, **(unsigned or {}), "authorization": signature}
        return await self.cos.request(method, target, content=body, headers=sent)


@asynccontextmanager
async def doors_of(rest: Rest, owner: str = "alice", **claims: Any) -> AsyncIterator[Doors]:
    """*owner* at both doors, restricted by *claims*."""
    async with (
        rest.as_caller(owner, **claims) as client,
        httpx.AsyncClient(transport=httpx.ASGITransport(rest.gateway.cos), timeout=20) as cos,
    ):
        answer = await client.post("/v1/keys", json={})
        assert answer.is_success, answer.text
        yield Doors(client, cos, answer.json())


Write = Callable[[Doors, str, Mapping[str, str], bytes], Awaitable[httpx.Response]]


def _as_json(key: str, said: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {"key": key}
    for name, value in said.items():
        if name == FORBID_OVERWRITE:
            options["forbid_overwrite"] = value == "true"
        elif name.startswith(META):
            options.setdefault("meta", {})[name.removeprefix(META)] = value
        elif name in _OPTIONS:
            options[_OPTIONS[name]] = value
        else:
            options.setdefault("headers", {})[name] = value
    return options


async def task_content(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """A task, and its bytes in one body."""
    made = await doors.rest.post("/v1/tasks", json={**_as_json(key, said), "size": len(body)})
    if not made.is_success:
        return made
    return await doors.rest.put(f"/v1/tasks/{made.json()['id']}/content", content=body)


async def task_parts(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """A task of unknown size, and its one part."""
    made = await doors.rest.post("/v1/tasks", json=_as_json(key, said))
    if not made.is_success:
        return made
    task = f"/v1/tasks/{made.json()['id']}"
    part = await doors.rest.put(f"{task}/parts/1", content=body)
    return part if not part.is_success else await doors.rest.post(f"{task}/complete")


async def batch(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """A batch of one file; what is said against the file is the answer."""
    file = {**_as_json(key, said), "size": len(body)}
    made = (await doors.rest.post("/v1/batches", json={"files": [file]})).json()["files"][0]
    if made["error"] is not None:
        return httpx.Response(400, json=made["error"])
    return await doors.rest.put(f"/v1/tasks/{made['task']['id']}/content", content=body)


async def raw_file(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """``POST /v1/files`` with COS's own headers."""
    headers = {"content-type": "application/octet-stream", **said}
    return await doors.rest.post("/v1/files", params={"key": key}, content=body, headers=headers)


async def form_file(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """``POST /v1/files`` as a form."""
    options = _as_json(key, said)
    extra, meta = options.pop("headers", {}), options.pop("meta", {})
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()}
    fields = {**texts, **{f"meta-{name}": value for name, value in meta.items()}, **extra}
    return await doors.rest.post(
        "/v1/files", content=form(fields, body), headers={"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
    )


async def put_object(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """``PUT /v1/objects`` with COS's own headers."""
    return await doors.rest.put(f"/v1/objects/{quote(key)}", content=body, headers=dict(said))


async def append_object(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """``POST /v1/objects?append`` with COS's own headers."""
    query = {"append": "", "position": "0"}
    return await doors.rest.post(f"/v1/objects/{quote(key)}", params=query, content=body, headers=dict(said))


async def cos_put(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """PUT Object."""
    return await doors.signed("PUT", key, headers=said, body=body)


async def cos_append(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """APPEND Object."""
    return await doors.signed("POST", key, {"append": "", "position": "0"}, said, body)


async def cos_multipart(doors: Doors, key: str, said: Mapping[str, str], body: bytes) -> httpx.Response:
    """Initiate, Upload Part and Complete."""
    made = await doors.signed("POST", key, {"uploads": ""}, said)
    if not made.is_success:
        return made
    upload_id = ElementTree.fromstring(made.text).findtext("{*}UploadId") or ""  # noqa: S314 -- our own server's
    part = await doors.signed("PUT", key, {"partNumber": "1", "uploadId": upload_id}, body=body)
    if not part.is_success:
        return part
    rows = f"<Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
    complete = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    return await doors.signed("POST", key, {"uploadId": upload_id}, body=complete)


async def cos_form(
    doors: Doors,
    key: str,
    said: Mapping[str, str],
    body: bytes,
    *,
    beside: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """POST Object, its policy covering what is said, but not the fields *beside*; *headers* are the request's."""
    now = int(time.time())
    key_time = f"{now - 60};{now + 600}"
    fields = {"key": key, **{("acl" if name == "x-cos-acl" else name): value for name, value in said.items()}}
    signature = {"q-sign-algorithm": "sha1", "q-ak": doors.key["tmp_secret_id"], "q-sign-time": key_time}
    conditions = [*({name: value} for name, value in {**signature, **fields}.items())]
    expires = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now + 600))
    policy = json.dumps({"expiration": expires, "conditions": conditions})
    sent = {
        **fields,
        **(beside or {}),
        "policy": b64encode(policy.encode()).decode(),
        "q-sign-algorithm": "sha1",
        "q-ak": doors.key["tmp_secret_id"],
        "q-key-time": key_time,
        "q-signature": sign_policy(doors.key["tmp_secret_key"], key_time, policy),
        "x-cos-security-token": doors.key["session_token"],
    }
    form_type = {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"}
    return await doors.cos.post(f"{_COS}/", content=form(sent, body), headers={**form_type, **(headers or {})})


REST_DOORS: Final[Mapping[str, Write]] = {
    write.__name__: write for write in (task_content, task_parts, batch, raw_file, form_file, put_object, append_object)
}
COS_DOORS: Final[Mapping[str, Write]] = {
    write.__name__: write for write in (cos_put, cos_append, cos_multipart, cos_form)
}
DOORS: Final[Mapping[str, Write]] = {**REST_DOORS, **COS_DOORS}
APPENDS: Final = frozenset({"append_object", "cos_append"})


async def outcome(doors: Doors, door: str, key: str, said: Mapping[str, str], body: bytes = b"hello") -> Outcome:
    """What comes of *body*, written at *key* through *door* with *said* of it, as COS's headers by lower-case name."""
    answer = await DOORS[door](doors, key, said, body)
    if answer.is_success:
        return Outcome(answer.status_code, "", answer)
    if answer.headers["content-type"] == "application/xml":
        found = ElementTree.fromstring(answer.text).findtext("{*}Code")  # noqa: S314 -- our own server's
        return Outcome(answer.status_code, found or "", answer)
    return Outcome(answer.status_code, answer.json()["code"], answer)


def form(fields: Mapping[str, str], body: bytes) -> bytes:
    """Form data: *fields*, then the file."""
    head = "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    file = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    return (head + file).encode() + body + f"\r\n--{_BOUNDARY}--\r\n".encode()

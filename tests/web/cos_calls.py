"""Every operation of the COS door as a signed request, in the test's own event loop."""

import time
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

import httpx

from gateway.cos.signing import Credentials, authorization, encode, encode_query, presigned_query
from gateway.web.cos_call import Operation
from tests.web.rest import Rest

_LIST: Final = (
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
)
REQUESTS: Final[Mapping[Operation, tuple[str, dict[str, str], bytes]]] = {
    Operation.PUT_OBJECT: ("PUT", {}, b"bytes"),
    Operation.APPEND_OBJECT: ("POST", {"append": "", "position": "0"}, b"bytes"),
    Operation.POST_OBJECT: ("POST", {}, b"bytes"),
    Operation.HEAD_OBJECT: ("HEAD", {}, b""),
    Operation.LIST_UPLOADS: ("GET", {"uploads": ""}, b""),
    Operation.INITIATE_UPLOAD: ("POST", {"uploads": ""}, b""),
    Operation.UPLOAD_PART: ("PUT", {"partNumber": "1", "uploadId": "{upload}"}, b"bytes"),
    Operation.LIST_PARTS: ("GET", {"uploadId": "{upload}"}, b""),
    Operation.COMPLETE_UPLOAD: ("POST", {"uploadId": "{upload}"}, _LIST),
    Operation.ABORT_UPLOAD: ("DELETE", {"uploadId": "{upload}"}, b""),
}
"""Method, query and body of each operation; ``{upload}`` stands for an UploadId."""


@dataclass(frozen=True, slots=True)
class DoorKey:
    """A key that *rest*'s gateway issued."""

    rest: Rest
    document: Mapping[str, Any]

    @property
    def credentials(self) -> Credentials:
        told = self.document
        return Credentials(told["tmp_secret_id"], told["tmp_secret_key"], told["session_token"])

    async def ask(self, operation: Operation, key: str, upload_id: str = "", *, presigned: bool = False) -> "Answer":
        """Send *operation* at *key*, signed in its header, in its query, or, a form, in a field."""
        method, query, body = REQUESTS[operation]
        query = {name: value.replace("{upload}", upload_id) for name, value in query.items()}
        if operation is Operation.POST_OBJECT:
            return await self.post(key, body)
        at = "" if operation is Operation.LIST_UPLOADS else key
        return await self.call(method, at, query, body, presigned=presigned)

    async def call(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        body: bytes | AsyncIterable[bytes] = b"",
        *,
        headers: Mapping[str, str] | None = None,
        presigned: bool = False,
    ) -> "Answer":
        """Send one signed request."""
        sent = {"host": self._host, **(headers or {})}
        token, window = self.document["session_token"], _window()
        if presigned:
            query = presigned_query(self.credentials, method, f"/{key}", query, sent, **window)
        else:
            sent["x-cos-security-token"] = token
            sent["authorization"] = authorization(self.credentials, method, f"/{key}", query, sent, **window)
        path = "/" + "/".join(map(encode, key.split("/")))
        return await self._send(method, f"{path}?{encode_query(query)}" if query else path, sent, body)

    async def post(self, key: str, data: bytes) -> "Answer":
        """Send the file *data* as the wx SDK does, in a form."""
        return await self.post_form(self.form(key, data))

    def form(self, key: str, data: bytes) -> bytes:
        """The form that the wx SDK makes for the file *data*."""
        fields = {
            "key": key,
            "Signature": authorization(self.credentials, "POST", "/", {}, {}, **_window()),
            "x-cos-security-token": self.document["session_token"],
        }
        parts = [f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
        file = '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        return ("".join(parts) + file).encode() + data + b"\r\n--b--\r\n"

    async def post_form(self, body: bytes | AsyncIterable[bytes]) -> "Answer":
        """Send *body*, a form with the boundary ``b``."""
        headers = {"host": self._host, "content-type": "multipart/form-data; boundary=b"}
        return await self._send("POST", "/", headers, body)

    @property
    def _host(self) -> str:
        return f"{self.document['bucket']}.cos.{self.document['region']}.myqcloud.com"

    async def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | AsyncIterable[bytes]
    ) -> "Answer":
        door = httpx.ASGITransport(self.rest.gateway.cos)
        async with httpx.AsyncClient(transport=door, base_url="http://127.0.0.1", timeout=20) as client:
            answer = await client.request(method, target, headers=dict(headers), content=body)
        return Answer(answer.status_code, answer.content, answer.headers.get("etag"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the COS door said."""

    status: int
    body: bytes
    etag: str | None = None

    @property
    def code(self) -> str | None:
        """COS's error code; a HEAD has none."""
        return self.text("Code")

    def text(self, name: str) -> str | None:
        """The text of the first element *name*, None without a document."""
        return ElementTree.fromstring(self.body).findtext(f".//{{*}}{name}") if self.body else None  # noqa: S314


def _window() -> dict[str, int]:
    now = int(time.time())
    return {"start": now - 60, "end": now + 600}

"""Sends single requests to a COS, signed by us or deliberately not, over the standard library's plain client."""

import hashlib
import http.client
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from gateway.cos.signing import Credentials, authorization, encode_query
from gateway.domain.objects import Bucket


def md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def etag_of(body: bytes) -> str:
    """The ETag of an object that was put whole, quotes included."""
    return f'"{md5(body).hex()}"'


@dataclass(frozen=True, slots=True)
class CallerAnswer:
    """An answer as it came; header names keep their casing."""

    status: int
    header_list: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.header_list}

    @property
    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.body)  # noqa: S314 -- our own server's

    def text(self, name: str) -> str | None:
        """The text of the first XML element *name*, in any namespace."""
        return self.xml.findtext(f".//{{*}}{name}")

    def texts(self, name: str) -> list[str]:
        return [element.text or "" for element in self.xml.iterfind(f".//{{*}}{name}")]

    @property
    def code(self) -> str | None:
        """COS's error code."""
        return self.text("Code")


@dataclass(frozen=True, slots=True)
class CosCaller:
    """One key pair at one bucket of the COS that listens at *port*."""

    port: int
    bucket: Bucket
    credentials: Credentials
    clock: Any = time.time

    def call(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
        signed: bool = True,
        window: tuple[int, int] = (-60, 600),
    ) -> CallerAnswer:
        """Send one request; *window* is the signature's, in seconds from now."""
        sent, given = dict(headers or {}), dict(query or {})
        sent = self.signed_headers(method, key, given, sent, window) if signed else {"Host": self.bucket.host, **sent}
        return self.send(method, target_of(key, given), sent, body)

    def signed_headers(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        window: tuple[int, int] = (-60, 600),
    ) -> dict[str, str]:
        """*headers* with what signs them."""
        sent, now = {"Host": self.bucket.host, **headers}, int(self.clock())
        token = self.credentials.session_token
        if token:
            sent["x-cos-security-token"] = token
        start, end = now + window[0], now + window[1]
        sent["Authorization"] = authorization(self.credentials, method, f"/{key}", query, sent, start=start, end=end)
        return sent

    def head(self, method: str, key: str, query: Mapping[str, str], *lines: str) -> bytes:
        """The head of a signed request for a raw connection."""
        sent, now = {"Host": self.bucket.host}, int(self.clock())
        told = authorization(self.credentials, method, f"/{key}", query, sent, start=now - 60, end=now + 600)
        target = f"/{quote(key, safe='-_.~')}?{encode_query(query)}"
        head = [f"{method} {target} HTTP/1.1", f"Host: {self.bucket.host}", f"Authorization: {told}"]
        token = self.credentials.session_token
        return "\r\n".join([*head, f"x-cos-security-token: {token}", *lines, "", ""]).encode()

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None = None
    ) -> CallerAnswer:
        """Send a request just as given."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, target, body, {name: value.encode() for name, value in headers.items()})
            answer = connection.getresponse()
            return CallerAnswer(answer.status, tuple(answer.getheaders()), answer.read())
        finally:
            connection.close()


def target_of(key: str, query: Mapping[str, str]) -> str:
    """The path and the query of a request about *key*."""
    return f"/{quote(key, safe='-_.~')}" + (f"?{encode_query(query)}" if query else "")


def caller_at(
    port: int, bucket: str, region: str, secret_id: str, secret_key: str, session_token: str | None
) -> CosCaller:
    """A caller of whatever speaks COS's API at *port*."""
    return CosCaller(port, Bucket(bucket, region), Credentials(secret_id, secret_key, session_token))

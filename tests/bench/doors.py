"""How one whole upload is spelled at each server that the bench compares."""

import random
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final

MIB: Final = 1024 * 1024
KIB: Final = 1024
_BOUNDARY: Final = "----WebKitFormBoundaryq7Tz0bWc4LxV9eRm"  # as long as a browser's


class Door(StrEnum):
    """Whom the load talks to: ours, anything that passes a PUT on to the store, or a tus server."""

    GATEWAY = "gateway"
    STORE = "store"
    TUS = "tus"


@dataclass(frozen=True, slots=True)
class WholeUpload:
    """A request that uploads one file; its body is ``before``, the file's bytes, ``after``."""

    method: str
    target: str
    headers: dict[str, str]
    before: bytes
    after: bytes
    success_status: int


def whole_upload(door: Door, key: str, size: int, token: str) -> WholeUpload:
    """The request for a file of *size* bytes under *key*.

    The gateway gets a form post, the store a PUT of the same bytes, form envelope and all, and tus a creation with
    upload, its shortest way.
    """
    if door is Door.TUS:
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size), "Content-Length": str(size)}
        headers["Content-Type"] = "application/offset+octet-stream"
        return WholeUpload("POST", "/files", headers, b"", b"", 201)
    before = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="key"\r\n\r\n{key}\r\n'
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="bench.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    after = f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {"Content-Length": str(len(before) + size + len(after))}
    headers["Content-Type"] = f"multipart/form-data; boundary={_BOUNDARY}"
    if door is Door.STORE:
        return WholeUpload("PUT", f"/{key}", headers, before, after, 200)
    headers["Authorization"] = f"Bearer {token}"
    return WholeUpload("POST", "/v1/files", headers, before, after, 201)


@cache
def random_bytes(size: int) -> bytes:
    """*size* seeded random bytes, the same ones every time."""
    return random.Random(size).randbytes(size)

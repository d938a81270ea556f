"""A COS of our own for development and tests: as strict as COS is documented, its objects are files.

``python -m gateway.dev.local_cos --listen 127.0.0.1:9000 --data ./data --bucket files-1250000000@ap-guangzhou`` runs
it alone, with the key of ``GATEWAY_COS_SECRET_ID`` and ``GATEWAY_COS_SECRET_KEY``: arguments are seen by everybody.

Where COS's pages are silent it takes the stricter side: a temporary key without its token is AccessDenied; a header,
parameter or field that it does not act on is NotImplemented; a part or an append needs a Content-Length;
x-cos-forbid-overwrite ends in 409 FileAlreadyExists, at PUT, POST and Complete; a part sent while its upload is being
merged is 409 UploadConflict; too much or misnamed metadata is InvalidArgument.
"""

import argparse
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from gateway.cos.signing import Credentials
from gateway.dev.cos_answers import Answer, Refusal, Signoff, refusal_answer, send_answer
from gateway.dev.cos_auth import KeyRing
from gateway.dev.cos_calls import Addressing, Call, Operation, read_call, read_headers
from gateway.dev.cos_control import Control
from gateway.dev.cos_cors import cors_headers, preflight
from gateway.dev.cos_form_calls import FormCalls
from gateway.dev.cos_object_calls import ObjectCalls
from gateway.dev.cos_objects import ObjectDisk
from gateway.dev.cos_said import check_said
from gateway.dev.cos_server import server_config
from gateway.dev.cos_upload_calls import UploadCalls
from gateway.dev.cos_uploads import UploadDisk
from gateway.domain.objects import Bucket

Handler = Callable[[Call], Awaitable[Answer]]
_KEY_VARIABLES: Final = ("GATEWAY_COS_SECRET_ID", "GATEWAY_COS_SECRET_KEY")


@dataclass(frozen=True, slots=True)
class LocalCosConfig:
    """What a local COS serves.

    Args:
        data: folder of the objects: ``<data>/cos/<bucket>/<key>``.
        keys: key pairs that may sign; one with a session token only together with it, and until it expires.
        default_bucket: what a plain Host such as ``127.0.0.1:9000`` means; None: such a Host is refused.
        clock: the server's time, Unix seconds.
        faults: tests may make it fail, over ``/.local-cos/`` too.
    """

    data: Path
    buckets: tuple[Bucket, ...]
    keys: tuple[Credentials, ...]
    default_bucket: Bucket | None = None
    clock: Callable[[], float] = time.time
    faults: bool = False


def create_local_cos(config: LocalCosConfig) -> "LocalCos":
    """The local COS as an ASGI app; :func:`gateway.dev.cos_server.server_config` says how to run it."""
    return LocalCos(config)


class LocalCos:
    """The ASGI app: reads a request, checks who sent it, answers it."""

    objects: ObjectDisk
    uploads: UploadDisk
    control: Control | None

    def __init__(self, config: LocalCosConfig) -> None:
        root = config.data / "cos"
        names = [bucket.name for bucket in config.buckets]
        self.objects = ObjectDisk(root, names)
        self.uploads = UploadDisk(root, names)
        self._config = config
        self._addressing = Addressing(config.buckets, config.default_bucket)
        self._key_ring = KeyRing(config.keys)
        self._handlers = {
            **_object_handlers(ObjectCalls(self.objects)),
            **_upload_handlers(UploadCalls(self.uploads, self.objects)),
            Operation.POST_OBJECT: FormCalls(self.objects, self._key_ring).post,
        }
        self.control = Control() if config.faults else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        signoff = Signoff(self._config.clock())
        headers = read_headers(scope)
        if self.control is not None and self.control.is_meant(scope, headers.get("host", "")):
            await self.control(scope, receive, send)
            return
        try:
            async with aclosing(_body(scope, receive)) as body:
                answer = await self._answer(read_call(scope, body, self._addressing, signoff))
        except Refusal as refusal:
            resource = headers.get("host", "") + scope["raw_path"].decode("latin-1")
            answer = refusal_answer(refusal, signoff, resource=resource, head_only=scope["method"] == "HEAD")
        except ClientDisconnect:
            return
        await send_answer(send, answer, [*signoff.headers(), *cors_headers(headers, answer.headers)])

    async def _answer(self, call: Call) -> Answer:
        if call.operation is Operation.OPTIONS_OBJECT:
            return preflight(call)
        return await (self.control.answer(call, self._honest) if self.control else self._honest(call))

    async def _honest(self, call: Call) -> Answer:
        # A form carries its signature in its fields, which its handler reads.
        if call.operation is not Operation.POST_OBJECT:
            self._key_ring.check(call)
        check_said(call)
        return await self._handlers[call.operation](call)


def _object_handlers(objects: ObjectCalls) -> dict[Operation, Handler]:
    return {
        Operation.PUT_OBJECT: objects.put,
        Operation.APPEND_OBJECT: objects.append,
        Operation.HEAD_OBJECT: objects.head,
        Operation.GET_OBJECT: objects.get,
        Operation.DELETE_OBJECT: objects.delete,
        Operation.HEAD_BUCKET: objects.head_bucket,
        Operation.LIST_OBJECTS: objects.list_objects,
    }


def _upload_handlers(uploads: UploadCalls) -> dict[Operation, Handler]:
    return {
        Operation.LIST_UPLOADS: uploads.list_uploads,
        Operation.INITIATE_UPLOAD: uploads.initiate,
        Operation.UPLOAD_PART: uploads.put_part,
        Operation.LIST_PARTS: uploads.list_parts,
        Operation.COMPLETE_UPLOAD: uploads.complete,
        Operation.ABORT_UPLOAD: uploads.abort,
    }


async def _body(scope: Scope, receive: Receive) -> AsyncGenerator[bytes, None]:
    async for chunk in Request(scope, receive).stream():
        if chunk:
            yield chunk


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the local COS alone, until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m gateway.dev.local_cos", description=main.__doc__)
    parser.add_argument("--listen", default="127.0.0.1:9000", metavar="HOST:PORT")
    parser.add_argument("--fd", type=int, help="an inherited socket that listens already, in place of --listen")
    parser.add_argument("--data", type=Path, default=Path("data"), metavar="DIR")
    parser.add_argument("--bucket", type=_bucket, action="append", required=True, metavar="NAME@REGION")
    parser.add_argument("--faults", action="store_true", help="let tests make it fail, over /.local-cos/")
    given = parser.parse_args(arguments)
    secret_id, secret_key = (os.environ.get(name, "") for name in _KEY_VARIABLES)
    if not (secret_id and secret_key):
        parser.error(f"{' and '.join(_KEY_VARIABLES)} must be set")
    buckets = tuple(given.bucket)
    keys = (Credentials(secret_id, secret_key),)
    config = LocalCosConfig(given.data, buckets, keys, default_bucket=buckets[0], faults=given.faults)
    host, _, port = given.listen.rpartition(":")
    if given.fd is None:
        listener = socket.create_server((host, int(port)), backlog=2048)
    else:
        listener = socket.socket(fileno=given.fd)
    print(f"local COS at http://{host}:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(server_config(create_local_cos(config), loop="uvloop")).run(sockets=[listener])


def _bucket(value: str) -> Bucket:
    name, at, region = value.partition("@")
    if not (name and at and region):
        raise argparse.ArgumentTypeError("a bucket is NAME@REGION")
    return Bucket(name, region)


if __name__ == "__main__":
    main()

"""The headers of a PUT that stores a whole file."""

import asyncio
import hashlib

from gateway.domain.object_headers import META_MD5, lacks_md5
from gateway.domain.objects import PartBody
from gateway.domain.task import Task


async def put_headers(task: Task, body: PartBody, content_md5: str | None) -> dict[str, str]:
    """The headers for a *body* that is here and can be read again: an MD5 that they lack is computed.

    Args:
        content_md5: what the client says of the body, base64.
    """
    headers = streamed_headers(task, content_md5)
    if lacks_md5(headers):
        digest = hashlib.md5(usedforsecurity=False)
        async for chunk in body.chunks():
            digest.update(chunk)
            await asyncio.sleep(0)  # the largest file that goes in one piece takes a tenth of a second
        headers[META_MD5] = digest.hexdigest()
    return headers


def streamed_headers(task: Task, content_md5: str | None) -> dict[str, str]:
    """The headers for a body of which nobody has seen the end."""
    md5 = {} if content_md5 is None else {"content-md5": content_md5}
    return {**task.object_headers, **task.part_headers, **md5}

"""The headers of a PUT that stores a whole file, and of the two calls between which parts become one."""

import asyncio
import hashlib

from gateway.domain.object_headers import FORBID_OVERWRITE, META_MD5, lacks_md5
from gateway.domain.objects import PartBody
from gateway.domain.picture_operations import PIC_OPERATIONS
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


def opening_headers(task: Task) -> dict[str, str]:
    """The headers of Initiate: what is made of a picture comes with its Complete."""
    return {name: value for name, value in task.object_headers.items() if name != PIC_OPERATIONS}


def empty_headers(task: Task) -> dict[str, str]:
    """The headers of a PUT without a byte, of which COS makes nothing."""
    return {**opening_headers(task), **task.part_headers}


def merging_headers(task: Task) -> dict[str, str]:
    """The headers of Complete: COS replaces an object, and reads a picture, only now."""
    return {name: value for name, value in task.object_headers.items() if name in (FORBID_OVERWRITE, PIC_OPERATIONS)}

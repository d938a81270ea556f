"""The headers that go to COS with an object, of what its caller says and what the caller and the bucket allow.

Every write gets its headers here, whatever door it came in by and whether it is a task or not.
"""

from collections.abc import Mapping
from typing import Final

from gateway.domain.errors import InvalidField
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.picture_operations import PIC_OPERATIONS, confined_operations
from gateway.domain.policy import Caller, Destination

_DISPOSITION: Final = "content-disposition"


def headers_of_write(
    caller: Caller, place: Destination, key: str, said: Mapping[str, str], *, forbid_overwrite: bool = False
) -> dict[str, str]:
    """The headers of an object that *caller* writes at *key* in *place*.

    Args:
        said: what the caller says of it, as COS's headers by lower-case name, checked by ``object_headers``.
        forbid_overwrite: whether they ask that no object be replaced; *said* may ask so as well.
    Raises:
        GatewayError: something of it may not be said, by this caller or in this bucket.
    """
    headers = dict(said)
    if forbid_overwrite:
        headers[FORBID_OVERWRITE] = "true"
    if PIC_OPERATIONS in headers:
        if FORBID_OVERWRITE in headers:
            raise InvalidField("pic-operations may replace objects, and overwriting is forbidden.")
        operations = headers[PIC_OPERATIONS]
        headers[PIC_OPERATIONS] = confined_operations(operations, key, lambda result: caller.check_key(place, result))
    if place.types is not None:
        headers.setdefault(_DISPOSITION, "attachment")
    return headers

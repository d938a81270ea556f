"""The headers that go to COS with an object, of what its caller says and what the caller and the bucket allow.

Every write gets its headers here, whatever door it came in by and whether it is a task or not.
"""

import re
from collections.abc import Mapping
from typing import Final

from gateway.domain.errors import InvalidField, OptionNotAllowed
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.options import Option, is_among, is_saved, options_in
from gateway.domain.picture_operations import PIC_OPERATIONS, confined_operations
from gateway.domain.policy import Caller, Destination

_DISPOSITION: Final = "content-disposition"
_SCRIPTLESS: Final = re.compile(
    r"(?:image/(?!svg)[a-z0-9.-]+|audio/[a-z0-9.-]+|video/[a-z0-9.-]+|text/plain)", re.ASCII
)
"""Types that no browser runs: nothing that ends in ``+xml``, no page, no script."""


def headers_of_write(
    caller: Caller, place: Destination, key: str, said: Mapping[str, str], *, forbid_overwrite: bool = False
) -> dict[str, str]:
    """The headers of an object that *caller* writes at *key* in *place*.

    Args:
        said: what the caller says of it, as COS's headers by lower-case name, checked by ``object_headers``.
        forbid_overwrite: whether they ask that no object be replaced; *said* may ask so as well.
    Raises:
        OptionNotAllowed: the token or the bucket does not allow something that *said* asks for.
        GatewayError: something else of it may not be said.
    """
    for option in options_in(said):
        require_option(caller, place, option)
    headers = dict(said)
    if forbid_overwrite or not may_overwrite(caller, place):
        headers[FORBID_OVERWRITE] = "true"
    if PIC_OPERATIONS in headers:
        if FORBID_OVERWRITE in headers:
            raise InvalidField("pic-operations may replace objects, and overwriting is forbidden.")
        operations = headers[PIC_OPERATIONS]
        headers[PIC_OPERATIONS] = confined_operations(operations, key, lambda result: caller.check_key(place, result))
    if place.types is not None:
        _require_readable(headers)
        _require_saved(headers)
    return headers


def may_overwrite(caller: Caller, place: Destination) -> bool:
    """Whether an object of *caller*'s may replace one that stands in *place*."""
    return not caller.policy.forbid_overwrite and _allows(caller, place, Option.OVERWRITE)


def require_option(caller: Caller, place: Destination, option: Option) -> None:
    """Raise OptionNotAllowed unless both the token and the bucket allow *option*."""
    if not _allows(caller, place, option):
        raise OptionNotAllowed(f"The token or the bucket does not allow the option {option.value}.")


def _allows(caller: Caller, place: Destination, option: Option) -> bool:
    return is_among(option, caller.policy.options) and is_among(option, place.options)


def _require_readable(headers: Mapping[str, str]) -> None:
    """A bucket that looks at its files takes none whose bytes are not those that a browser will see."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidField("content_encoding hides the file from a bucket that looks at its files.")


def _require_saved(headers: dict[str, str]) -> None:
    """In a bucket that looks at its files an object is saved, unless its caller may have it shown and it cannot run."""
    said = headers.setdefault(_DISPOSITION, "attachment")
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not is_saved(said) and not _SCRIPTLESS.fullmatch(content_type):
        raise InvalidField("content_disposition is not attachment, and the content type can run in a page.")

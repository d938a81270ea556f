"""Notices a proxy in front that collects bodies before it passes them on.

Then a disk or the proxy's memory holds every upload, progress jumps, a pause comes too late, and our deadlines see
nothing of slow clients. Our nginx rules tell with each request how long they have had it (``$request_time``, written
when the first byte goes to us): of a large body that is a moment, unless the body was collected meanwhile.
"""

import logging
import re
import time
from collections.abc import Callable
from typing import Final

from gateway.web.client_address import WAITED, Headers

log = logging.getLogger(__name__)

LEAST_BYTES: Final = 64 * 1024
"""Less than that a proxy may well hold: it came with the head, or soon after."""
LEAST_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 60.0
_SECONDS: Final = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class ProxyWatch:
    """Looks at what trusted proxies tell of their requests, and warns once a minute.

    Args:
        clock: seconds, from any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until = float("-inf")

    def found_buffering(self, proxy: str, headers: Headers, length: int | None) -> bool:
        """Whether *proxy* collected the body of *length* bytes that follows *headers*; None is a length not known,
        and whoever has collected a body knows it.
        """
        if length is None or length < LEAST_BYTES:
            return False
        told = next((value for name, value in headers if name == WAITED), b"")
        if not _SECONDS.fullmatch(told) or float(told) < LEAST_SECONDS:
            return False
        self._warn(proxy, float(told), length)
        return True

    def _warn(self, proxy: str, seconds: float, length: int) -> None:
        now = self._clock()
        if now < self._quiet_until:
            return
        self._quiet_until = now + QUIET_SECONDS
        log.warning(
            "the proxy in front collects bodies before it passes them on: nginx needs proxy_request_buffering off",
            extra={"proxy": proxy, "seconds": seconds, "bytes": length},
        )

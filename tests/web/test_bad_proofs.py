"""Addresses that send what proves nothing."""

import pytest

from gateway.domain.errors import RateLimited
from gateway.web.bad_proofs import BadProofs


def test_after_too_many_an_address_is_heard_only_with_what_is_known() -> None:
    now = 0.0
    proofs = BadProofs(2, lambda: now)
    for _ in range(2):
        proofs.require_heard("192.0.2.1", is_known=False)
        proofs.note("192.0.2.1")

    with pytest.raises(RateLimited) as refused:
        proofs.require_heard("192.0.2.1", is_known=False)
    assert refused.value.retry_after_seconds == pytest.approx(30)
    proofs.require_heard("192.0.2.1", is_known=True)
    proofs.require_heard("192.0.2.2", is_known=False)
    now = 30.1
    proofs.require_heard("192.0.2.1", is_known=False)

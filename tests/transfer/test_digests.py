"""What a client says of its bytes against the bytes."""

from base64 import b64encode
from hashlib import md5

import pytest

from gateway.domain.checksums import crc64
from gateway.domain.errors import DigestMismatch
from gateway.transfer.digests import DigestCheck, Digests

DATA = b"a body of several chunks"
MD5 = b64encode(md5(DATA, usedforsecurity=False).digest()).decode()


@pytest.mark.parametrize("said", [Digests(), Digests(MD5), Digests(crc64=crc64(DATA)), Digests(MD5, crc64(DATA))])
def test_a_body_that_is_what_was_said_is_accepted(said: Digests) -> None:
    said.require([DATA[:5], b"", DATA[5:]])


@pytest.mark.parametrize("said", [Digests(MD5), Digests(crc64=crc64(DATA)), Digests(MD5, 1), Digests("x", crc64(DATA))])
@pytest.mark.parametrize("chunks", [[DATA[1:]], [DATA, b"x"], [DATA[5:], DATA[:5]], []])
def test_any_other_body_is_refused(said: Digests, chunks: list[bytes]) -> None:
    with pytest.raises(DigestMismatch):
        said.require(chunks)


def test_an_empty_body_has_digests_too() -> None:
    Digests("1B2M2Y8AsgTpgAmY7PhCfg==", 0).require([])


def test_a_check_judges_what_has_come_so_far() -> None:
    check = DigestCheck(Digests(crc64=crc64(b"ab")))
    check.update(b"a")
    with pytest.raises(DigestMismatch):
        check.require()

    check.update(b"b")
    check.require()

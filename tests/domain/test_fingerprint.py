"""A fingerprint must agree with itself, tells files apart, and says which stored parts are the file's."""

import hashlib
from dataclasses import replace

import pytest

from gateway.domain.errors import GatewayError, InvalidField, InvalidSize
from gateway.domain.fingerprint import Fingerprint
from gateway.domain.objects import Bucket, ETag, ObjectAddress, StoredPart

AT = ObjectAddress(Bucket("files-1250000000", "ap-guangzhou"), "k")
MD5S = tuple(hashlib.md5(bytes([n]), usedforsecurity=False).hexdigest() for n in range(3))
BY_MD5 = Fingerprint(size=25, part_size=10, parts_md5=MD5S)
BY_CRC = Fingerprint(size=25, part_size=10, parts_crc64=(1, 2, 2**64 - 1))
WHOLE = (Fingerprint(size=25, md5=MD5S[0]), Fingerprint(size=25, crc64=0))


@pytest.mark.parametrize("good", [BY_MD5, BY_CRC, *WHOLE, Fingerprint(size=0, part_size=10, parts_md5=MD5S[:1])])
def test_a_fingerprint_of_one_kind_is_taken(good: Fingerprint) -> None:
    good.check()


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (Fingerprint(size=25), InvalidField),
        (replace(BY_MD5, md5=MD5S[0]), InvalidField),
        (replace(BY_MD5, parts_crc64=(1, 2, 3)), InvalidField),
        (replace(BY_MD5, part_size=None), InvalidField),
        (replace(WHOLE[0], part_size=10), InvalidField),
        (replace(BY_MD5, part_size=0), InvalidSize),
        (replace(BY_MD5, parts_md5=MD5S[:2]), InvalidSize),
        (replace(BY_CRC, size=31), InvalidSize),
        (replace(BY_CRC, parts_crc64=()), InvalidSize),
    ],
)
def test_one_that_contradicts_itself_is_refused(bad: Fingerprint, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        bad.check()


def test_contents_are_told_apart_by_everything_that_makes_the_object() -> None:
    told = [
        BY_MD5.content_of(AT, {}),
        BY_MD5.content_of(replace(AT, key="other"), {}),
        BY_MD5.content_of(ObjectAddress(Bucket("b-1", "r"), "k"), {}),
        BY_MD5.content_of(AT, {"content-type": "text/plain"}),
        replace(BY_MD5, size=26).content_of(AT, {}),
        replace(BY_MD5, part_size=11).content_of(AT, {}),
        replace(BY_MD5, parts_md5=MD5S[::-1]).content_of(AT, {}),
        BY_CRC.content_of(AT, {}),
        *(one.content_of(AT, {}) for one in WHOLE),
    ]

    assert len(set(told)) == len(told)
    assert BY_MD5.content_of(AT, {"b": "2", "a": "1"}) == BY_MD5.content_of(AT, {"a": "1", "b": "2"})


def _part(number: int, size: int = 10, etag: str = '""', crc64: int | None = None) -> StoredPart:
    return StoredPart(number, size, ETag(etag), crc64)


def test_a_part_is_the_file_s_by_its_length_and_md5() -> None:
    assert BY_MD5.holds(_part(2, etag=f'"{MD5S[1].upper()}"'))
    assert BY_MD5.holds(_part(3, 5, f'"{MD5S[2]}"'))
    assert not BY_MD5.holds(_part(3, 10, f'"{MD5S[2]}"'))
    assert not BY_MD5.holds(_part(2, etag=f'"{MD5S[0]}"'))
    assert not BY_MD5.holds(_part(4, etag=f'"{MD5S[0]}"'))


def test_a_part_is_the_file_s_by_its_crc_where_that_is_known() -> None:
    assert BY_CRC.holds(_part(1, crc64=1))
    assert BY_CRC.holds(_part(1))
    assert not BY_CRC.holds(_part(1, crc64=2))
    assert not BY_CRC.holds(_part(1, 9, crc64=1))


def test_a_digest_of_the_whole_says_nothing_of_parts() -> None:
    assert all(one.holds(_part(7)) for one in WHOLE)

"""Which options headers take, and what allows them."""

import pytest

from gateway.domain.options import Option, is_among, is_pattern, is_saved, options_in


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        ({}, []),
        ({"content-type": "text/html", "cache-control": "no-cache", "x-cos-meta-a": "b"}, []),
        ({"x-cos-acl": "private", "x-cos-storage-class": "STANDARD"}, []),
        ({"x-cos-acl": "public-read"}, [Option.ACL]),
        ({"x-cos-server-side-encryption": "AES256"}, []),
        ({"x-cos-server-side-encryption": "cos/kms"}, [Option.KMS]),
        ({"x-cos-server-side-encryption-cos-kms-key-id": "k"}, [Option.KMS]),
        ({"content-disposition": "inline"}, [Option.INLINE]),
        ({"content-disposition": "Attachment ; filename=a"}, []),
        ({"content-disposition": "attachments"}, [Option.INLINE]),
        ({"x-cos-grant-read": 'id="1"', "x-cos-tagging": "a=b"}, [Option.GRANT_READ, Option.TAGGING]),
    ],
)
def test_s9_headers_take_options(headers: dict[str, str], options: list[Option]) -> None:
    assert list(options_in(headers)) == options


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        (None, set(Option)),
        ((), set()),
        (("*",), set(Option)),
        (("acl", "nonsense"), {Option.ACL}),
        (("grant_*",), {option for option in Option if option.value.startswith("grant_")}),
        (("ACL",), set()),
    ],
)
def test_s9_patterns_allow_options(patterns: tuple[str, ...] | None, allowed: set[Option]) -> None:
    assert {option for option in Option if is_among(option, patterns)} == allowed


def test_s9_a_pattern_that_allows_nothing_is_a_slip() -> None:
    assert all(map(is_pattern, ("acl", "grant_*", "*")))
    assert not any(map(is_pattern, ("alc", "grant", "")))


def test_only_attachment_is_saved() -> None:
    assert all(map(is_saved, ("attachment", " ATTACHMENT;filename=a")))
    assert not any(map(is_saved, ("", "inline", "attachment, inline", '"attachment"', "filename=attachment")))

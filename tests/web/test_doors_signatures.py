"""What a signature at the COS door has to cover: finding S14."""

import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import pytest

from gateway.cos.signing import Credentials, authorization, encode_query, presigned_query
from tests.fakes.local_cos import BUCKET, RunningCos
from tests.web.doors import Doors, cos_form, doors_of
from tests.web.rest import Rest

KEY: Final = "rest/shared.txt"
PICTURES: Final = '{"rules": [{"fileid": "small.txt", "rule": "imageSlim"}]}'
TURNED: Final[tuple[Mapping[str, str], ...]] = (
    {"x-cos-acl": "public-read"},
    {"x-cos-meta-by": "mallory"},
    {"x-cos-storage-class": "DEEP_ARCHIVE"},
    {"x-cos-grant-read": 'id="1"'},
    {"x-cos-tagging": "a=b"},
    {"x-cos-traffic-limit": "819200"},
    {"pic-operations": PICTURES},
    {"content-disposition": "inline"},
    {"content-encoding": "gzip"},
    {"expires": "Thu, 01 Dec 2033 16:00:00 GMT"},
)


async def presigned(
    doors: Doors,
    method: str,
    query: Mapping[str, str],
    signed: Mapping[str, str],
    sent: Mapping[str, str],
    more: str = "",
) -> tuple[int, str]:
    """The answer to a presigned URL that signs *query* and *signed*, used with *sent* headers and *more* parameters."""
    keys = doors.key
    credentials = Credentials(keys["tmp_secret_id"], keys["tmp_secret_key"], keys["session_token"])
    now = int(time.time())
    given = presigned_query(
        credentials, method, f"/{KEY}", query, {"host": "127.0.0.1", **signed}, start=now - 60, end=now + 600
    )
    url = f"http://127.0.0.1/{quote(KEY)}?{encode_query(given)}{more}"
    answer = await doors.cos.request(method, url, content=b"hello", headers={"host": "127.0.0.1", **signed, **sent})
    return answer.status_code, answer.text


async def test_s14_a_url_for_one_file_takes_no_header_that_it_does_not_sign(rest: Rest, cos: RunningCos) -> None:
    async with doors_of(rest) as alice:
        before = len(cos.journal())
        for turned in TURNED:
            status, text = await presigned(alice, "PUT", {}, {}, turned)
            assert (status, "<Code>AccessDenied</Code>" in text) == (403, True), turned
            answer = await alice.signed("PUT", KEY, body=b"hello", unsigned=turned)
            assert answer.status_code == 403, turned
        assert cos.journal()[before:] == []
        for turned in TURNED:
            assert (await presigned(alice, "PUT", {}, turned, {}))[0] == 200, turned


async def test_s14_what_sdks_do_not_sign_they_need_not(rest: Rest, cos: RunningCos) -> None:
    """Those for browsers leave Content-Type and Cache-Control out; all add the token and the mark of a repetition."""
    free = {"content-type": "text/css", "cache-control": "max-age=1", "x-cos-sdk-retry": "true", "user-agent": "x"}
    async with doors_of(rest) as alice:
        assert (await presigned(alice, "PUT", {}, {}, free))[0] == 200
        signature = authorization(
            Credentials(alice.key["tmp_secret_id"], alice.key["tmp_secret_key"]),
            *("PUT", f"/{KEY}", {}, {"host": "127.0.0.1"}),
            start=int(time.time()) - 60,
            end=int(time.time()) + 600,
        )
        sent = {"host": "127.0.0.1", "authorization": signature, "x-cos-security-token": alice.key["session_token"]}
        answer = await alice.cos.put(f"http://127.0.0.1/{KEY}", content=b"hello", headers={**sent, **free})
        assert answer.status_code == 200

    assert cos.headers(BUCKET, KEY)["content-type"] == "text/css"


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("POST", "&append=&position=0"),
        ("POST", "&uploads="),
        ("POST", "&uploadId=x"),
        ("PUT", "&partNumber=1&uploadId=x"),
        ("PUT", "&x-cos-traffic-limit=819200"),
        ("GET", "&uploadId=x"),
        ("DELETE", "&uploadId=x"),
    ],
)
async def test_s14_a_url_does_not_become_another_operation(rest: Rest, cos: RunningCos, method: str, more: str) -> None:
    async with doors_of(rest) as alice:
        before = len(cos.journal())
        status, text = await presigned(alice, method, {}, {}, {}, more)

        assert (status, "<Code>AccessDenied</Code>" in text) == (403, True)
        assert cos.journal()[before:] == []


async def test_s14_a_form_takes_no_field_or_header_of_which_its_policy_does_not_speak(rest: Rest) -> None:
    async with doors_of(rest) as alice:
        assert (await cos_form(alice, "rest/form", {"x-cos-acl": "public-read"}, b"hello")).status_code == 204
        for name in ("acl", "x-cos-storage-class", "x-cos-tagging", "pic-operations"):
            value = {"acl": "public-read", "pic-operations": PICTURES}.get(name, "STANDARD_IA")
            answer = await cos_form(alice, "rest/form", {}, b"hello", beside={name: value})
            assert (answer.status_code, "AccessDenied" in answer.text) == (403, True), name
        free = {"x-cos-meta-a": "b", "content-type": "text/css", "submit": "Send"}
        assert (await cos_form(alice, "rest/form", {}, b"hello", beside=free)).status_code == 204
        header = await cos_form(alice, "rest/form", {}, b"hello", headers={"x-cos-acl": "public-read"})
        assert (header.status_code, "InvalidArgument" in header.text) == (400, True)

"""What a caller may do with an object beyond describing it, at every door that writes one: finding S9."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import pytest

from gateway.config_values import BucketOptionsSetting
from gateway.domain.options import Option
from tests.fakes.local_cos import BUCKET, RunningCos
from tests.web.doors import APPENDS, DOORS, doors_of, outcome
from tests.web.rest import Rest, running_rest

GRANT: Final = 'id="100000000042"'
PICTURES: Final = json.dumps({"rules": [{"fileid": "small.png", "rule": "imageSlim"}]})
KMS: Final = "x-cos-server-side-encryption"
SAID: Final[Mapping[Option, tuple[Mapping[str, str], ...]]] = {
    Option.ACL: ({"x-cos-acl": "public-read"}, {"x-cos-acl": "bucket-owner-full-control"}),
    Option.GRANT_READ: ({"x-cos-grant-read": GRANT},),
    Option.GRANT_READ_ACP: ({"x-cos-grant-read-acp": GRANT},),
    Option.GRANT_WRITE_ACP: ({"x-cos-grant-write-acp": GRANT},),
    Option.GRANT_FULL_CONTROL: ({"x-cos-grant-full-control": GRANT},),
    Option.STORAGE_CLASS: ({"x-cos-storage-class": "DEEP_ARCHIVE"}, {"x-cos-storage-class": "STANDARD_IA"}),
    Option.TAGGING: ({"x-cos-tagging": "team=finance"},),
    Option.KMS: ({KMS: "cos/kms"}, {KMS: "cos/kms", f"{KMS}-cos-kms-key-id": "attackers-key"}),
    Option.INLINE: ({"content-disposition": "inline"}, {"content-disposition": "inline; filename=a"}),
    Option.PIC_OPERATIONS: ({"pic-operations": PICTURES},),
}
HARMLESS: Final[Mapping[str, str]] = {
    "x-cos-acl": "private",
    "x-cos-storage-class": "STANDARD",
    KMS: "AES256",
    "content-disposition": "attachment; filename=a",
    "cache-control": "max-age=60",
    "x-cos-meta-a": "b",
}
_ONLY_HEADERS: Final = {"x-cos-tagging", "pic-operations", *(name for said in SAID[Option.KMS] for name in said)}


def takes(door: str, said: Mapping[str, str]) -> bool:
    """Whether *door* has a way to say it at all: a form has no field for what has no option of its own."""
    if door == "form_file":
        return not said.keys() & _ONLY_HEADERS
    return door not in APPENDS or "pic-operations" not in said


CASES: Final = [(option, said) for option, rows in SAID.items() for said in rows]


@pytest.fixture
async def strict(redis_url: str, cos: RunningCos) -> AsyncIterator[Rest]:
    """A gateway whose operator has said nothing of its buckets."""
    async with running_rest(redis_url, cos, bucket_options=()) as rest:
        yield rest


def test_s9_every_option_but_overwriting_has_a_row() -> None:
    assert SAID.keys() | {Option.OVERWRITE} == set(Option)


@pytest.mark.parametrize("door", DOORS)
async def test_s9_nothing_is_allowed_in_a_bucket_of_which_nothing_is_said(
    strict: Rest, cos: RunningCos, door: str
) -> None:
    before = len(cos.journal())
    async with doors_of(strict, "mallory", options=["*"]) as mallory:
        for n, (option, said) in enumerate(case for case in CASES if takes(door, case[1])):
            refused = await outcome(mallory, door, f"rest/strict/{door}{n}", said)
            assert (refused.status, refused.code) in (
                (403, "AccessDenied"),
                (403, "option_not_allowed"),
                (400, "option_not_allowed"),
            )
            assert option.value in refused.answer.text
        assert cos.journal()[before:] == []
        harmless = {name: value for name, value in HARMLESS.items() if takes(door, {name: value})}
        assert (await outcome(mallory, door, f"rest/strict/{door}", harmless)).is_good


@pytest.mark.parametrize("door", DOORS)
async def test_s9_the_claim_bounds_what_the_bucket_allows(rest: Rest, cos: RunningCos, door: str) -> None:
    refusals = ((403, "AccessDenied"), (403, "option_not_allowed"), (400, "option_not_allowed"))
    cases = [(option, rows[0]) for option, rows in SAID.items() if takes(door, rows[0])]
    async with doors_of(rest, "bob") as free, doors_of(rest, "bob", options=["overwrite"]) as bare:
        for option, said in cases:
            key = f"rest/claim/{door}/{option}/"
            assert (await outcome(free, door, key + "free", said)).is_good, said
            refused = await outcome(bare, door, key + "bare", said)
            assert (refused.status, refused.code) in refusals, said
            pattern = option.value.replace("read", "*")
            async with doors_of(rest, "bob", options=[pattern, "overwrite"]) as named:
                assert (await outcome(named, door, key + "named", said)).is_good, said


async def test_s9_the_bucket_s_line_allows_what_it_lists(redis_url: str, cos: RunningCos) -> None:
    line = (BucketOptionsSetting("files", ("storage_class", "grant_*")),)
    async with running_rest(redis_url, cos, bucket_options=line) as rest, doors_of(rest) as alice:
        for option, said in CASES:
            allowed = option is Option.STORAGE_CLASS or option.value.startswith("grant_")
            stored = await outcome(
                alice, "put_object", f"rest/line/{option}{len(said)}{sorted(said.values())[0][:4]}", said
            )
            assert stored.is_good == allowed, (option, stored)
        again = await outcome(alice, "put_object", "rest/line/storage_class1DEEP", {})
        assert (again.status, again.code) == (409, "object_exists")


ASKED: Final[Mapping[str, tuple[dict[str, Any], Mapping[str, str]]]] = {
    "the claim": ({"forbid_overwrite": True}, {}),
    "a claim that lists other options": ({"options": ["acl"]}, {}),
    "the caller": ({}, {"x-cos-forbid-overwrite": "true"}),
}


@pytest.mark.parametrize("demanded", [*ASKED, "the bucket"])
@pytest.mark.parametrize("door", sorted(DOORS.keys() - APPENDS))
async def test_s9_a_forbidden_overwrite_goes_to_cos_with_every_call_that_could(
    rest: Rest, strict: Rest, cos: RunningCos, door: str, demanded: str
) -> None:
    claims, said = ASKED.get(demanded, ({}, {}))
    gateway = strict if demanded == "the bucket" else rest
    key = f"rest/once/{door}/{demanded}"
    async with doors_of(rest, "alice") as free, doors_of(gateway, "bob", **claims) as bound:
        first = await outcome(bound, door, key, said)
        assert first.is_good, first.answer.text
        refused = await outcome(bound, door, key, said, b"other")
        assert (refused.status, refused.code) in (
            *((409, "object_exists"), (409, "FileAlreadyExists"), (400, "object_exists")),
        )
        assert cos.read(BUCKET, key) == b"hello"
        sent = [entry for entry in cos.journal(key=key) if entry["operation"] not in ("UploadPart", "HeadObject")]
        assert {entry["headers"].get("x-cos-forbid-overwrite") for entry in sent} == {"true"}
        assert (await outcome(free, door, key, {}, b"other")).is_good
        assert cos.read(BUCKET, key) == b"other"


async def test_s9_complete_alone_may_forbid_and_an_object_made_meanwhile_stays(rest: Rest, cos: RunningCos) -> None:
    key = "rest/once/late"
    async with doors_of(rest, "alice") as free, doors_of(rest, "alice", forbid_overwrite=True) as bound:
        for doors, said in ((free, {"x-cos-forbid-overwrite": "true"}), (bound, {})):
            made = await free.signed("POST", key, {"uploads": ""})
            upload_id = made.text.split("<UploadId>")[1].split("<")[0]
            part = await free.signed("PUT", key, {"partNumber": "1", "uploadId": upload_id}, body=b"hello")
            assert (await free.signed("PUT", key, body=b"meanwhile")).status_code == 200
            rows = f"<Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
            body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()

            late = await doors.signed("POST", key, {"uploadId": upload_id}, said, body)

            assert (late.status_code, "FileAlreadyExists" in late.text) == (409, True)
            assert cos.read(BUCKET, key) == b"meanwhile"


@pytest.mark.parametrize("door", sorted(APPENDS))
async def test_s9_an_append_replaces_nothing_and_says_so(rest: Rest, door: str) -> None:
    async with doors_of(rest, "alice") as alice:
        refused = await outcome(alice, door, "rest/append", {"x-cos-forbid-overwrite": "true"})
        assert (refused.status, refused.code) in ((400, "invalid_field"), (400, "InvalidArgument"))

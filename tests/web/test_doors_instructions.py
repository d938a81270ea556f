"""Headers that carry an address or an instruction, at every door that writes an object: finding S1."""

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from gateway.domain.object_headers import KNOWN_HEADERS, NEVER_PASSED_ON
from tests.fakes.local_cos import BUCKET, OTHER_BUCKET, RunningCos
from tests.web.doors import APPENDS, COS_DOORS, DOORS, REST_DOORS, doors_of, outcome
from tests.web.rest import Rest

PREFIX: Final = "rest/mallory/"
RULE: Final = "imageMogr2/format/png"


def operations(fileid: str, rule: str = RULE, **more: Any) -> str:
    return json.dumps({"rules": [{"fileid": fileid, "rule": rule, **more}]})


ESCAPES: Final[Mapping[str, str]] = {
    "another bucket": operations("a.png", bucket=OTHER_BUCKET.name),
    "its own bucket": operations("a.png", bucket=BUCKET.name),
    "an absolute key": operations("/rest/alice/avatar.png"),
    "beyond the destination": operations("/elsewhere/a.png"),
    "a parent": operations("../alice/avatar.png"),
    "a hidden parent": operations("..%2falice%2favatar.png"),
    "a watermark that is read": operations("a.png", rule="watermark/1/image/aHR0cDovL2V4YW1wbGU"),
    "a watermark behind a step": operations("a.png", rule=f"{RULE}|watermark/3/type/1/image/aHR0cDov"),
    "what is no JSON": "{",
    "a member nobody knows": json.dumps({"rules": [{"fileid": "a.png", "rule": RULE}], "callback": "http://evil"}),
    "a rule too many": json.dumps({"rules": [{"fileid": f"{n}.png", "rule": RULE} for n in range(6)]}),
    "the picture itself": operations("picture.png"),
}


@pytest.mark.parametrize("door", DOORS)
async def test_s1_pic_operations_that_lead_elsewhere_are_refused_and_never_reach_cos(
    rest: Rest, cos: RunningCos, door: str
) -> None:
    async with doors_of(rest, "mallory", prefix=PREFIX) as mallory:
        for what, given in ESCAPES.items():
            refused = await outcome(mallory, door, f"{PREFIX}picture.png", {"pic-operations": given})
            assert refused.status in (400, 403), (what, refused)

    assert not [entry for entry in cos.journal() if "pic-operations" in entry["headers"]]


@pytest.mark.parametrize("door", sorted(DOORS.keys() - APPENDS - {"form_file"}))
async def test_s1_confined_pic_operations_are_carried_out_and_told_of(rest: Rest, cos: RunningCos, door: str) -> None:
    said = {"pic-operations": operations(f"{door}.small.png"), "content-type": "image/png"}
    async with doors_of(rest, "mallory", prefix=PREFIX) as mallory:
        stored = await outcome(mallory, door, f"{PREFIX}{door}.png", said)

    assert stored.is_good, stored.answer.text
    assert cos.read(BUCKET, f"{PREFIX}{door}.small.png") == b"hello"
    sent = [e["headers"]["pic-operations"] for e in cos.journal() if "pic-operations" in e["headers"]]
    assert json.loads(sent[-1])["rules"] == [{"fileid": f"/{PREFIX}{door}.small.png", "rule": RULE}]
    if door in REST_DOORS:
        (result,) = stored.answer.json()["result"]["upload_result"]["results"]
        assert result["key"] == f"{PREFIX}{door}.small.png"
    elif door != "cos_form":  # whose answer has no place for it
        assert f"<Key>{PREFIX}{door}.small.png</Key>" in stored.answer.text


async def test_s1_what_complete_alone_says_is_confined_and_carried_out(rest: Rest, cos: RunningCos) -> None:
    """Tencent's SDKs name the rules again at Complete, the one for Python only there."""
    key = f"{PREFIX}late.png"
    async with doors_of(rest, "mallory", prefix=PREFIX) as mallory:
        made = await mallory.signed("POST", key, {"uploads": ""}, {"x-cos-meta-a": "b"})
        upload_id = made.text.split("<UploadId>")[1].split("<")[0]
        part = await mallory.signed("PUT", key, {"partNumber": "1", "uploadId": upload_id}, body=b"hello")
        rows = f"<Part><PartNumber>1</PartNumber><ETag>{part.headers['etag']}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()

        async def complete(said: Mapping[str, str]) -> int:
            return (await mallory.signed("POST", key, {"uploadId": upload_id}, said, body)).status_code

        assert await complete({"pic-operations": operations("/rest/alice/a.png")}) == 403
        assert await complete({"x-cos-meta-a": "other"}) == 400
        assert await complete({"x-cos-acl": "public-read"}) == 400
        assert await complete({"x-cos-meta-a": "b", "pic-operations": operations("late.small.png")}) == 200

    assert cos.read(BUCKET, f"{PREFIX}late.small.png") == b"hello"


@pytest.mark.parametrize("door", DOORS)
async def test_s1_what_carries_an_address_is_refused_by_name_at_every_door(
    rest: Rest, cos: RunningCos, door: str
) -> None:
    before = len(cos.journal())
    async with doors_of(rest, "mallory", prefix=PREFIX) as mallory:
        for name in [*sorted(NEVER_PASSED_ON), "x-cos-something-new", "x-ci-something"]:
            refused = await outcome(mallory, door, f"{PREFIX}refused", {name: "http://evil.example/"})

            assert refused.status in (400, 501), (name, refused)
            assert refused.code in ("invalid_field", "unknown_field", "InvalidArgument", "NotImplemented")
            if name in NEVER_PASSED_ON and door != "form_file":
                assert name in refused.answer.text.lower() or refused.code == "NotImplemented"
            assert "evil" not in refused.answer.text

    assert cos.journal()[before:] == []


@pytest.mark.parametrize("name", ["x-cos-acl", "x-cos-callback", "pic-operations", "x-cos-forbid-overwrite"])
async def test_s1_calls_that_describe_no_object_refuse_what_describes_one(rest: Rest, name: str) -> None:
    async with doors_of(rest, "mallory", prefix=PREFIX) as mallory:
        task = f"/v1/tasks/{(await mallory.rest.post('/v1/tasks', json={'key': PREFIX + 'k', 'size': 5})).json()['id']}"
        said = {name: "true"}
        answers = [
            await mallory.rest.post("/v1/tasks", json={"key": PREFIX + "k"}, headers=said),
            await mallory.rest.post("/v1/batches", json={"files": [{"key": PREFIX + "k"}]}, headers=said),
            await mallory.rest.put(f"{task}/content", content=b"hello", headers=said),
            await mallory.rest.put(f"{task}/parts/1", content=b"hello", headers=said),
            await mallory.rest.post(f"{task}/complete", headers=said),
        ]

        assert [(a.status_code, a.json()["code"]) for a in answers] == [(400, "invalid_field")] * len(answers)
        for method, query in (("HEAD", None), ("GET", {"uploadId": "x"}), ("DELETE", {"uploadId": "x"})):
            assert (await mallory.signed(method, PREFIX + "k", query, said)).status_code in (400, 501)


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("PUT", {"image_process": ""}),
        ("PUT", {"x-cos-acl": "public-read"}),
        ("HEAD", {"ci-process": "x"}),
        ("POST", {"uploads": "", "append": ""}),
        ("GET", {"uploadId": "x", "response-content-type": "text/html"}),
    ],
)
async def test_s1_parameters_that_an_operation_does_not_take_are_refused(
    rest: Rest, cos: RunningCos, method: str, query: Mapping[str, str]
) -> None:
    async with doors_of(rest, "mallory", prefix=PREFIX) as mallory:
        before = len(cos.journal())
        answer = await mallory.signed(method, f"{PREFIX}parameters", query, body=b"")
        assert answer.status_code == 400, answer.text
        assert cos.journal()[before:] == []


WHAT_COS_DOES: Final[Mapping[str, str]] = {
    "content-type": "kept, told by HEAD",
    "cache-control": "kept, told by HEAD",
    "content-disposition": "kept, told by HEAD; decides whether browsers show or save",
    "content-encoding": "kept, told by HEAD",
    "content-language": "kept, told by HEAD",
    "expires": "kept, told by HEAD",
    "x-cos-storage-class": "decides what storing costs, and how soon it can be read",
    "x-cos-acl": "decides who may read it",
    "x-cos-grant-read": "lets an account read it",
    "x-cos-grant-read-acp": "lets an account read its ACL",
    "x-cos-grant-write-acp": "lets an account write its ACL",
    "x-cos-grant-full-control": "lets an account do all of it",
    "x-cos-server-side-encryption": "encrypts it with COS's key, or one of KMS",
    "x-cos-server-side-encryption-context": "goes with the KMS key into the encryption",
    "x-cos-server-side-encryption-cos-kms-key-id": "names the KMS key, of the bucket's own account",
    "x-cos-tagging": "kept; policies and lifecycle rules may go by it",
    "x-cos-mime-limit": "compared with the content type: refuses, keeps nothing",
    "x-cos-traffic-limit": "slows the request down, keeps nothing",
    "x-cos-forbid-overwrite": "refuses where an object stands, keeps nothing",
    "pic-operations": "makes objects of a picture: parsed, confined and written anew by domain/picture_operations.py",
}
"""Each header that may go to COS with an object. An address or an instruction among them needs its own confinement."""


def test_s1_every_header_that_may_pass_is_known_for_what_cos_does_with_it() -> None:
    assert WHAT_COS_DOES.keys() == KNOWN_HEADERS
    assert not KNOWN_HEADERS & NEVER_PASSED_ON
    assert COS_DOORS.keys() | REST_DOORS.keys() == DOORS.keys()

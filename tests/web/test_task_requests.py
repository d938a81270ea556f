from typing import Any

import pytest

from gateway.domain.errors import BadDigest, GatewayError, InvalidField, InvalidMetadata, InvalidSize, UnknownField
from gateway.domain.objects import ETag
from gateway.transfer.completion_plan import ClaimedPart, CompleteWanted
from gateway.web.json_bodies import parse
from gateway.web.task_requests import CompleteTask, CreateTask, typed_fields

MIB = 1 << 20


def create(**told: Any) -> Any:
    return parse(CreateTask, {"key": "a", **told}).new_task(slice_size=MIB, part_size=4 * MIB)


def test_what_is_left_out_is_the_gateway_s_choice() -> None:
    new = create()

    assert (new.key, new.bucket, new.region, new.size) == ("a", None, None, None)
    assert (new.slice_size, new.part_size, new.async_limit) == (MIB, 4 * MIB, 3)
    assert (new.forbid_overwrite, dict(new.part_headers)) == (False, {})


def test_every_option_arrives_where_cos_looks_for_it() -> None:
    new = create(
        bucket="files",
        region="ap-guangzhou",
        size=5,
        part_size=2 * MIB,
        slice_size=3 * MIB,
        async_limit=7,
        client_ref="row 7",
        forbid_overwrite=True,
        traffic_limit=819_200,
        content_type="image/png",
        cache_control="no-cache",
        content_disposition="inline",
        content_encoding="gzip",
        content_language="zh",
        expires="Thu, 01 Dec 2033 16:00:00 GMT",
        storage_class="STANDARD_IA",
        acl="private",
        grant_read='id="1"',
        meta={"a-b": "文".encode().hex()},
    )
    headers = {name.lower(): value for name, value in new.object_headers.items()}

    assert (new.bucket, new.region, new.size, new.part_size, new.slice_size, new.async_limit) == (
        *("files", "ap-guangzhou", 5),
        *(2 * MIB, 3 * MIB, 7),
    )
    assert (new.client_ref, new.forbid_overwrite, new.content_type) == ("row 7", True, "image/png")
    assert headers == {
        "content-type": "image/png",
        "cache-control": "no-cache",
        "content-disposition": "inline",
        "content-encoding": "gzip",
        "content-language": "zh",
        "expires": "Thu, 01 Dec 2033 16:00:00 GMT",
        "x-cos-storage-class": "STANDARD_IA",
        "x-cos-acl": "private",
        "x-cos-grant-read": 'id="1"',
        "x-cos-meta-a-b": "e69687",
    }
    assert {name.lower(): value for name, value in new.part_headers.items()} == {"x-cos-traffic-limit": "819200"}


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"slice_size": MIB - 1}, InvalidSize),
        ({"size": "5"}, InvalidField),
        ({"size": 5.0}, InvalidField),
        ({"size": True}, InvalidField),
        ({"async_limit": 0}, InvalidField),
        ({"client_ref": "\x7f"}, InvalidField),
        ({"client_ref": "a\n"}, InvalidField),
        ({"forbid_overwrite": 1}, InvalidField),
        ({"key": None}, InvalidField),
        ({"meta": {"a": 1}}, InvalidField),
        ({"meta": {str(n): "x" for n in range(21)}}, InvalidField),
        ({"meta": {"a": "x\r\ny"}}, InvalidMetadata),
        ({"owner": "me"}, UnknownField),
    ],
)
def test_what_is_of_another_type_or_unknown_is_refused(told: dict[str, Any], error: type[GatewayError]) -> None:
    with pytest.raises(error):
        create(**told)


def test_a_task_without_a_key_is_refused() -> None:
    with pytest.raises(InvalidField, match="key"):
        parse(CreateTask, {})


def complete(**told: Any) -> CompleteWanted:
    return parse(CompleteTask, told).wanted()


def test_an_empty_completion_means_every_stored_part() -> None:
    assert complete() == complete(parts=None) == complete(parts=[]) == CompleteWanted(None, (), None)


def test_a_completion_may_claim_what_it_knows() -> None:
    wanted = complete(
        size=5, crc64="18446744073709551615", parts=[{"number": 2}, {"number": 1, "etag": "e", "crc64": "7"}]
    )

    assert wanted == CompleteWanted(5, (ClaimedPart(2, None, None), ClaimedPart(1, ETag("e"), 7)), 2**64 - 1)


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"size": -1}, InvalidField),
        ({"crc64": 7}, InvalidField),
        ({"crc64": "-7"}, BadDigest),
        ({"parts": [{"number": 1, "crc64": "x"}]}, BadDigest),
        ({"parts": [{"number": 0}]}, InvalidField),
        ({"parts": [{"number": 10_001}]}, InvalidField),
        ({"parts": [{"number": 1}, {"number": 1}]}, InvalidField),
        ({"parts": [{}]}, InvalidField),
        ({"parts": [{"number": 1, "x": 1}]}, UnknownField),
        ({"parts": {}}, InvalidField),
        ({"etag": "e"}, UnknownField),
    ],
)
def test_claims_that_cannot_be_are_refused(told: dict[str, Any], error: type[GatewayError]) -> None:
    with pytest.raises(error):
        complete(**told)


def test_fields_of_a_form_become_what_json_would_have_said() -> None:
    fields = {"key": "1", "size": "5", "forbid_overwrite": "false", "meta-a": "x", "meta-b-c": "y"}

    assert typed_fields(fields) == {
        "key": "1",
        "size": 5,
        "forbid_overwrite": False,
        "meta": {"a": "x", "b-c": "y"},
    }
    assert typed_fields({}) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", "-1"),
        ("size", "1e3"),
        ("size", "１"),
        ("size", ""),
        ("size", "²"),
        ("size", "1" * 17),
        ("meta", "{}"),
        ("headers", "{}"),
    ],
)
def test_fields_that_are_no_numbers_or_have_another_form_are_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidField):
        typed_fields({name: value})


def test_a_flag_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(InvalidField):
        create(**typed_fields({"forbid_overwrite": "yes"}))


def test_an_md5_that_is_known_is_metadata_from_the_start() -> None:
    md5 = "900150983cd24fb0d6963f7d28e17f72"

    assert create(upload_add_meta_md5=True, md5=md5, meta={"a": "b"}).object_headers == {
        "x-cos-meta-a": "b",
        "x-cos-meta-md5": md5,
    }
    fingerprint = {"size": 3, "md5": md5}
    assert create(upload_add_meta_md5=True, fingerprint=fingerprint).object_headers == {"x-cos-meta-md5": md5}
    assert "x-cos-meta-md5" not in create(upload_add_meta_md5=False).object_headers


@pytest.mark.parametrize("told", [{"md5": "0" * 32}, {"md5": "A" * 32, "upload_add_meta_md5": True}])
def test_an_md5_without_its_meaning_or_shape_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        create(**told)


def test_an_md5_needs_its_room_among_the_metadata() -> None:
    with pytest.raises(InvalidMetadata):
        create(upload_add_meta_md5=True, meta={"a": "x" * 2030})


def test_the_query_takes_what_cos_takes_there() -> None:
    assert create(query={"x-cos-traffic-limit": "819200"}).part_headers == {"x-cos-traffic-limit": "819200"}


@pytest.mark.parametrize(
    "told",
    [
        {"query": {"acl": ""}},
        {"query": {"x-cos-traffic-limit": "1"}},
        {"query": {"x-cos-traffic-limit": "many"}},
        {"query": {"x-cos-traffic-limit": "819200"}, "traffic_limit": 819_200},
        {"query": {"x-cos-traffic-limit": "819200", "uploadId": "1"}},
    ],
)
def test_a_query_that_cos_would_not_take_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        create(**told)

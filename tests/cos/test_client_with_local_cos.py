"""The client against the strict local COS: every operation, end to end, over real sockets."""

import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.cos.client import CosClient
from gateway.cos.credentials import FixedCredentials
from gateway.cos.signing import Credentials
from gateway.domain import errors
from gateway.domain.checksums import combine_all, crc64
from gateway.domain.objects import ETag, ObjectAddress, UploadId
from tests.cos.bodies import Once, Replayable
from tests.fakes.local_cos import BUCKET, KEY, RunningCos, running_local_cos

MIB = 1024 * 1024
KEYS = ["plain.bin", "目录/中文 a+b(1).zip", "f'o*o!~&=?#%2F%27.bin", "a//b", "x/ y ;,:@$/é😀"]


@pytest.fixture(scope="module")
def cos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCos]:
    with running_local_cos(tmp_path_factory.mktemp("cos")) as running:
        yield running


@pytest.fixture
async def client(cos: RunningCos) -> AsyncIterator[CosClient]:
    client = CosClient(FixedCredentials(KEY), endpoint=cos.url)
    yield client
    await client.aclose()


@pytest.mark.parametrize("key", KEYS)
async def test_an_object_under_any_legal_key_arrives_byte_for_byte(
    cos: RunningCos, client: CosClient, key: str
) -> None:
    data = random.Random(key).randbytes(300_000)
    at = ObjectAddress(BUCKET, key)

    stored = await client.put_object(
        at, Replayable(data, 65_536), {"content-type": "text/x-odd", "x-cos-meta-name": "a b", "cache-control": ""}
    )
    head = await client.head_object(at)

    assert cos.read(BUCKET, key) == data
    assert stored.crc64 == head.crc64 == crc64(data)
    assert stored.etag == head.etag
    assert head.size == len(data)
    assert (head.headers["content-type"], head.headers["x-cos-meta-name"]) == ("text/x-odd", "a b")


@pytest.mark.parametrize("key", KEYS)
async def test_a_multipart_upload_goes_its_whole_way(cos: RunningCos, client: CosClient, key: str) -> None:
    rng = random.Random(key)
    bodies = [rng.randbytes(MIB), rng.randbytes(MIB), rng.randbytes(77)]
    at = ObjectAddress(BUCKET, key)
    upload_id = await client.initiate(at, {"x-cos-meta-a": "1"})

    stored = [
        await client.upload_part(at, upload_id, number, Replayable(body, 100_000), {"x-cos-traffic-limit": "819200"})
        for number, body in enumerate(bodies, 1)
    ]
    listed = await client.list_uploads(BUCKET, prefix=key)
    first = await client.list_parts(at, upload_id, limit=2)
    second = await client.list_parts(at, upload_id, limit=2, marker=first.next_marker or 0)
    done = await client.complete(at, upload_id, [(part.number, part.etag) for part in stored], {})

    assert [(upload.key, upload.upload_id) for upload in listed.uploads] == [(key, upload_id)]
    assert first.next_marker == 2
    assert second.next_marker is None
    assert [(part.number, part.size, part.etag) for part in (*first.parts, *second.parts)] == [
        (part.number, part.size, part.etag) for part in stored
    ]
    assert cos.read(BUCKET, key) == b"".join(bodies)
    assert done.crc64 in (None, combine_all((crc64(body), len(body)) for body in bodies))
    with pytest.raises(errors.UploadLost):
        await client.abort(at, upload_id)


async def test_an_aborted_upload_is_gone(cos: RunningCos, client: CosClient) -> None:
    at = ObjectAddress(BUCKET, "aborted")
    upload_id = await client.initiate(at, {})
    await client.upload_part(at, upload_id, 1, Replayable(b"x"), {})

    await client.abort(at, upload_id)

    assert cos.open_uploads(BUCKET) == []
    for call in (
        client.list_parts(at, upload_id),
        client.upload_part(at, upload_id, 1, Replayable(b"x"), {}),
        client.complete(at, upload_id, [(1, ETag('"0"'))], {}),
    ):
        with pytest.raises(errors.UploadLost) as lost:
            await call
        assert lost.value.cos is not None
        assert (lost.value.cos.status, lost.value.cos.code) == (404, "NoSuchUpload")
        assert lost.value.cos.request_id


async def test_uploads_are_listed_page_by_page_and_by_folder(client: CosClient) -> None:
    keys = [f"list/{name} +%/f" for name in "abc"] + ["list/z"]
    ids = {key: await client.initiate(ObjectAddress(BUCKET, key), {}) for key in keys}

    found: dict[str, UploadId] = {}
    key_marker = upload_id_marker = ""
    while True:
        page = await client.list_uploads(
            BUCKET, prefix="list/", limit=1, key_marker=key_marker, upload_id_marker=upload_id_marker
        )
        found.update((upload.key, upload.upload_id) for upload in page.uploads)
        if page.next_key_marker is None:
            break
        key_marker, upload_id_marker = page.next_key_marker, page.next_upload_id_marker or ""
    folders = await client.list_uploads(BUCKET, prefix="list/", delimiter="/")

    assert found == ids
    assert folders.common_prefixes == tuple(f"list/{name} +%/" for name in "abc")
    assert [upload.key for upload in folders.uploads] == ["list/z"]
    for key, upload_id in ids.items():
        await client.abort(ObjectAddress(BUCKET, key), upload_id)


async def test_appends_follow_each_other_and_only_at_the_end(cos: RunningCos, client: CosClient) -> None:
    at = ObjectAddress(BUCKET, "log.txt")

    first = await client.append_object(at, 0, Replayable(b"hello "), {"content-type": "text/plain"})
    second = await client.append_object(at, first.next_position, Replayable(b"world"), {})

    assert (first.next_position, second.next_position) == (6, 11)
    assert cos.read(BUCKET, "log.txt") == b"hello world"
    with pytest.raises(errors.AppendPosition):
        await client.append_object(at, 3, Replayable(b"x"), {})
    await client.put_object(ObjectAddress(BUCKET, "normal"), Replayable(b"x"), {})
    with pytest.raises(errors.ObjectNotAppendable):
        await client.append_object(ObjectAddress(BUCKET, "normal"), 1, Replayable(b"x"), {})


async def test_cos_says_no_in_our_words(client: CosClient) -> None:
    at = ObjectAddress(BUCKET, "refused")
    with pytest.raises(errors.ObjectNotFound):
        await client.head_object(at)
    with pytest.raises(errors.DigestMismatch):
        await client.put_object(at, Replayable(b"x"), {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    await client.put_object(at, Replayable(b""), {})
    with pytest.raises(errors.ObjectExists):
        await client.put_object(at, Replayable(b"y"), {"x-cos-forbid-overwrite": "true"})
    upload_id = await client.initiate(at, {})
    parts = [await client.upload_part(at, upload_id, number, Replayable(b"small"), {}) for number in (1, 2)]
    with pytest.raises(errors.PartSizeMismatch):
        await client.complete(at, upload_id, [(part.number, part.etag) for part in parts], {})
    with pytest.raises(errors.PartsMissing):
        await client.complete(at, upload_id, [(1, ETag('"wrong"'))], {})
    await client.abort(at, upload_id)


async def test_a_wrong_secret_is_denied(cos: RunningCos) -> None:
    client = CosClient(FixedCredentials(Credentials(KEY.secret_id, "wrong")), endpoint=cos.url)
    with pytest.raises(errors.StorageDenied) as denied:
        await client.initiate(ObjectAddress(BUCKET, "k"), {})
    await client.aclose()

    assert denied.value.cos is not None
    assert denied.value.cos.code == "SignatureDoesNotMatch"


async def test_temporary_keys_and_a_clock_two_hours_off_work(tmp_path: Path) -> None:
    keys = Credentials("AKIDtemporary", "secret", "tok/en==", time.time() + 3600)
    with running_local_cos(tmp_path, keys=(keys,)) as cos:
        client = CosClient(FixedCredentials(keys), endpoint=cos.url, clock=lambda: time.time() - 7200)
        at = ObjectAddress(BUCKET, "k")
        with pytest.raises(errors.ObjectNotFound):
            await client.head_object(at)
        await client.put_object(at, Replayable(b"data"), {})

        assert cos.read(BUCKET, "k") == b"data"
        await client.aclose()


@pytest.mark.parametrize(
    ("action", "rule"),
    [
        ("reset", {"after_bytes": 1_000_000}),
        ("error", {}),
        ("early_error", {}),
        ("lost_answer", {}),
        ("flip", {"after_bytes": 1_000_000}),
        ("wrong_crc", {}),
        ("no_etag", {}),
        ("skewed_clock", {"seconds": 7200, "times": None}),
    ],
)
async def test_a_part_survives_what_goes_wrong_once(
    cos: RunningCos, client: CosClient, action: str, rule: dict[str, int | None]
) -> None:
    data = random.Random(action).randbytes(2 * MIB)
    at = ObjectAddress(BUCKET, f"faults/{action}")
    upload_id = await client.initiate(at, {})
    cos.fault(action, operation="UploadPart", key=at.key, **rule)

    part = await client.upload_part(at, upload_id, 1, Replayable(data), {})
    await client.complete(at, upload_id, [(1, part.etag)], {})
    cos.clear_faults()

    assert cos.read(BUCKET, at.key) == data
    assert len(cos.journal("UploadPart", key=at.key)) == 2


async def test_a_flipped_byte_of_a_body_that_comes_once_is_not_acknowledged(cos: RunningCos, client: CosClient) -> None:
    at = ObjectAddress(BUCKET, "faults/once")
    cos.fault("flip", operation="PutObject", key=at.key, after_bytes=5)

    with pytest.raises(errors.StorageIntegrity):
        await client.put_object(at, Once(bytes(1000)), {})

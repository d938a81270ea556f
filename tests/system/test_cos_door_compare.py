"""The same program at the gateway and straight at COS sees the same answers, call by call.

Told apart on purpose: ids and times, a multipart object's opaque ETag, the words of a message, and what
``test_cos_door_faults.py`` proves to be better.
"""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosServiceError

from tests.fakes.cos_caller import CallerAnswer
from tests.system.compared_answers import MERGED, VOLATILE, plain, shown_headers, without_place
from tests.system.cos_door import NODE, WX, Call, Door, Key
from tests.system.stack import MIB, Caller, body

BODY = body("cos door compare", 3 * MIB + 5)


def elements(answer: CallerAnswer) -> Any:
    """The answer's XML as names and texts, in order; of an error its code."""
    if not answer.body:
        return None
    if answer.xml.tag == "Error":
        return answer.code
    return [
        (element.tag, MERGED.sub(r"merged-\1", element.text or ""))
        for element in answer.xml.iter()
        if element.tag.rpartition("}")[2] not in VOLATILE
    ]


@pytest.fixture
def keys(door: Door, dora: Caller) -> tuple[Key, Key]:
    """The gateway's key, and COS's own."""
    return door.key(dora), door.straight()


def test_plain_requests_get_the_same_answers(keys: tuple[Key, Key]) -> None:
    programs = [Program(key.caller().call, f"compare-{n}") for n, key in enumerate(keys)]
    for program in programs:
        program.run()
    at_gateway, at_cos = (program.told for program in programs)

    assert len(at_gateway) == len(at_cos) == 59
    for number, pair in enumerate(zip(at_gateway, at_cos, strict=True)):
        assert (number, pair[0]) == (number, pair[1])


META = {
    "Content-Type": "video/mp4",
    "Cache-Control": "max-age=1",
    "Content-Disposition": "attachment",
    "x-cos-meta-a": "b c",
    "x-cos-storage-class": "STANDARD_IA",
    "x-cos-acl": "public-read",
    "x-cos-traffic-limit": "838860800",
    "Expires": "",
}
WRONG_MD5 = {"Content-MD5": base64.b64encode(b"0" * 16).decode()}


class Program:
    """Uses every operation below *folder*, rightly and wrongly; ``told`` is what it was told."""

    def __init__(self, call: Callable[..., CallerAnswer], folder: str) -> None:
        self.told: list[Any] = []
        self._call = call
        self._folder = folder

    def run(self) -> None:
        self._whole_objects()
        self._appends()
        self._upload()
        self._aborted_uploads()
        self._ask("PUT", "k" * 851, body=b"x")
        self._ask("PUT", "unsigned", body=b"x", signed=False)
        self._ask("PUT", "late", body=b"x", window=(-7200, -3600))

    def _ask(self, method: str, name: str, query: dict[str, str] | None = None, **options: Any) -> CallerAnswer:
        answer = self._call(method, f"{self._folder}/{name}" if name else "", query, **options)
        found = (method, name, answer.status, shown_headers(dict(answer.header_list)), elements(answer))
        self.told.append(repr(found).replace(self._folder, "FOLDER"))
        return answer

    def _whole_objects(self) -> None:
        for name, data, headers in (
            ("small 中 (1)", b"text", META),
            ("large", BODY, {}),
            ("folder/", b"", {}),
            ("bad", b"x", WRONG_MD5),
            ("bad", b"x", {"x-cos-acl": "everybody"}),
            ("bad", b"x", {"x-cos-storage-class": "TAPE"}),
            ("bad", b"x", {"x-cos-traffic-limit": "1"}),
            ("large", b"x", {"x-cos-forbid-overwrite": "true"}),
        ):
            self._ask("PUT", name, body=data, headers=headers)
        for name in ("small 中 (1)", "large", "folder/", "none"):
            self._ask("HEAD", name)

    def _appends(self) -> None:
        for position, data in (("0", b"one"), ("3", b"two"), ("5", b"no"), ("x", b"no")):
            self._ask("POST", "log", {"append": "", "position": position}, body=data)
        self._ask("POST", "large", {"append": "", "position": str(len(BODY))}, body=b"no")
        self._ask("HEAD", "log")

    def _begun(self, name: str, **headers: str) -> dict[str, str]:
        return {"uploadId": self._ask("POST", name, {"uploads": ""}, headers=headers).text("UploadId") or ""}

    def _upload(self) -> None:
        name = "m/a b"
        upload = self._begun(name, **META)
        other = self._begun("m/another")
        etags = self._parts(name, upload)
        self._listings(name, upload)
        self._complete(name, upload, etags, 2, 1, 3)
        self._complete(name, upload, etags, 1, 3)
        self._complete(name, upload, etags, 1, 2, 3, **WRONG_MD5)
        self._ask("POST", name, upload, body=b"<CompleteMultipartUpload></CompleteMultipartUpload>")
        self._ask("POST", name, upload, body=b"no xml")
        self._complete(name, upload, etags, 1, 2, 3)
        self._ask("HEAD", name)
        self._ask("DELETE", name, upload)
        self._ask("DELETE", "m/another", other)

    def _parts(self, name: str, upload: dict[str, str]) -> list[str]:
        """The ETags of three parts, which came in another order and one of them twice."""
        etags: dict[int, str] = {}
        for number, data in ((1, BODY[:MIB]), (2, b"other"), (3, BODY[2 * MIB :]), (2, BODY[MIB : 2 * MIB])):
            answer = self._ask("PUT", name, {"partNumber": str(number), **upload}, body=data)
            etags[number] = answer.headers["etag"]
        self._ask("PUT", name, {"partNumber": "0", **upload}, body=b"x")
        self._ask("PUT", name, {"partNumber": "4", **upload}, body=b"x", headers=WRONG_MD5)
        self._ask("PUT", name, {"partNumber": "1", "uploadId": "unknown"}, body=b"x")
        return [etags[number] for number in (1, 2, 3)]

    def _listings(self, name: str, upload: dict[str, str]) -> None:
        for query in (
            {},
            {"encoding-type": "url"},
            {"max-parts": "2"},
            {"max-parts": "2", "part-number-marker": "2"},
            {"max-parts": "0"},
            {"part-number-marker": "x"},
            {"uploadId": "unknown"},
            {"uploadId": ""},
        ):
            self._ask("GET", name, {**upload, **query})
        for query in (
            {"prefix": f"{self._folder}/m/"},
            {"prefix": f"{self._folder}/m/", "encoding-type": "url", "max-uploads": "1"},
            {"prefix": f"{self._folder}/", "delimiter": "/"},
            {"prefix": f"{self._folder}/m/", "key-marker": f"{self._folder}/m/a b"},
            {"max-uploads": "0"},
            {"encoding-type": "x"},
        ):
            self._ask("GET", "", {"uploads": "", **query})

    def _complete(self, name: str, upload: dict[str, str], etags: list[str], *numbers: int, **headers: str) -> None:
        rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etags[n - 1]}</ETag></Part>" for n in numbers)
        document = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        self._ask("POST", name, upload, body=document, headers=headers)

    def _aborted_uploads(self) -> None:
        upload = self._begun("gone")
        part = {"partNumber": "1", **upload}
        self._ask("PUT", "gone", part, body=b"x")
        self._ask("DELETE", "gone", upload)
        self._ask("DELETE", "gone", upload)
        self._ask("PUT", "gone", part, body=b"x")
        self._ask("GET", "gone", upload)


def test_tencent_s_python_sdk_sees_the_same(keys: tuple[Key, Key], tmp_path: Path) -> None:
    at_gateway, at_cos = (
        _python_program(key.python_sdk(), key.bucket, f"python-{n}", tmp_path) for n, key in enumerate(keys)
    )

    assert at_gateway == at_cos


def _python_program(sdk: Any, bucket: str, folder: str, files: Path) -> list[Any]:
    told: list[Any] = []
    file = files / "file"
    file.write_bytes(BODY)

    def ask(method: str, **params: Any) -> Any:
        try:
            answer = getattr(sdk, method)(Bucket=bucket, **params)
        except CosServiceError as refused:
            told.append((method, refused.get_status_code(), refused.get_error_code()))
            return None
        shown = {name: value for name, value in (answer or {}).items() if name.lower() not in ("date", "server")}
        told.append((method, without_place(plain(shown), folder)))
        return answer

    ask("put_object", Key=f"{folder}/a", Body=BODY, Metadata={"x-cos-meta-a": "b"})
    ask("head_object", Key=f"{folder}/a")
    ask("head_object", Key=f"{folder}/none")
    ask("append_object", Key=f"{folder}/log", Position=0, Data=b"abc")
    ask("append_object", Key=f"{folder}/log", Position=9, Data=b"abc")
    upload_id = ask("create_multipart_upload", Key=f"{folder}/中 m")["UploadId"]
    upload = {"Key": f"{folder}/中 m", "UploadId": upload_id}
    etag = ask("upload_part", **upload, PartNumber=1, Body=BODY)["ETag"]
    ask("list_parts", **upload)
    ask("list_multipart_uploads", Prefix=folder)
    ask("complete_multipart_upload", **upload, MultipartUpload={"Part": [{"PartNumber": 1, "ETag": etag}]})
    ask("abort_multipart_upload", **upload)
    ask("upload_file", Key=f"{folder}/file", LocalFilePath=str(file), PartSize=1, EnableMD5=True)
    return told


@pytest.mark.parametrize("sdk", [NODE, WX])
def test_tencent_s_javascript_sdks_see_the_same(keys: tuple[Key, Key], tmp_path: Path, sdk: str) -> None:
    at_gateway, at_cos = (_js_program(key, f"{sdk}-{n}", tmp_path, sdk) for n, key in enumerate(keys))

    assert len(at_gateway) == len(at_cos) > 10
    for pair in zip(at_gateway, at_cos, strict=True):
        assert pair[0] == pair[1]


def _js_program(key: Key, folder: str, files: Path, sdk: str) -> list[Any]:
    file = files / "file"
    file.write_bytes(BODY)
    (begun,) = key.js_sdk(files, sdk, [("multipartInit", {"Key": f"{folder}/m"})])
    upload = {"Key": f"{folder}/m", "UploadId": begun["data"]["UploadId"]}
    calls: list[Call] = [
        ("putObject", {"Key": f"{folder}/a b", "Body": "text", "x-cos-meta-a": "b", "ContentType": "text/plain"}),
        ("headObject", {"Key": f"{folder}/a b"}),
        ("headObject", {"Key": f"{folder}/none"}),
        ("appendObject", {"Key": f"{folder}/log", "Body": "abc", "Position": 0}),
        ("appendObject", {"Key": f"{folder}/log", "Body": "abc", "Position": 9}),
        ("multipartUpload", {**upload, "PartNumber": 1, "Body": "p" * MIB}),
        ("multipartListPart", upload),
        ("multipartList", {"Prefix": folder}),
        ("multipartComplete", {**upload, "Parts": [{"PartNumber": 1, "ETag": '"0123"'}]}),
        ("multipartAbort", upload),
        ("multipartAbort", upload),
        ("sliceUploadFile", {"Key": f"{folder}/sliced", "FilePath": str(file), "ChunkSize": MIB}),
        ("uploadFile", {"Key": f"{folder}/whole", "FilePath": str(file), "SliceSize": 4 * MIB}),
    ]
    told = []
    for (method, _), result in zip(calls, key.js_sdk(files, sdk, calls), strict=True):
        answer = result.get("data") or result["error"]
        answer["headers"] = shown_headers(answer.get("headers") or {})
        answer.pop("message", None)
        told.append((method, without_place(plain(answer), folder)))
    return told

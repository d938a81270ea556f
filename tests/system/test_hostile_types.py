"""Files that are not what they are said to be, before a bucket that takes pictures and texts only: row C88."""

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.system.stack import MIB, Caller, Stack, body, good, require_problem, running_stack

PNG: Final = b"\x89PNG\r\n\x1a\n" + body("png", 100)
HTML: Final = b"<!DOCTYPE html><script>alert(1)</script>"
SVG: Final = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
EXE: Final = b"MZ\x90\x00" + bytes(200)
KEY: Final = "types/holiday.php.png"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose bucket names its types."""
    with running_stack(tmp_path_factory.mktemp("types"), bucket_types="files=image/*:text/plain") as stack:
        yield stack


def post_raw(caller: Caller, data: bytes, content_type: str) -> httpx.Response:
    return caller.call("POST", f"/v1/files?key={KEY}", content=data, headers={"Content-Type": content_type})


def put_object(caller: Caller, data: bytes, content_type: str) -> httpx.Response:
    return caller.call("PUT", f"/v1/objects/{KEY}", content=data, headers={"Content-Type": content_type})


def append(caller: Caller, data: bytes, content_type: str) -> httpx.Response:
    path, data = f"/v1/objects/{KEY}?append&position=0", data.ljust(5000)
    return caller.call("POST", path, content=data, headers={"Content-Type": content_type})


def post_form(caller: Caller, data: bytes, content_type: str) -> httpx.Response:
    return caller.post_form(KEY, data, content_type=content_type)


def put_content(caller: Caller, data: bytes, content_type: str) -> httpx.Response:
    return caller.put_content(caller.create(KEY, len(data), content_type=content_type)["id"], data)


def put_part(caller: Caller, data: bytes, content_type: str) -> httpx.Response:
    task = caller.create(KEY, 2 * MIB, part_size=MIB, content_type=content_type)
    return caller.put_part(task["id"], 1, data + bytes(MIB - len(data)))


DOORS: Final = [post_raw, post_form, put_object, append, put_content, put_part]


@pytest.mark.parametrize("data", [HTML, SVG, EXE, HTML + bytes(200_000)], ids=["html", "svg", "exe", "long html"])
@pytest.mark.parametrize("door", DOORS)
def test_c88_a_page_or_a_program_is_no_picture_at_any_door(stack: Stack, alice: Caller, door: Any, data: bytes) -> None:
    require_problem(door(alice, data, "image/png"), 415, "type_mismatch")

    with pytest.raises(FileNotFoundError):
        stack.cos.read(KEY)
    assert not [entry for entry in stack.cos.journal("UploadPart") if entry["status"] == 200]


def test_c88_a_text_that_is_a_page_is_no_text(alice: Caller) -> None:
    require_problem(post_raw(alice, b"\n  " + HTML, "text/plain"), 415, "type_mismatch")


@pytest.mark.parametrize("said", ["text/html", "application/octet-stream", "image/png, text/html", "", "image"])
def test_c88_a_type_that_is_not_on_the_bucket_s_list_is_refused_before_a_byte_is_read(alice: Caller, said: str) -> None:
    codes = ["type_not_allowed", "invalid_field"]
    answer = put_object(alice, PNG, said)

    require_problem(answer, answer.status_code, codes)
    assert answer.status_code in (400, 403)


def test_c88_what_is_what_it_says_is_stored_to_be_saved_and_not_shown(stack: Stack, alice: Caller) -> None:
    key = "types/good.png"
    good(alice.call("POST", f"/v1/files?key={key}", content=PNG, headers={"Content-Type": "image/png"}), 201)
    inline = {"content_type": "image/png", "content_disposition": "inline"}
    good(
        alice.call("POST", "/v1/files?key=types/inline.png", params={"key": "types/inline.png", **inline}, content=PNG),
        201,
    )

    assert stack.cos.read(key) == PNG
    head = alice.call("HEAD", f"/v1/objects/{key}").headers
    assert (head["content-type"], head["content-disposition"]) == ("image/png", "attachment")
    assert alice.call("HEAD", "/v1/objects/types/inline.png").headers["content-disposition"] == "inline"


def test_c88_the_second_part_of_a_picture_may_begin_like_anything(stack: Stack, alice: Caller) -> None:
    data = PNG + bytes(MIB - len(PNG)) + HTML
    task_id = alice.create("types/parts.png", len(data), part_size=MIB, content_type="image/png")["id"]
    good(alice.put_part(task_id, 2, data[MIB:]))
    good(alice.put_part(task_id, 1, data[:MIB]))

    assert good(alice.control(task_id, "complete"))["state"] == "success"
    assert stack.cos.read("types/parts.png") == data

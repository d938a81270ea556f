"""A file that begins like another type than it is said to be is refused; what nobody can tell is let through."""

import pytest

from gateway.domain.errors import TypeMismatch
from gateway.domain.signatures import check_signature, type_of

PNG, JPEG, GIF = b"\x89PNG\r\n\x1a\n" + bytes(20), b"\xff\xd8\xff\xe0" + bytes(20), b"GIF89a" + bytes(20)
WEBP, PDF, ZIP = b"RIFF\x00\x10\x00\x00WEBPVP8 ", b"%PDF-1.7\n", b"PK\x03\x04" + bytes(20)
HTML, SVG = b"\xef\xbb\xbf \n<!-- x --><!DOCTYPE html><html>", b'<?xml version="1.0"?>\n<svg xmlns="x">'
EXE, ELF, SHELL = b"MZ\x90\x00" + bytes(60), b"\x7fELF\x02\x01", b"#!/bin/sh\n"

TYPES = {
    "image/png": PNG,
    "image/jpeg": JPEG,
    "image/gif": GIF,
    "image/webp": WEBP,
    "application/pdf": PDF,
    "application/zip": ZIP,
    "application/gzip": b"\x1f\x8b\x08",
    "text/html": HTML,
    "image/svg+xml": SVG,
    "application/x-msdownload": EXE,
    "application/x-executable": ELF,
    "text/x-shellscript": SHELL,
}


@pytest.mark.parametrize("name", list(TYPES))
def test_each_type_shows_itself_and_is_taken_as_itself(name: str) -> None:
    assert type_of(TYPES[name]) == name
    check_signature(name, TYPES[name])


@pytest.mark.parametrize("name", list(TYPES))
@pytest.mark.parametrize("head", TYPES.values(), ids=list(TYPES))
def test_no_type_is_taken_for_another(name: str, head: bytes) -> None:
    if head is TYPES[name]:
        return
    with pytest.raises(TypeMismatch):
        check_signature(f"{name}; charset=utf-8", head)


@pytest.mark.parametrize("head", [HTML, SVG, EXE, ELF, SHELL])
@pytest.mark.parametrize("said", ["text/plain", "video/mp4", "text/csv", "application/json"])
def test_pages_and_programs_are_not_taken_for_what_has_no_signature(said: str, head: bytes) -> None:
    with pytest.raises(TypeMismatch):
        check_signature(said, head)


@pytest.mark.parametrize(
    ("said", "head"),
    [
        ("image/png", b""),
        ("text/plain", b"a < b, and <svg is a word"),
        ("text/xml", b"<?xml version='1.0'?><note/>"),
        ("video/mp4", b"\x00\x00\x00\x18ftypmp42"),
        ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ZIP),
        ("application/octet-stream", EXE),
        (None, HTML),
        ("IMAGE/PNG ; x=y", PNG),
    ],
)
def test_what_contradicts_nothing_is_let_through(said: str | None, head: bytes) -> None:
    check_signature(said, head)

"""A file that begins like another type than it is said to be is refused; what nobody can tell is let through."""

import pytest

from gateway.domain.errors import TypeMismatch
from gateway.domain.signatures import OPAQUE, stored_type, type_of

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


def check_signature(said: str | None, head: bytes) -> None:
    """As in a bucket that takes what is said and nothing else."""
    names = {(said or OPAQUE).partition(";")[0].strip().lower()}
    assert stored_type(said, head, names.__contains__) == said


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


PICTURES = {f"image/{name}" for name in ("png", "jpeg", "gif", "webp", "avif", "bmp", "tiff", "svg+xml")}
AVIF, BMP, TIFF = b"\0\0\0 ftypavif", b"BM\x46\0\0\0\0\0\0\0", b"II*\0"


@pytest.mark.parametrize(
    ("said", "head", "stored"),
    [
        ("image/jpeg", PNG, "image/png"),
        ("image/jpeg; q=1", GIF, "image/gif"),
        ("image/jpg", JPEG, "image/jpeg"),
        ("image/png", AVIF, "image/avif"),
        ("image/png", BMP, "image/bmp"),
        ("image/x-icon", PNG, "image/png"),
        ("image/heic", b"\0\0\0 ftypheic", "image/heic"),
        ("image/tiff", TIFF, "image/tiff"),
        ("image/svg+xml", SVG, "image/svg+xml"),
        ("image/png", b"", "image/png"),
    ],
)
def test_s13_among_types_that_are_allowed_the_true_one_is_stored(said: str, head: bytes, stored: str) -> None:
    assert stored_type(said, head, PICTURES.__contains__) == stored


@pytest.mark.parametrize("head", [HTML, SVG, EXE, ELF, SHELL, PDF, ZIP, b"no picture at all", b"B"])
@pytest.mark.parametrize("said", ["image/png", "image/jpeg"])
def test_s13_what_is_not_on_the_list_or_can_run_is_refused(said: str, head: bytes) -> None:
    with pytest.raises(TypeMismatch):
        stored_type(said, head, PICTURES.__contains__)


def test_s13_what_can_run_is_refused_in_disguise_though_it_is_on_the_list_itself() -> None:
    with pytest.raises(TypeMismatch):
        stored_type("image/png", SVG, PICTURES.__contains__)
    with pytest.raises(TypeMismatch):
        stored_type("text/plain", HTML, {"text/plain", "text/html"}.__contains__)


def test_s13_what_nobody_knows_becomes_opaque_where_that_is_allowed() -> None:
    assert stored_type("image/png", b"no picture", {"image/png", OPAQUE}.__contains__) == OPAQUE
    assert stored_type(OPAQUE, HTML, {OPAQUE}.__contains__) == OPAQUE
    assert stored_type(None, PNG, {"image/png"}.__contains__) == "image/png"
    with pytest.raises(TypeMismatch):
        stored_type(None, HTML, {"image/png"}.__contains__)

"""Forms that are none, that end too early or hold too much: promises C3. Nothing of them is ever stored."""

import gzip
from collections.abc import Callable, Iterator
from typing import Final

import httpx
import pytest

from tests.system.stack import MIB, Caller, Stack, body, good, read_answer, require_problem
from tests.system.standstill import shortest_standstill

pytestmark = pytest.mark.usefixtures("unharmed")

STALL_SECONDS: Final = 0.1
B: Final = "-----------------------------974767299852498929531610575"
KEY: Final = "forms/hostile.bin"


def field(name: str, value: str | bytes, *more: str) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"', *more]
    raw = value if isinstance(value, bytes) else value.encode()
    return f"--{B}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + raw + b"\r\n"


def file(data: bytes = b"hello", disposition: str = 'form-data; name="file"; filename="a.bin"', *more: str) -> bytes:
    lines = [f"Content-Disposition: {disposition}", *more]
    head = "\r\n".join(lines).encode(errors="surrogateescape")
    return f"--{B}\r\n".encode() + head + b"\r\n\r\n" + data + b"\r\n"


END: Final = f"--{B}--\r\n".encode()
GOOD: Final = field("key", KEY) + file() + END


def post(caller: Caller, raw: bytes, content_type: str | None = None) -> httpx.Response:
    told = f"multipart/form-data; boundary={B}" if content_type is None else content_type
    return caller.call("POST", "/v1/files", content=raw, headers={"Content-Type": told} if told else {})


ROWS: Final[dict[str, tuple[bytes, int, str]]] = {
    "c58 another boundary": (GOOD.replace(B.encode(), b"other"), 400, "malformed_multipart"),
    "c58 bare line feeds": (GOOD.replace(b"\r\n", b"\n"), 400, "malformed_multipart"),
    "c58 text before the boundary": (b"hello\r\n" + GOOD, 400, "malformed_multipart"),
    "c59 an empty body": (b"", 400, "multipart_truncated"),
    "c59 no closing boundary": (field("key", KEY) + file(), 400, "multipart_truncated"),
    "c59 cut inside the file": ((field("key", KEY) + file())[:-4], 400, "multipart_truncated"),
    "c59 cut inside a header": (field("key", KEY)[:60], 400, "multipart_truncated"),
    "c59 cut inside the closing boundary": (GOOD[:-6], 400, "multipart_truncated"),
    "c59 cut before its last hyphen": (GOOD[:-3], 400, "multipart_truncated"),
    "c61 too many fields": (
        b"".join(field(f"meta-f{n}", "x") for n in range(65)) + GOOD,
        400,
        "too_many_parts",
    ),
    "c61 two files": (field("key", KEY) + file() + file() + END, 400, "field_order"),
    "c62 a field of 4,097 bytes": (field("meta-a", "x" * 4097) + GOOD, 413, "field_too_large"),
    "c62 a field of 2 MiB": (field("meta-a", "x" * 2 * MIB) + GOOD, 413, "field_too_large"),
    "c63 a field behind the file": (file() + field("key", KEY) + END, 400, "field_order"),
    "c63 a field behind a large file": (
        field("key", KEY) + file(body("63", 3 * MIB)) + field("meta-a", "x") + END,
        400,
        "field_order",
    ),
    "no file": (field("key", KEY) + END, 400, "malformed_multipart"),
    "a field twice": (field("key", KEY) + field("key", "other") + file() + END, 400, "malformed_multipart"),
    "c65 a part without a name": (field("key", KEY) + file(disposition="form-data") + END, 400, "malformed_multipart"),
    "c65 a part without a disposition": (f"--{B}\r\nX: y\r\n\r\nabc\r\n".encode() + GOOD, 400, "malformed_multipart"),
    "c65 a part without headers": (f"--{B}\r\n\r\nabc\r\n".encode() + GOOD, 400, "malformed_multipart"),
    "c65 an attachment": (
        field("key", KEY) + file(disposition='attachment; name="file"; filename="a"') + END,
        400,
        "malformed_multipart",
    ),
    "c66 nine part headers": (
        field("key", KEY) + file(b"x", 'form-data; name="file"; filename="a"', *[f"X-{n}: 1" for n in range(9)]) + END,
        400,
        "malformed_multipart",
    ),
    "c66 a part header of 5 KB": (
        field("key", KEY) + file(b"x", 'form-data; name="file"; filename="a"', "X: " + "y" * 5000) + END,
        400,
        "malformed_multipart",
    ),
    "c67 nested multipart": (
        field("key", KEY)
        + file(b"x", 'form-data; name="file"; filename="a"', "Content-Type: multipart/mixed; boundary=x")
        + END,
        400,
        "malformed_multipart",
    ),
    "c67 base64": (
        field("key", KEY)
        + file(b"eA==", 'form-data; name="file"; filename="a"', "Content-Transfer-Encoding: base64")
        + END,
        400,
        "malformed_multipart",
    ),
    "an unknown field": (field("tenant", "other") + GOOD, 400, "unknown_field"),
    "a field that is no number": (field("part_size", "1e6") + GOOD, 400, "invalid_field"),
    "a field that is a wide number": (field("part_size", "9" * 30) + GOOD, 400, "invalid_field"),
    "a field that is not UTF-8": (field("cache_control", b"\xff\xfe") + GOOD, 400, "malformed_multipart"),
    "a size that is not the file's": (field("size", "6") + GOOD, 400, "body_incomplete"),
    "metadata that breaks the line": (field("meta-a", "x\r\nX-Cos-Acl: public") + GOOD, 400, "invalid_metadata"),
    "metadata with a bad name": (field("meta-a b", "x") + GOOD, 400, "invalid_metadata"),
    "a megabyte behind the end": (GOOD + bytes(MIB), 400, "malformed_multipart"),
}


@pytest.mark.parametrize("row", list(ROWS))
def test_c58_to_c67_a_form_that_is_none_is_refused_and_leaves_nothing(stack: Stack, alice: Caller, row: str) -> None:
    raw, status, code = ROWS[row]

    require_problem(post(alice, raw), status, code)
    with pytest.raises(FileNotFoundError):
        stack.cos.read(KEY)
    assert not any(task["state"] == "success" for task in good(alice.call("GET", "/v1/tasks"))["tasks"])


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        ("multipart/form-data", 400, "malformed_multipart"),
        ("multipart/form-data; boundary=", 400, "malformed_multipart"),
        ('multipart/form-data; boundary=""', 400, "malformed_multipart"),
        (f"multipart/form-data; boundary={'b' * 71}", 400, "malformed_multipart"),
        (f"multipart/form-data; boundary={'b' * 300}", 400, "malformed_multipart"),
        ('multipart/form-data; boundary="a b "', 400, "malformed_multipart"),
        ('multipart/form-data; boundary="a\\"b"', 400, "malformed_multipart"),
        (f"multipart/form-data; boundary={B}; boundary=other", 400, "malformed_multipart"),
        ("multipart/mixed; boundary=x", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("text/plain", 415, "unsupported_media_type"),
        ("application/json", 415, "unsupported_media_type"),
        ("multipart/form-datax; boundary=x", 415, "unsupported_media_type"),
        ("", 415, "unsupported_media_type"),
    ],
)
def test_c56_c57_c70_a_body_whose_type_is_no_form_is_refused(
    alice: Caller, content_type: str, status: int, code: str
) -> None:
    require_problem(post(alice, GOOD, content_type), status, code)


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "x"])
def test_c36_a_form_is_not_inflated(alice: Caller, encoding: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={B}", "Content-Encoding": encoding}

    require_problem(alice.call("POST", "/v1/files", content=GOOD, headers=headers), 415, "content_encoding_unsupported")


NAMES: Final[dict[str, tuple[str, str]]] = {
    "../../etc/passwd": ('filename="../../etc/passwd"', "passwd"),
    "a drive": ('filename="C:\\dir\\a.txt"', "a.txt"),
    "line breaks": ('filename="a%0d%0ab.txt"', "a%0d%0ab.txt"),
    "direction override": ('filename="a\u202egpj.exe"', "agpj.exe"),
    "quotes": ('filename="a\\"b.txt"', 'a"b.txt'),
    "255 bytes": (f'filename="{"x" * 251}.txt"', "x" * 251 + ".txt"),
    "chinese": ('filename="文件.txt"', "文件.txt"),
    "NUL": ('filename="a\0b.txt"', "ab.txt"),
    "a percent-encoded quote": ('filename="a%22b.txt"', 'a"b.txt'),
    "a second name in filename*": ("filename=\"a.txt\"; filename*=UTF-8''..%2F..%2Fevil.txt", "evil.txt"),
}


@pytest.mark.parametrize("row", list(NAMES))
def test_c69_a_file_s_name_becomes_a_harmless_one_below_the_prefix(stack: Stack, row: str) -> None:
    told, expected = NAMES[row]
    alice = stack.caller("alice", prefix="inbox/")
    task = good(post(alice, file(b"named", f'form-data; name="file"; {told}') + END), 201)

    assert task["key"] == f"inbox/{expected}"
    assert stack.cos.read(task["key"]) == b"named"


def test_c69_a_name_of_10_kb_is_too_long_for_a_header(alice: Caller) -> None:
    raw = file(b"x", f'form-data; name="file"; filename="{"x" * 10_000}"') + END

    require_problem(post(alice, raw), 400, "malformed_multipart")


UNKEYED: Final = (
    *('filename=""', 'filename=".."', 'filename="\u202e"', 'filename="dir/"', 'filename="blob"'),
    *('filename="a\udcff\udcfeb.txt"', f'filename="{"x" * 252}.txt"', 'filename="=?utf-8?B?/w==?="'),
)


@pytest.mark.parametrize("told", UNKEYED)
def test_c69_a_name_that_is_none_or_lost_something_is_no_key(alice: Caller, told: str) -> None:
    require_problem(post(alice, file(b"x", f'form-data; name="file"; {told}') + END), 400, "invalid_key")


def _near_boundaries(count: int) -> bytes:
    return (b"\r\n--" + B.encode()[:-1] + b"x") * count


@pytest.mark.parametrize(
    "make", [lambda: b"\r" * MIB, lambda: b"\r\n" * MIB, lambda: _near_boundaries(20_000), lambda: b"\r\n--" * 500_000]
)
def test_c71_floods_of_near_boundaries_are_a_file_like_any_other(
    stack: Stack, alice: Caller, make: Callable[[], bytes]
) -> None:
    data = make()
    before = stack.gateway.program.cpu_seconds
    good(post(alice, field("key", "forms/flood.bin") + file(data) + END), 201)

    assert stack.gateway.program.cpu_seconds - before < 0.1 + 0.1 * len(data) / MIB
    assert stack.cos.read("forms/flood.bin") == data
    again = field("key", "forms/flood.bin") + file(data * 4) + END
    assert shortest_standstill(stack.gateway, lambda: post(alice, again), STALL_SECONDS) < STALL_SECONDS


def test_c71_a_form_that_comes_byte_by_byte_is_a_form(stack: Stack, alice: Caller) -> None:
    raw = field("key", "forms/drip.bin") + file(b"drip") + END
    head = alice.head(
        "POST", "/v1/files", f"Content-Type: multipart/form-data; boundary={B}", f"Content-Length: {len(raw)}"
    )
    with alice.connect() as connection:
        connection.sendall(head)
        for byte in raw:
            connection.sendall(bytes([byte]))
        good(read_answer(connection), 201)

    assert stack.cos.read("forms/drip.bin") == b"drip"


def test_c61_a_million_tiny_fields_are_refused_at_the_65th(stack: Stack, alice: Caller) -> None:
    sent, before = 0, stack.gateway.program.cpu_seconds

    def fields() -> Iterator[bytes]:
        nonlocal sent
        for number in range(1_000_000):
            sent += 1
            yield field(f"meta-f{number}", "x")

    try:
        answer = post_stream(alice, fields())
    except httpx.TransportError:
        return  # it was cut off while it still sent
    finally:
        assert sent < 100_000
        assert stack.gateway.program.cpu_seconds - before < 1
    require_problem(answer, 400, "too_many_parts")


@pytest.mark.parametrize("piece", [b"\r\n", b'Content-Disposition: form-data; name="meta-a"\r\n\r\n\r\n'])
def test_c61_160_000_empty_parts_are_refused_at_once(stack: Stack, alice: Caller, piece: bytes) -> None:
    raw = (f"--{B}\r\n".encode() + piece) * 160_000
    before = stack.gateway.program.cpu_seconds
    require_problem(post(alice, raw), 400, ["malformed_multipart", "too_many_parts"])

    assert stack.gateway.program.cpu_seconds - before < 0.2
    assert shortest_standstill(stack.gateway, lambda: post(alice, raw[:MIB]), STALL_SECONDS) < STALL_SECONDS


def post_stream(caller: Caller, chunks: Iterator[bytes]) -> httpx.Response:
    return caller.call(
        "POST", "/v1/files", content=chunks, headers={"Content-Type": f"multipart/form-data; boundary={B}"}
    )


def test_c36_what_an_object_or_a_part_is_encoded_in_is_its_own_business(stack: Stack, alice: Caller) -> None:
    bomb, gzipped = gzip.compress(bytes(20 * MIB)), {"Content-Encoding": "gzip"}
    good(alice.call("PUT", "/v1/objects/forms/put.gz", content=bomb, headers=gzipped), 201)
    task = alice.create("forms/parts.gz", len(bomb), content_encoding="gzip", slice_size=MIB)
    good(alice.put_content(task["id"], bomb, **gzipped))
    parts = alice.create("forms/part.gz")["id"]
    good(alice.put_part(parts, 1, bomb, **gzipped))
    good(alice.control(parts, "complete"))

    for key, encoding in (("put", "gzip"), ("parts", "gzip"), ("part", None)):
        assert stack.cos.read(f"forms/{key}.gz") == bomb
        head = alice.call("HEAD", f"/v1/objects/forms/{key}.gz").headers
        assert (head.get("content-encoding"), head["content-length"]) == (encoding, str(len(bomb)))


def test_c93_what_a_file_holds_is_nobody_s_business(stack: Stack, alice: Caller) -> None:
    """A bomb is stored as it is: nothing here unpacks, sniffs or renames."""
    bomb = gzip.compress(bytes(20 * MIB))
    good(alice.call("POST", "/v1/files?key=forms/bomb.gz&content_type=image/png", content=bomb), 201)

    assert stack.cos.read("forms/bomb.gz") == bomb

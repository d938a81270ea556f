import email.parser
import email.policy
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import (
    BadInput,
    FieldOrder,
    FieldTooLarge,
    FormTruncated,
    GatewayError,
    MalformedForm,
    Overloaded,
    TooManyFields,
)
from gateway.web.file_names import FileName
from gateway.web.form_reader import FormReader
from gateway.web.formdata import FormFile, FormLimits, FormParser

BOUNDARY = b"----WebKitFormBoundaryAbC123"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"


def field(name: str, value: bytes) -> bytes:
    return b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (BOUNDARY, name.encode(), value)


def file(content: bytes, disposition: str = 'name="file"; filename="photo.jpg"', *more: bytes) -> bytes:
    head = [b"Content-Disposition: form-data; " + disposition.encode(), b"Content-Type: image/jpeg", *more]
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY, b"\r\n".join(head), content)


END = b"--%b--\r\n" % BOUNDARY


async def stream(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@dataclass(frozen=True)
class Form:
    """What a reader made of a form."""

    fields: dict[str, str]
    file: FormFile
    content: bytes


async def read(pieces: Sequence[bytes], limits: FormLimits | None = None) -> Form:
    reader = FormReader(CONTENT_TYPE, stream(pieces), limits or FormLimits())
    fields = await reader.fields()
    content = b"".join([chunk async for chunk in reader.file_chunks()])
    return Form(fields, reader.file, content)


def split(raw: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[a:b] for a, b in pairwise(edges)]


async def test_fields_come_first_and_the_file_follows() -> None:
    content = Random(1).randbytes(100_000)
    form = await read([field("key", "画像/a b.jpg".encode()) + field("client_ref", b""), file(content), END])

    assert form == Form(
        {"key": "画像/a b.jpg", "client_ref": ""}, FormFile("file", FileName("photo.jpg"), "image/jpeg"), content
    )


async def test_fields_return_before_the_files_bytes_came() -> None:
    seen: list[str] = []

    async def slowly() -> AsyncIterator[bytes]:
        yield field("key", b"a") + file(b"")[:-2]
        seen.append("asked for more")
        yield b"bytes\r\n" + END

    reader = FormReader(CONTENT_TYPE, slowly())

    assert await reader.fields() == {"key": "a"}
    assert seen == []
    assert [chunk async for chunk in reader.file_chunks()] == [b"bytes"]


async def test_the_chunks_of_a_file_are_the_clients_own_where_they_can_be() -> None:
    inner = Random(2).randbytes(65536).replace(b"\r", b"\n")
    reader = FormReader(CONTENT_TYPE, stream([file(b"x")[:-3], inner, b"\r\n" + END]))
    await reader.fields()

    assert any([chunk is inner async for chunk in reader.file_chunks()])


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\r\n", b"\r\n--", b"\r\n--" + BOUNDARY[:-1], b"--" + BOUNDARY, b"\r" * 999]
)
async def test_content_that_resembles_a_boundary_is_content(content: bytes) -> None:
    raw = file(content) + END

    assert (await read([raw])).content == content
    assert (await read([raw[i : i + 1] for i in range(len(raw))])).content == content


NEAR_BOUNDARY = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"-", b"\r\n", b"\r\n--", b"\r\n--" + BOUNDARY[:9], b"\r\n--" + BOUNDARY + b"x", BOUNDARY, b"a"]
    ),
    max_size=12,
).map(b"".join)
FORMS = st.builds(
    lambda names, values, content, last: (
        b"".join(field(name, value) for name, value in zip(names, values, strict=False)) + file(content) + last
    ),
    st.lists(st.text("abcé;= ", min_size=1, max_size=6).filter(str.strip), unique=True, max_size=3),
    st.lists(st.binary(max_size=20), max_size=3),
    NEAR_BOUNDARY | st.binary(max_size=200),
    st.sampled_from([END, END[:-2], b"", END[:5], END + b"epilogue", field("late", b"1") + END]),
)


def outcome(pieces: Sequence[bytes]) -> tuple[object, ...]:
    """Everything that can be told of a parse: how it ended, and with what."""
    parser, content = FormParser(BOUNDARY, FormLimits()), b""
    try:
        for piece in pieces:
            content += b"".join(parser.feed(piece))
        fields = parser.fields()
    except BadInput as error:
        return (type(error),)
    return fields, parser.file, content if parser.ended else None, parser.ended


@given(FORMS, st.lists(st.integers(0, 10_000), max_size=20))
def test_the_same_bytes_read_the_same_however_they_are_split(raw: bytes, cuts: list[int]) -> None:
    assert outcome(split(raw, cuts)) == outcome([raw]) == outcome([raw[i : i + 1] for i in range(len(raw))])


@given(FORMS, st.integers(0, 10_000), st.binary(max_size=3), st.lists(st.integers(0, 10_000), max_size=6))
def test_damaged_bytes_read_the_same_however_they_are_split(raw: bytes, at: int, junk: bytes, cuts: list[int]) -> None:
    at %= len(raw) + 1
    damaged = raw[:at] + junk + raw[at + 1 :]

    assert outcome(split(damaged, cuts)) == outcome([damaged])


@given(
    st.dictionaries(
        st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8).filter(lambda name: name != "file"),
        st.text(max_size=30),
        max_size=4,
    ),
    st.binary(max_size=300).filter(lambda content: BOUNDARY not in content),
)
async def test_it_agrees_with_the_standard_librarys_email_parser(fields: dict[str, str], content: bytes) -> None:
    raw = b"".join(field(name, value.encode()) for name, value in fields.items()) + file(content) + END
    theirs = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        b"Content-Type: " + CONTENT_TYPE.encode() + b"\r\n\r\n" + raw
    )
    parts = list(theirs.iter_parts())

    ours = await read([raw])

    assert len(parts) == len(fields) + 1
    assert ours.fields == fields
    assert [part.get_param("name", header="content-disposition") for part in parts[:-1]] == list(ours.fields)
    assert ours.content == content
    assert parts[-1].get_filename() == ours.file.name.shown


@pytest.mark.parametrize("length", range(0, len(field("a", b"1") + file(b"0123456789") + END) - 2, 3))
async def test_a_form_cut_anywhere_before_its_closing_boundary_is_truncated(length: int) -> None:
    raw = field("a", b"1") + file(b"0123456789") + END

    with pytest.raises(FormTruncated) as caught:
        await read([raw[:length]])

    assert caught.value.retryable


async def test_nothing_is_reported_as_the_end_before_the_closing_boundary() -> None:
    reader = FormReader(CONTENT_TYPE, stream([file(b"0123456789") + END[:-4]]))
    await reader.fields()
    chunks = reader.file_chunks()

    assert await anext(chunks) == b"0123456789"
    with pytest.raises(FormTruncated):
        await anext(chunks)


async def test_what_the_body_raises_comes_out_unchanged() -> None:
    class Gone(Exception):
        pass

    async def broken() -> AsyncIterator[bytes]:
        yield file(b"0123")[:-2]
        raise Gone

    reader = FormReader(CONTENT_TYPE, broken())
    await reader.fields()

    with pytest.raises(Gone):
        [chunk async for chunk in reader.file_chunks()]


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", FormTruncated),
        (END, MalformedForm),
        (field("a", b"1") + END, MalformedForm),
        (b"preamble\r\n" + file(b"x") + END, MalformedForm),
        (b"\r\n\r\n" + file(b"x") + END, MalformedForm),
        (b"\r" + file(b"x") + END, MalformedForm),
        (file(b"x").replace(b"\r\n", b"\n") + END, MalformedForm),
        (file(b"x").replace(b'"photo.jpg"\r', b'"photo.jpg"'), MalformedForm),
        (file(b"x").replace(BOUNDARY, b"another") + END, MalformedForm),
        (b"--%b\r\n\r\nno headers\r\n" % BOUNDARY + END, MalformedForm),
        (b"--%b\r\nContent-Type: text/plain\r\n\r\nx\r\n" % BOUNDARY + END, MalformedForm),
        (file(b"x", 'filename="a"') + END, MalformedForm),
        (file(b"x", 'name=""; filename="a"') + END, MalformedForm),
        (file(b"x", 'name="a\0"; filename="a"') + END, MalformedForm),
        (file(b"x", 'name="a"; name="b"; filename="a"') + END, MalformedForm),
        (file(b"x", 'name="a"; filename="a') + END, MalformedForm),
        (field("a", b"1").replace(b'"a"', b'"\xff"') + END, MalformedForm),
        (file(b"x").replace(b"form-data", b"attachment") + END, MalformedForm),
        (file(b"x", 'name="a"; filename="a"', b"Content-Disposition: form-data; name=b") + END, MalformedForm),
        (file(b"x", 'name="a"; filename="a"', b"Content-Transfer-Encoding: base64") + END, MalformedForm),
        (file(b"x", 'name="a"', b"Content-Transfer-Encoding: quoted-printable") + END, MalformedForm),
        (file(b"x").replace(b"image/jpeg", b"multipart/mixed; boundary=b") + END, MalformedForm),
        (file(b"x").replace(b"image/jpeg", b"image/\xe9") + END, MalformedForm),
        (file(b"x", 'name="a"; filename="a"', *(b"X-%d: 1" % i for i in range(8))) + END, MalformedForm),
        (file(b"x", 'name="a"; filename="a"', b"X-Long: " + b"a" * 5000) + END, MalformedForm),
        (field("a", b"1") + field("a", b"2") + file(b"x") + END, MalformedForm),
        (field("a", b"\xff") + file(b"x") + END, MalformedForm),
        (field("a", b"v" * 4097) + file(b"x") + END, FieldTooLarge),
        (b"".join(field(f"f{i}", b"") for i in range(65)) + file(b"x") + END, TooManyFields),
        (file(b"x") + field("late", b"1") + END, FieldOrder),
        (file(b"x") + file(b"y") + END, FieldOrder),
        (file(b"x") + END + b"e" * 70_000 + b"e" * 70_000, MalformedForm),
    ],
    ids=range(32),
)  # fmt: skip
async def test_a_hostile_form_gets_its_registered_error(raw: bytes, kind: type[GatewayError]) -> None:
    with pytest.raises(kind):
        await read(split(raw, range(0, len(raw), 65_536)))


async def test_the_limits_themselves_are_allowed() -> None:
    fields = b"".join(field(f"f{i}", b"v" * 4096) for i in range(64))

    assert len((await read([fields, file(b"x"), END])).fields) == 64


async def test_a_name_may_have_a_limit_of_its_own() -> None:
    limits = FormLimits(bytes_by_field={"policy": 16_384})
    raw = field("policy", b"p" * 16_384) + file(b"x") + END

    assert len((await read([raw], limits)).fields["policy"]) == 16_384
    with pytest.raises(FieldTooLarge):
        await read([raw])


async def test_all_fields_together_have_a_limit() -> None:
    limits = FormLimits(total_bytes=12)

    assert (await read([field("a", b"12345") + field("b", b"67890") + file(b"x") + END], limits)).fields
    with pytest.raises(FieldTooLarge, match="more than 12 bytes"):
        await read([field("a", b"12345") + field("b", b"678901") + file(b"x") + END], limits)
    with pytest.raises(FieldTooLarge, match="more than 12 bytes"):
        await read([field("a", b"12345") + field("bb", b"67890") + file(b"x") + END], limits)


LONG: Final = "n" * 128


@pytest.mark.parametrize("name", [LONG, "\U0001f600" * 32], ids=["ascii", "wide"])
async def test_s3_a_field_s_name_has_a_limit(name: str) -> None:
    assert (await read([field(name, b"1") + file(b"x") + END])).fields == {name: "1"}
    with pytest.raises(FieldTooLarge, match="128"):
        await read([field(name + "n", b"1") + file(b"x") + END])


async def test_s3_a_field_s_headers_have_a_limit_and_the_file_s_a_larger_one() -> None:
    def headed(size: int) -> bytes:
        return field("a", b"1").replace(b"\r\n\r\n", b"\r\nX-More: " + b"m" * size + b"\r\n\r\n")

    names = f'name="file"; filename="{"n" * 255}"; filename*=UTF-8\'\'{"%E4" * 255}'

    assert (await read([headed(400) + file(b"x", names) + END])).fields == {"a": "1"}
    with pytest.raises(FieldTooLarge):
        await read([headed(512) + file(b"x") + END])
    with pytest.raises((FieldTooLarge, MalformedForm)):
        await read([file(b"x", f'name="file"; filename="{"n" * 4096}"') + END])


async def test_s3_what_the_fields_take_is_told_as_they_come() -> None:
    told: list[int] = []

    async def hold(size: int) -> None:
        told.append(size)

    pieces = [field(f"f{number}", b"v" * 1000) for number in range(10)]
    reader = FormReader(CONTENT_TYPE, stream([*pieces, file(b"x"), END]), hold=hold)
    await reader.fields()

    assert told == sorted(told)
    assert told[-1] >= 10_000
    assert len(told) == len(pieces) + 1


async def test_s3_fields_that_cannot_be_held_are_read_no_further() -> None:
    async def hold(size: int) -> None:
        if size > 3000:
            raise Overloaded

    read_pieces: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(10):
            read_pieces.append(number)
            yield field(f"f{number}", b"v" * 1000)

    with pytest.raises(Overloaded):
        await FormReader(CONTENT_TYPE, pieces(), hold=hold).fields()

    assert len(read_pieces) <= 4


def test_s3_the_fields_stay_bytes_however_wide_their_characters_are() -> None:
    wide = b"v" * 4000 + "\U0001f600".encode()
    raw = b"".join(field(f"f{number}", wide) for number in range(60))
    parser = FormParser(BOUNDARY, FormLimits())
    tracemalloc.start()
    try:
        parser.feed(raw)
        assert tracemalloc.get_traced_memory()[0] <= parser.kept_bytes + 16_384
    finally:
        tracemalloc.stop()
    assert parser.fields()["f7"] == wide.decode()


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        ('name="file"', FormFile("file", FileName(""), "image/jpeg")),
        ('name="upload"; filename=""', FormFile("upload", FileName("", was_given=False), "image/jpeg")),
        ("name=\"a\"; filename*=UTF-8''evil.exe", FormFile("a", FileName("evil.exe"), "image/jpeg")),
        ('name="a"; filename="x.txt"; filename*=UTF-8\'\'evil.exe', FormFile("a", FileName("evil.exe"), "image/jpeg")),
        ('name="a"; filename="../../画\u202e像\0.jpg"', FormFile("a", FileName("画像.jpg"), "image/jpeg")),
    ],
)
async def test_a_file_is_known_by_its_filename_or_by_its_field(disposition: str, expected: FormFile) -> None:
    assert (await read([file(b"x", disposition) + END])).file == expected


async def test_a_hand_written_form_may_begin_with_one_line_end() -> None:
    assert (await read([b"\r", b"\n" + file(b"x") + END])).content == b"x"


async def test_padding_after_a_boundary_is_allowed() -> None:
    raw = field("a", b"1") + file(b"x").replace(BOUNDARY + b"\r\n", BOUNDARY + b" \t\r\n") + END

    assert (await read([raw])).content == b"x"


FLOODS = {
    "tiny fields": b"".join(field(f"f{i}", b"") for i in range(2500)),
    "parts after the file": file(b"") + field("a", b"") * 2500,
    "nearly a boundary": file(b"")[:-2] + (b"\r\n--" + BOUNDARY[:-1]) * 7000,
    "boundaries with a tail": file(b"")[:-2] + (b"\r\n--" + BOUNDARY + b"x") * 7000,
    "line ends": file(b"")[:-2] + b"\r" * 262_144,
}


@pytest.mark.parametrize("raw", FLOODS.values(), ids=FLOODS)
def test_no_chunk_of_64_kib_holds_the_loop_up(raw: bytes) -> None:
    def worst() -> float:
        parser, longest = FormParser(BOUNDARY, FormLimits()), 0.0
        try:
            for piece in split(raw, range(0, len(raw), 65_536)):
                before = time.perf_counter()
                parser.feed(piece)
                longest = max(longest, time.perf_counter() - before)
        except BadInput:
            longest = max(longest, time.perf_counter() - before)
        return longest

    assert min(worst() for _ in range(10)) < 0.010


EPILOGUE_MOST = 64 << 10


@pytest.mark.parametrize("size", [0, EPILOGUE_MOST - 2, EPILOGUE_MOST - 1, EPILOGUE_MOST + 6000])
@pytest.mark.parametrize("cut", ["one piece", "in the boundary", "behind the boundary", "small pieces"])
def test_f14_bytes_behind_the_closing_boundary_are_bounded_however_they_come(size: int, cut: str) -> None:
    before = field("key", b"a") + file(b"x--" + BOUNDARY + b"--")
    raw = before + END + b"e" * size
    edges = {
        "one piece": [],
        "in the boundary": [len(before) + 5],
        "behind the boundary": [len(before) + len(END) - 2],
        "small pieces": list(range(0, len(raw), 1000)),
    }[cut]

    parsed = outcome(split(raw, edges))

    assert parsed == (MalformedForm,) if size + 2 > EPILOGUE_MOST else parsed[3] is True


def typed(name: str, value: bytes, content_type: str) -> bytes:
    return field(name, value).replace(b'"\r\n\r\n', b'"\r\nContent-Type: %b\r\n\r\n' % content_type.encode(), 1)


@pytest.mark.parametrize("charset", ["utf-9", "x-unknown", "utf-7", "", "idna", "rot13", "\u00fcber"])
@pytest.mark.parametrize("where", ["a field's type", "the field _charset_", "the form's type"])
async def test_f14_a_charset_that_is_none_is_refused(charset: str, where: str) -> None:
    content_type = CONTENT_TYPE + (f'; charset="{charset}"' if where == "the form's type" else "")
    pieces = {
        "a field's type": typed("key", b"a", f'text/plain; charset="{charset}"'),
        "the field _charset_": field("_charset_", charset.encode()) + field("key", b"a"),
        "the form's type": field("key", b"a"),
    }[where]

    with pytest.raises(MalformedForm):
        await FormReader(content_type, stream([pieces, file(b"x"), END])).fields()


@pytest.mark.parametrize("charset", ["GB18030", "gbk", "Big5", "UTF-8", "shift_jis"])
@pytest.mark.parametrize("where", ["a field's type", "the field _charset_", "the form's type"])
async def test_f14_a_field_is_read_in_the_charset_that_is_declared(charset: str, where: str) -> None:
    value = "\u4e2d\u6587/a"
    content_type = CONTENT_TYPE + (f"; charset={charset}" if where == "the form's type" else "")
    raw = value.encode(charset)
    pieces = {
        "a field's type": typed("key", raw, f"text/plain; charset={charset}"),
        "the field _charset_": field("_charset_", charset.encode()) + field("key", raw),
        "the form's type": field("key", raw),
    }[where]

    assert await FormReader(content_type, stream([pieces, file(b"x"), END])).fields() == {"key": value}


async def test_f14_bytes_that_are_not_in_the_declared_charset_are_refused() -> None:
    with pytest.raises(MalformedForm):
        await FormReader(CONTENT_TYPE, stream([typed("key", b"\xff\xff", "text/plain; charset=gbk"), END])).fields()

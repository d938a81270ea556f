"""The names that clients send with a form's file, byte for byte as they write them (report 8)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import InvalidKey
from gateway.web.file_names import MAX_FILENAME_BYTES, FileName, file_name
from gateway.web.form_headers import parameters


def shown(raw: str) -> str:
    return file_name({"filename": raw}).shown


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        (r"C:\Users\me\x.txt", "x.txt"),
        ("..", ""),
        (".", ""),
        ("a/", ""),
        ("  ", ""),
        ("a\x00b\r\n.txt", "ab.txt"),
        ("cod\u202egpj.exe", "codgpj.exe"),
        ("e\u0301.txt", "é.txt"),
        ("bad\ufffd.txt", "bad.txt"),
        ("a%22b.txt", 'a"b.txt'),
        ("a%0d%0ab", "a%0d%0ab"),
        ("画像 😀.png", "画像 😀.png"),
        ("\ud800x", "x"),
    ],
)
def test_a_filename_keeps_what_a_person_may_see(raw: str, cleaned: str) -> None:
    assert shown(raw) == cleaned


def test_a_long_name_is_cut_and_keeps_its_extension() -> None:
    assert shown("画" * 4000 + ".jpeg") == "画" * 83 + ".jpeg"
    assert len(shown("." + "x" * 4000)) == MAX_FILENAME_BYTES
    assert len(shown("x." + "y" * 4000)) == MAX_FILENAME_BYTES


@given(st.text(st.characters(), max_size=300))
def test_cleaning_a_name_twice_changes_nothing_and_leaves_nothing_dangerous(raw: str) -> None:
    cleaned = shown(raw)

    assert shown(cleaned.replace("%22", "")) == cleaned.replace("%22", "") or "%22" in cleaned
    assert len(cleaned.encode()) <= MAX_FILENAME_BYTES
    assert not set(cleaned) & set("/\\\0\r\n\u202e\u2028")
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaned not in (".", "..")


DOTNET = "filename=\"=?utf-8?B?5rWL6K+V5paH5Lu2LnR4dA==?=\"; filename*=utf-8''%E6%B5%8B%E8%AF%95%E6%96%87%E4%BB%B6.txt"
DOTNET_SLASH = 'filename="=?utf-8?B?5ZCI5ZCM57uI56i/LmRvY3g=?="'


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (DOTNET, "测试文件.txt"),
        (DOTNET_SLASH, "合同终稿.docx"),
        ("filename*=utf-8''%E6%B5%8B%E8%AF%95%20%E6%8A%A5%E5%91%8A.txt", "测试 报告.txt"),  # urllib3 1.24
        ("filename*=UTF-8'zh'%E6%B5%8B.txt", "测.txt"),
        ("filename*=gb18030''%B2%E2.txt", "测.txt"),
        ('filename="%E6%B5%8B%E8%AF%95%20%E6%8A%A5%E5%91%8A.txt"', "测试 报告.txt"),  # aiohttp
        ('filename="=?UTF-8?Q?=E6=B5=8B=E8=AF=95_1.txt?="', "测试 1.txt"),  # Spring before 5.3
        ('filename="=?UTF-8?B?5rWL?= =?UTF-8?B?6K+V?=.txt"', "测试.txt"),
        ('filename="=?gbk?B?suI=?=.txt"', "测.txt"),
        ('filename="100%25.txt"', "100%25.txt"),
        ('filename="50%.txt"', "50%.txt"),
        ('filename="a=?b.txt"', "a=?b.txt"),
        ("filename=\"x.txt\"; filename*=klingon''%00", "x.txt"),
        ("filename=\"x.txt\"; filename*=utf-8''%FF", "x.txt"),
        ('filename="x.txt"; filename*=nonsense', "x.txt"),
    ],
)
def test_a_name_is_read_however_a_client_writes_it(said: str, name: str) -> None:
    assert file_name(parameters(f"form-data; {said}")[1]) == FileName(name)
    assert file_name(parameters(f"form-data; {said}")[1]).for_key() == name


@pytest.mark.parametrize(
    "said",
    [
        'filename="\ufffd\ufffd.pdf"',
        'filename="=?utf-8?B?not*base64?="',
        'filename="=?utf-8?B?/w==?=.txt"',
        'filename="=?klingon?B?suI=?=.txt"',
        "filename*=utf-8''%FF.txt",
        f'filename="{"x" * 300}.txt"',
        f'filename="{"画" * 90}一月.txt"',
    ],
)
def test_no_key_is_made_of_a_name_that_lost_something(said: str) -> None:
    name = file_name(parameters(f"form-data; {said}")[1])

    assert not name.is_whole
    with pytest.raises(InvalidKey, match="send a key"):
        name.for_key()


@pytest.mark.parametrize("said", ["", 'filename=""', 'filename="blob"', 'filename=".."', 'filename="a/"'])
def test_no_key_is_made_of_no_name(said: str) -> None:
    with pytest.raises(InvalidKey, match="no name"):
        file_name(parameters(f"form-data; {said}".rstrip("; "))[1]).for_key()


def test_an_input_that_nobody_filled_has_an_empty_name() -> None:
    assert [file_name(said).was_given for said in ({"filename": ""}, {}, {"filename": "a"}, {"filename": "/"})] == [
        False,
        True,
        True,
        True,
    ]

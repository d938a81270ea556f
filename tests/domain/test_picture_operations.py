"""Pic-Operations, parsed, confined and written anew."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import GatewayError, InvalidField, KeyNotAllowed
from gateway.domain.picture_operations import MAX_PIC_OPERATIONS_BYTES, confined_operations

KEY = "mine/album/a.jpg"
RULE = "imageMogr2/thumbnail/!50p/format/png"


def require_mine(key: str) -> None:
    if not key.startswith("mine/"):
        raise KeyNotAllowed("outside")


def confined(*rules: Any, **more: Any) -> Any:
    return json.loads(confined_operations(json.dumps({"rules": rules, **more}), KEY, require_mine))


@pytest.mark.parametrize(
    ("fileid", "result"),
    [
        ("small.png", "/mine/album/small.png"),
        ("deep/er/small.png", "/mine/album/deep/er/small.png"),
        ("/mine/small.png", "/mine/small.png"),
        ("小.png", "/mine/album/小.png"),
    ],
)
def test_s1_a_result_is_named_absolutely(fileid: str, result: str) -> None:
    assert confined({"fileid": fileid, "rule": RULE}) == {"is_pic_info": 0, "rules": [{"fileid": result, "rule": RULE}]}


@pytest.mark.parametrize(
    "rule",
    [
        RULE,
        "imageView2/2/w/200/h/200",
        "imageSlim",
        "watermark/2/text/aGVsbG8_/fill/IzNEM0QzRA/gravity/southeast",
        "imageMogr2/thumbnail/400x400>|imageMogr2/quality/60!|watermark/2/text/aGVsbG8",
    ],
)
def test_s1_rules_that_read_nothing_but_the_picture_are_taken(rule: str) -> None:
    assert confined({"fileid": "b.png", "rule": rule}, is_pic_info=1)["rules"][0]["rule"] == rule


@pytest.mark.parametrize(
    "rule",
    [
        *(
            "",
            "|",
            RULE + "|",
            "style/mine",
            "QRcode/cover/0",
            "watermark/1/image/aHR0cDovLw",
            "imageMogr2/",
            "AIImage",
        ),
        *("watermark/2/text/YQ/image/aHR0", "imageMogr2/a|watermark/1", "imageMogr2/a b", "imageMogr2/a%2Fimage/b"),
        *("imageMogr2?x=1", "https://evil.example/", "imageMogr2/" + "a" * 600, 5, None, ["imageMogr2"]),
    ],
)
def test_s1_any_other_rule_is_refused(rule: Any) -> None:
    with pytest.raises(InvalidField):
        confined({"fileid": "b.png", "rule": rule})


@pytest.mark.parametrize(
    "fileid",
    [
        *("/theirs/a.png", "/a.png", "//mine/a.png", "../b.png", "/mine/../theirs/a", "./a.png", "a//b", "b/", "/"),
        *("%2e%2e/a.png", "%2Fa", "a\\b", "${name}.png", "a?b", "a#b", "a*", "a\nb", "\ud800", "", 5, None, {}),
        *("a.jpg", "/mine/album/a.jpg", "k" * 851),
    ],
)
def test_s1_a_result_lies_where_its_caller_may_write_and_has_a_plain_name(fileid: Any) -> None:
    def require_writable(key: str) -> None:
        if ".." in key.split("/") or "." in key.split("/") or len(key) > 850 or not key.isprintable():
            raise KeyNotAllowed("no key")
        require_mine(key)

    document = json.dumps({"rules": [{"fileid": fileid, "rule": RULE}]})
    with pytest.raises((InvalidField, KeyNotAllowed)):
        confined_operations(document, KEY, require_writable)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "5", "null", '"a"', "{}", '{"rules": []}', '{"rules": {}}', '{"rules": [5]}', "[" * 4000),
        *('{"rules": [{"fileid": "a"}]}', '{"rules": [{"rule": "imageSlim"}]}', "é", "{}\n", " " * 5000),
        '{"is_pic_info": true, "rules": [{"fileid": "b", "rule": "imageSlim"}]}',
        '{"is_pic_info": 2, "rules": [{"fileid": "b", "rule": "imageSlim"}]}',
        '{"rules": [{"fileid": "b", "rule": "imageSlim", "bucket": "b-1"}]}',
        '{"rules": [{"fileid": "b", "rule": "imageSlim"}], "rules": [{"fileid": "/x", "rule": "imageSlim"}]}',
        '{"rules": [{"fileid": "b", "fileid": "/theirs/b", "rule": "imageSlim"}]}',
        '{"rules": [{"fileid": "b", "rule": "imageSlim"}, {"fileid": "/mine/album/b", "rule": "imageSlim"}]}',
        json.dumps({"rules": [{"fileid": f"{n}", "rule": "imageSlim"} for n in range(6)]}),
    ],
)
def test_s1_what_is_not_coss_document_is_refused(text: str) -> None:
    with pytest.raises(InvalidField) as caught:
        confined_operations(text, KEY, require_mine)

    assert text not in caught.value.detail or not text


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_s1_whatever_comes_is_judged_or_refused(document: Any) -> None:
    text = json.dumps(document)
    try:
        again = confined_operations(text, KEY, require_mine)
    except GatewayError:
        return
    assert all(rule["fileid"].startswith("/mine/") for rule in json.loads(again)["rules"])
    assert len(text) <= MAX_PIC_OPERATIONS_BYTES

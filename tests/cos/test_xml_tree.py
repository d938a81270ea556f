"""COS's XML, and XML that COS would never send."""

from contextlib import suppress
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cos import xml_tree
from gateway.cos.xml_tree import Unreadable, XmlElement, read_xml

NAMES = st.sampled_from(["Part", "ETag", "Key", "Upload"])
TEXTS = st.sampled_from(["", " ", " a\n"]) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n<>&\"'"), max_size=20
)


@st.composite
def documents(draw: st.DrawFn, depth: int = 3) -> ElementTree.Element:
    """What COS might send: names, texts and elements in elements."""
    element = ElementTree.Element(draw(NAMES))
    if depth == 3 or (depth and draw(st.booleans())):
        element.extend(draw(st.lists(documents(depth - 1), max_size=4)))
    else:
        element.text = draw(TEXTS)
    return element


def same(ours: XmlElement, theirs: ElementTree.Element) -> bool:
    """Whether both tell the same to whoever asks for any name."""
    if ours.name != theirs.tag:
        return False
    for name in {child.tag for child in theirs} | {"missing"}:
        pairs = list(zip(ours.all(name), theirs.findall(name), strict=True))
        if not all(same(*pair) for pair in pairs) or ours.text_of(name) != theirs.findtext(name):
            return False
    return True


@given(documents(), st.sampled_from(["utf-8", "us-ascii", "utf-16"]), st.text(" \t\r\n", max_size=5))
def test_what_was_written_is_read_as_the_standard_library_reads_it(
    root: ElementTree.Element, encoding: str, before: str
) -> None:
    raw = ElementTree.tostring(root, encoding, xml_declaration=True)
    tree = read_xml(raw if encoding == "utf-16" else before.encode() + raw)

    assert same(tree, ElementTree.fromstring(raw))  # noqa: S314 - it is our own


@given(documents(), st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 4))
def test_bytes_that_are_damaged_anywhere_are_read_or_unreadable(
    root: ElementTree.Element, at: int, junk: bytes, lost: int
) -> None:
    raw = ElementTree.tostring(root, "utf-8")
    at %= len(raw) + 1

    with suppress(Unreadable):
        read_xml(raw[:at] + junk + raw[at + lost :])
    if at < len(raw.rstrip()):
        with pytest.raises(Unreadable):
            read_xml(raw[:at])


def test_elements_are_found_by_their_local_names() -> None:
    tree = read_xml(
        b'<?xml version="1.0" encoding="utf-8"?>\n<R xmlns="http://q/7751" xmlns:a="u">\n '
        b"<a:K>a&amp;b \xe4\xb8\xad</a:K>"
        b"<P><N>1</N></P>\n<P><N>2</N></P><E/></R>"
    )

    assert tree.name == "R"
    assert tree.text_of("K") == "a&b 中"
    assert [part.text_of("N") for part in tree.all("P")] == ["1", "2"]
    assert tree.text_of("E") == ""
    assert tree.text_of("missing", "E") == ""
    assert tree.text_of("missing") is None


def test_white_space_before_the_declaration_is_skipped() -> None:
    assert read_xml(b" \r\n\t   " * 1000 + b"<?xml version='1.0'?><R/>").name == "R"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   ",
        b"<R>",
        b"<R></S>",
        b"<R/><R/>",
        b"plain text",
        b"<R>\xff</R>",
        b"<?xml version='1.0' encoding='no-such'?><R/>",
        b"<!DOCTYPE R><R/>",
        b'<!DOCTYPE R [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><R>&b;</R>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE R><R/>'.encode("utf-16"),
        b"<R>" * 17 + b"</R>" * 17,
        b"<R>" + b"<e/>" * 50_000 + b"</R>",
        b"<R>" + b" " * xml_tree.MAX_BYTES + b"</R>",
    ],
    ids=range(14),
)
def test_what_cos_would_never_send_is_unreadable(content: bytes) -> None:
    with pytest.raises(Unreadable):
        read_xml(content)


def test_the_largest_page_of_a_listing_is_readable() -> None:
    row = "<Upload><Key>k</Key><UploadId>i</UploadId><Initiator><ID>1</ID><DisplayName>n</DisplayName></Initiator>"
    row += "<Owner><ID>1</ID><DisplayName>n</DisplayName></Owner><StorageClass>S</StorageClass><Initiated>t</Initiated>"

    tree = read_xml(f"<R>{(row + '</Upload>') * 1000}</R>".encode())

    assert len(list(tree.all("Upload"))) == 1000

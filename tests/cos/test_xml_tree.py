"""COS's XML, and XML that COS would never send."""

import pytest

from gateway.cos import xml_tree
from gateway.cos.xml_tree import Unreadable, read_xml


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

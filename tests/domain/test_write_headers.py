"""The headers of a write: what its caller says, confined by what the caller and the bucket allow."""

import json

import pytest

from gateway.domain.errors import GatewayError, InvalidField, KeyNotAllowed
from gateway.domain.object_headers import FORBID_OVERWRITE
from gateway.domain.objects import Bucket
from gateway.domain.policy import Caller, Destination, Policy
from gateway.domain.write_headers import headers_of_write

FILES = Destination("files", Bucket("files-1", "ap-guangzhou"), "up/")
ALICE = Caller("alice", Policy(prefix="up/alice/"), 2e9)
KEY = "up/alice/a.png"


def operations(fileid: str) -> dict[str, str]:
    return {"pic-operations": json.dumps({"rules": [{"fileid": fileid, "rule": "imageSlim"}]})}


def test_what_is_said_is_kept() -> None:
    said = {"content-type": "text/css", "x-cos-meta-a": "b"}

    assert headers_of_write(ALICE, FILES, KEY, said) == said
    assert headers_of_write(ALICE, FILES, KEY, said, forbid_overwrite=True) == {**said, FORBID_OVERWRITE: "true"}


@pytest.mark.parametrize("fileid", ["/up/bob/a.png", "/other/a.png", "../bob/a.png"])
def test_s1_pic_operations_are_confined_to_the_caller_s_and_the_destination_s_prefix(fileid: str) -> None:
    with pytest.raises(GatewayError) as caught:
        headers_of_write(ALICE, FILES, KEY, operations(fileid))

    assert isinstance(caught.value, KeyNotAllowed) or caught.value.code == "invalid_key"
    anybody = Caller("bob", Policy(), 2e9)
    with pytest.raises(KeyNotAllowed):
        headers_of_write(anybody, FILES, KEY, operations("/elsewhere/a.png"))
    assert '"/up/alice/b.png"' in headers_of_write(ALICE, FILES, KEY, operations("b.png"))["pic-operations"]


def test_s1_what_may_replace_objects_is_refused_where_overwriting_is_forbidden() -> None:
    with pytest.raises(InvalidField):
        headers_of_write(ALICE, FILES, KEY, operations("b.png"), forbid_overwrite=True)
    with pytest.raises(InvalidField):
        headers_of_write(ALICE, FILES, KEY, {**operations("b.png"), FORBID_OVERWRITE: "true"})

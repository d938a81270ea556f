"""The types that a bucket takes, as one setting."""

import pytest

from gateway.config import BadSettings, Settings, load_settings
from gateway.config_values import BucketTypesSetting, as_text


def test_types_are_read_by_alias_and_written_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "album=image/*:application/pdf,table=application/vnd.ms-excel"
    monkeypatch.setenv("GATEWAY_BUCKET_TYPES", text)

    rules = Settings().bucket_types

    assert rules[0] == BucketTypesSetting("album", ("image/*", "application/pdf"))
    assert as_text(rules) == text


@pytest.mark.parametrize("text", ["album", "album=", "album=image", "album=image/*:", "=:", "album=Image/PNG x"])
def test_what_names_no_types_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GATEWAY_BUCKET_TYPES", text)

    with pytest.raises(BadSettings, match="GATEWAY_BUCKET_TYPES"):
        load_settings()

"""What each setting turns into; what becomes of it is shown where it is used."""

import json
from pathlib import Path

import pytest

from gateway.config_values import BucketSetting, ListenAddress
from gateway.from_settings import allowed_hosts_of, credentials_of, destinations_of, sealer_of
from gateway.web.sealing import SealBroken
from tests.test_app import settings


async def test_keys_of_a_file_go_before_keys_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"TmpSecretId": "AKIDfile", "TmpSecretKey": "secret of the file"}))

    fixed = await credentials_of(settings(cos_session_token="")).current()
    read = await credentials_of(settings(cos_credentials_file=file)).current()

    assert (fixed.secret_id, fixed.session_token, read.secret_id) == ("AKID0000", None, "AKIDfile")


def test_a_bucket_takes_every_type_unless_its_alias_is_listed() -> None:
    places = tuple(BucketSetting(alias, f"{alias}-1250000000", "ap-guangzhou", "") for alias in ("files", "photos"))

    found = destinations_of(settings(buckets=places, bucket_types="photos=image/png"))

    assert {place.alias: place.types for place in found.all} == {"files": None, "photos": ("image/png",)}


def test_the_first_seal_key_seals_and_all_of_them_open() -> None:
    one, two = "1" * 32, "2" * 32
    old = sealer_of(settings(seal_keys=f"one:{one}"))
    new = sealer_of(settings(seal_keys=f"two:{two},one:{one}"))

    assert new.open("ticket", old.seal("ticket", {"a": 1})) == {"a": 1}
    with pytest.raises(SealBroken):
        old.open("ticket", new.seal("ticket", {"a": 1}))


def test_without_seal_keys_the_token_secret_gives_one() -> None:
    sealed = sealer_of(settings()).seal("ticket", {"a": 1})

    assert sealer_of(settings()).open("ticket", sealed) == {"a": 1}
    with pytest.raises(SealBroken):
        sealer_of(settings(token_secret="another secret of 32 characters!!")).open("ticket", sealed)


def test_hosts_are_those_that_are_listed_else_those_that_are_listened_on() -> None:
    listening = settings(listen=ListenAddress("Gateway.example", 8080))

    assert allowed_hosts_of(listening) == {"localhost", "127.0.0.1", "[::1]", "gateway.example"}
    assert allowed_hosts_of(settings(allowed_hosts=("Files.example",))) == {"files.example"}

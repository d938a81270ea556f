from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.objects import Bucket, ObjectAddress, UploadId
from gateway.web.sealing import PURPOSES, SealBroken, Sealer
from gateway.web.task_document import TaskDocuments
from tests.web.sample_tasks import new_task

OLD, NEW = "o" * 32, "n" * 32
SEALER = Sealer({"old": OLD, "new": NEW}, "new")
PAYLOADS = st.dictionaries(st.text(max_size=8), st.one_of(st.integers(), st.text(max_size=40), st.none()), max_size=6)


@given(PAYLOADS, st.sampled_from(PURPOSES))
def test_what_was_sealed_opens_as_it_was(payload: dict[str, object], purpose: str) -> None:
    assert SEALER.open(purpose, SEALER.seal(purpose, payload)) == payload  # type: ignore[arg-type]


@given(st.data())
def test_any_flipped_bit_breaks_the_seal(data: st.DataObject) -> None:
    text = SEALER.seal("ticket", {"task": "t1", "size": 5})
    at = data.draw(st.integers(0, len(text) - 1))
    bit = data.draw(st.integers(0, 6))

    flipped = text[:at] + chr(ord(text[at]) ^ (1 << bit)) + text[at + 1 :]

    with pytest.raises(SealBroken):
        SEALER.open("ticket", flipped)


@pytest.mark.parametrize("size", range(3))
def test_the_spare_bits_of_the_last_character_cannot_be_changed_either(size: int) -> None:
    text = SEALER.seal("ticket", {"n": "x" * size})
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]

    with pytest.raises(SealBroken):
        SEALER.open("ticket", other)


def test_no_two_seals_share_a_nonce() -> None:
    sealed = [SEALER.seal("ticket", {"task": "t1"}).partition(".")[2] for _ in range(100)]

    assert len({text[:16] for text in sealed}) == 100  # 12 bytes in Base64


def test_a_cursor_is_no_ticket() -> None:
    with pytest.raises(SealBroken):
        SEALER.open("ticket", SEALER.seal("cursor", {"task": "t1"}))


def test_an_old_key_still_opens_after_the_rotation_and_not_after_its_removal() -> None:
    sealed_before = Sealer({"old": OLD}, "old").seal("ticket", {"task": "t1"})

    assert SEALER.open("ticket", sealed_before) == {"task": "t1"}
    with pytest.raises(SealBroken):
        Sealer({"new": NEW}, "new").open("ticket", sealed_before)


def test_renaming_a_key_in_the_text_breaks_the_seal() -> None:
    twins = Sealer({"a": OLD, "b": OLD}, "a")

    with pytest.raises(SealBroken):
        twins.open("ticket", "b" + twins.seal("ticket", {"n": 1})[1:])


@pytest.mark.parametrize(
    "text", ["", ".", "new.", "new.AAAA", "new." + "A" * 40, "new." + "A" * 41, "ключ.AAAA", "x" * 3000]
)
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(SealBroken):
        SEALER.open("cursor", text)


def test_the_text_is_url_safe_and_carries_nothing_readable() -> None:
    text = SEALER.seal("ticket", {"key": "secret-name"})

    assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert "secret" not in text


def test_more_than_five_kib_is_not_sealed_and_not_opened() -> None:
    with pytest.raises(ValueError, match="expected at most 5120"):
        SEALER.seal("ticket", {"key": "k" * 5120})
    with pytest.raises(SealBroken):
        SEALER.open("ticket", SEALER.seal("ticket", {"key": "k" * 3600}) + "A" * 800)


def test_a_sealer_from_the_token_secret_opens_its_own_seals() -> None:
    secret = "s" * 40

    text = Sealer.derive_from_secret(secret).seal("key", {"owner": "alice"})

    assert Sealer.derive_from_secret(secret).open("key", text) == {"owner": "alice"}


def test_keys_that_cannot_work_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="not among"):
        Sealer({"a": OLD}, "b")
    with pytest.raises(ValueError, match="id holds"):
        Sealer({"a.b": OLD}, "a.b")


def test_the_largest_ticket_that_a_task_can_have_is_sealed() -> None:
    """A task without one could neither be answered nor listed."""
    sealer = Sealer({"k" * 32: NEW}, "k" * 32)
    task = replace(
        new_task("t" * 22, owner="\U0001f600" * 256),
        at=ObjectAddress(Bucket("b" * 49 + "-12345678901234567890", "r" * 41), '"' * 850),
        upload_id=UploadId("u" * 256),
        size=50_000 << 30,
    )

    ticket = TaskDocuments(sealer).of(task)["ticket"]

    assert sealer.open("ticket", ticket)["key"] == task.at.key


def test_a_secret_follows_from_its_name_and_from_what_sealed_the_text() -> None:
    keys = {"a": "a secret of thirty-two bytes, or more", "b": "another secret of thirty-two bytes"}
    sealer, rotated = Sealer(keys, "a"), Sealer(keys, "b")
    text = sealer.seal("key", {})

    assert sealer.secret_of(text, "name") == rotated.secret_of(text, "name")
    assert len({sealer.secret_of(text, "name"), sealer.secret_of(text, "other"), rotated.secret_of("b.x", "name")}) == 3
    with pytest.raises(SealBroken):
        sealer.secret_of("c.x", "name")

import hashlib

from gateway.domain.policy import Caller, Policy
from gateway.domain.pseudonyms import pseudonym_of, subject_pseudonym, token_pseudonym
from gateway.store.redis_keys import owner_key

ALICE = hashlib.sha256(b"alice").hexdigest()[:16]


def test_s12_a_subject_has_the_name_that_redis_knows_it_by() -> None:
    assert subject_pseudonym("alice") == ALICE == owner_key("alice")[:16]
    assert subject_pseudonym("张三") == owner_key("张三")[:16]


def test_s12_a_token_is_not_taken_for_the_subject_of_the_same_text() -> None:
    assert token_pseudonym("42") != subject_pseudonym("42")
    assert token_pseudonym("42") == pseudonym_of("jti:42")


def test_s12_what_a_log_shows_stands_for_itself() -> None:
    assert pseudonym_of("alice") == pseudonym_of(ALICE) == ALICE
    assert pseudonym_of(ALICE.upper()) != ALICE
    assert pseudonym_of(ALICE + "\n") != ALICE + "\n"


def test_s12_a_caller_can_be_revoked_by_each_of_its_names() -> None:
    without = Caller("alice", Policy(), 2e9)
    with_id = Caller("alice", Policy(), 2e9, token_id="42")

    assert (without.subject, without.token) == (ALICE, None)
    assert without.revocable_names == ("alice", ALICE)
    assert with_id.token == token_pseudonym("42")
    assert with_id.revocable_names == ("alice", ALICE, "jti:42", token_pseudonym("42"))

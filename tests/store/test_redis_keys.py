"""Keys of one task share a slot, and no caller's string is part of any key."""

from gateway.domain.task import TaskId
from gateway.store.redis_keys import idempotency_key, owner_index, owner_key, progress_channel, task_keys


def test_the_keys_of_a_task_share_one_hash_tag() -> None:
    keys = task_keys(TaskId("abc"))

    assert keys == ("gw:{abc}", "gw:{abc}:parts", "gw:{abc}:tail", "gw:{abc}:bodies")


def test_owners_and_idempotency_keys_are_hashed() -> None:
    hostile = "{x}:* \r\n" * 100
    names = [owner_index(owner_key(hostile)), idempotency_key(hostile, hostile), progress_channel(hostile)]

    assert all(name.startswith("gw:") and len(name) < 90 and name.replace(":", "").isalnum() for name in names)
    assert idempotency_key("a", "bc") != idempotency_key("ab", "c")

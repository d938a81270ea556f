"""POST Object's policy: read it, and hold the form against its conditions (doc 436/14690)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.web.cos_problems import CosRefusal

# The policy names q-sign-time what the form calls q-key-time.
_FORM_NAMES: Final = {"q-sign-time": "q-key-time"}
_MANDATORY: Final = frozenset({"q-sign-algorithm", "q-ak", "q-sign-time"})


@dataclass(frozen=True, slots=True)
class Condition:
    """What the form's field ``name`` must be, or, with ``is_prefix``, begin with."""

    name: str
    value: str
    is_prefix: bool

    def holds(self, value: str) -> bool:
        """Whether *value* will do."""
        return value.startswith(self.value) if self.is_prefix else value == self.value


@dataclass(frozen=True, slots=True)
class FormPolicy:
    """A policy as read: ``expires_at`` in Unix seconds; sizes in bytes, both included, None for no limit."""

    expires_at: float
    conditions: tuple[Condition, ...]
    min_size: int
    max_size: int | None

    def check(self, fields: Mapping[str, str], bucket: str, now: float) -> None:
        """Hold the form's *fields*, by lower-case name and with the key expanded, against the conditions.

        Raises:
            CosRefusal: AccessDenied.
        """
        if now > self.expires_at:
            raise CosRefusal("AccessDenied", "Request has expired")
        for condition in self.conditions:
            name = condition.name
            value = fields.get(_FORM_NAMES.get(name, name), bucket if name == "bucket" else None)
            if value is None or not condition.holds(value):
                raise CosRefusal("AccessDenied", "A condition of the policy does not hold.")


def read_form_policy(text: str) -> FormPolicy:
    """The policy in *text*, the JSON that was signed.

    Raises:
        CosRefusal: InvalidPolicyDocument.
    """
    try:
        document = json.loads(text)
        expires_at = datetime.fromisoformat(document["expiration"]).timestamp()
        policy = _policy(expires_at, document["conditions"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError) as exc:
        raise CosRefusal("InvalidPolicyDocument", "The policy is not a policy's JSON.") from exc
    if not {condition.name for condition in policy.conditions} >= _MANDATORY:
        raise CosRefusal("InvalidPolicyDocument", "The policy has no condition for the signature's own fields.")
    return policy


def _policy(expires_at: float, rows: list[Any]) -> FormPolicy:
    conditions: list[Condition] = []
    smallest, largest = [0], []
    for row in rows:
        if isinstance(row, dict):
            conditions += (Condition(name.lower(), _text(value), False) for name, value in row.items())
        elif row[0] == "content-length-range":
            smallest.append(int(row[1]))
            largest.append(int(row[2]))
        elif row[0] in ("eq", "starts-with") and row[1].startswith("$"):
            conditions.append(Condition(row[1][1:].lower(), _text(row[2]), row[0] == "starts-with"))
        else:
            raise ValueError("a condition of another kind")
    return FormPolicy(expires_at, tuple(conditions), max(smallest), min(largest, default=None))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a condition's value is a text")
    return value

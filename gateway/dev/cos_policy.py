"""POST Object's policy: read it, and hold the form against its conditions (doc 436/14690)."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.dev.cos_answers import Refusal

# The policy names q-sign-time what the form calls q-key-time.
_FORM_NAMES: Final = {"q-sign-time": "q-key-time"}
_MANDATORY: Final = ("q-sign-algorithm", "q-ak", "q-sign-time")


@dataclass(frozen=True, slots=True)
class Condition:
    """``eq`` or ``starts-with``: what a field of the form must be or begin with."""

    kind: str
    field_name: str
    value: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as read. ``text`` is what was signed; ``expiration`` in Unix seconds; sizes in bytes, both included."""

    text: str
    expiration: float
    conditions: tuple[Condition, ...]
    min_size: int
    max_size: int | None


def read_policy(encoded: str) -> Policy:
    """Read the form field ``policy``, the base64 of a JSON text.

    Raises:
        Refusal: InvalidPolicyDocument.
    """
    try:
        text = base64.b64decode(encoded, validate=True).decode()
        document = json.loads(text)
        expiration = datetime.fromisoformat(document["expiration"])
        policy = _policy(text, expiration.timestamp(), document["conditions"])
    except (binascii.Error, ValueError, KeyError, TypeError, IndexError, AttributeError) as exc:
        raise Refusal("InvalidPolicyDocument", "The policy is not the base64 of a policy's JSON.") from exc
    missing = set(_MANDATORY) - {condition.field_name for condition in policy.conditions}
    if missing:
        raise Refusal("InvalidPolicyDocument", f"The policy has no condition for {min(missing)}.")
    return policy


def check_policy(policy: Policy, fields: Mapping[str, str], bucket: str, now: float) -> None:
    """Hold the form's *fields*, by lower-case name and with the key expanded, against *policy*; sizes come later.

    Raises:
        Refusal: AccessDenied.
    """
    if now > policy.expiration:
        raise Refusal("AccessDenied", "Request has expired")
    for condition in policy.conditions:
        name = condition.field_name
        value = fields.get(_FORM_NAMES.get(name, name), bucket if name == "bucket" else None)
        if value is None or not _holds(condition, value):
            raise Refusal("AccessDenied", f"The policy's condition for {name} does not hold.")


def _policy(text: str, expiration: float, rows: list[Any]) -> Policy:
    conditions: list[Condition] = []
    min_size, max_size = 0, None
    for row in rows:
        if isinstance(row, dict):
            conditions += (Condition("eq", name.lower(), _text(value)) for name, value in row.items())
        elif row[0] == "content-length-range":
            min_size, max_size = int(row[1]), int(row[2])
        elif row[0] in {"eq", "starts-with"} and row[1].startswith("$"):
            conditions.append(Condition(row[0], row[1][1:].lower(), _text(row[2])))
        else:
            raise ValueError("a condition of another kind")
    return Policy(text, expiration, tuple(conditions), min_size, max_size)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a condition's value is a text")
    return value


def _holds(condition: Condition, value: str) -> bool:
    return value == condition.value if condition.kind == "eq" else value.startswith(condition.value)

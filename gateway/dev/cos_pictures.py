"""Pic-Operations (doc 436/40592): results are written where COS would write them, each a copy of the picture."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.dev.cos_answers import Refusal, tag, text
from gateway.dev.cos_calls import Call, check_key
from gateway.dev.cos_metadata import quoted
from gateway.dev.cos_objects import LocalObject, ObjectDisk

_MAX_RULES: Final = 5
_FORMAT: Final = "png"
_SIDE: Final = 1


def read_rules(headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rules in *headers*; none without Pic-Operations. Raises Refusal InvalidArgument."""
    given = headers.get("pic-operations")
    if given is None:
        return []
    try:
        rules: list[dict[str, Any]] = json.loads(given)["rules"]
        if not 1 <= len(rules) <= _MAX_RULES or not all(rule["fileid"] and rule["rule"] for rule in rules):
            raise ValueError("no rules, or too many")
    except (ValueError, KeyError, TypeError) as exc:
        raise Refusal("InvalidArgument", "Pic-Operations is not what COS takes.") from exc
    return rules


def process(disk: ObjectDisk, call: Call, rules: list[dict[str, Any]], picture: LocalObject) -> tuple[str, ...]:
    """Write the results of *rules* for *picture*, which stands already; the XML elements that tell of them."""
    if not rules:
        return ()
    info = tag("ImageInfo", text("Format", _FORMAT), text("Width", _SIDE), text("Height", _SIDE))
    return info, tag("ProcessResults", *_results(disk, call, rules, picture))


def _results(disk: ObjectDisk, call: Call, rules: list[dict[str, Any]], picture: LocalObject) -> Iterator[str]:
    folder = picture.key[: picture.key.rfind("/") + 1]
    for rule in rules:
        fileid = rule["fileid"]
        key = fileid[1:] if fileid.startswith("/") else folder + fileid
        check_key(key)
        bucket = rule.get("bucket", call.bucket.name)
        with disk.receive() as body:
            body.write(disk.path(call.bucket.name, picture).read_bytes())
            etag = body.md5.hex()
            disk.put(bucket, body, LocalObject(key, "", body.size, etag, body.crc64, call.now, {}))
            rows = (("Key", key), ("Location", f"{call.host}/{key}"), ("Format", _FORMAT), ("Width", _SIDE))
            more = (("Height", _SIDE), ("Size", body.size), ("Quality", 100), ("ETag", quoted(etag)))
            yield tag("Object", *(text(name, value) for name, value in (*rows, *more)))

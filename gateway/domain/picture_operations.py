"""``Pic-Operations``: what COS makes of a picture while it stores it, confined to where its caller may write.

Source: COS documentation 436/40592 and 460/18147. A rule names an object that COS writes (``fileid``) and what it makes
(``rule``), which may itself name a picture that COS reads. So nothing of the caller's text goes to COS: it is parsed,
judged and written anew.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

from gateway.domain.errors import InvalidField

PIC_OPERATIONS: Final = "pic-operations"
MAX_PIC_OPERATIONS_BYTES: Final = 4096
MAX_RULES: Final = 5
MAX_RULE_LENGTH: Final = 512
_MEMBERS: Final = frozenset({"is_pic_info", "rules"})
_RULE_MEMBERS: Final = frozenset({"fileid", "rule"})
_STEP: Final = re.compile(r"(?:imageMogr2|imageView2|imageSlim|watermark/2)(?:/[A-Za-z0-9!@<>._~=+-]+)*", re.ASCII)
"""What needs no address. ``watermark/1`` and ``/image/`` name a picture to be read, ``style/`` who knows what."""
_NOT_IN_FILEID: Final = re.compile(r"[%\\$*?#{}]|//|/\Z")
"""What COS might decode, or fill in, after it was judged."""


def confined_operations(text: str, key: str, require_writable: Callable[[str], None]) -> str:
    """*text*, sent with the object *key*, as it may go to COS: every ``fileid`` absolute, every member known.

    Args:
        require_writable: raises where the caller may not write the key that it is given.
    Raises:
        InvalidField: it is none of COS's documents, or it names an address.
        KeyNotAllowed, InvalidKey: a result would lie where the caller may not write.
    """
    document = _parsed(text)
    picture_info, rules = document.get("is_pic_info", 0), document.get("rules")
    if not document.keys() <= _MEMBERS or type(picture_info) is not int or picture_info not in (0, 1):
        raise InvalidField("pic-operations takes is_pic_info, 0 or 1, and rules.")
    if not isinstance(rules, list) or not 1 <= len(rules) <= MAX_RULES:
        raise InvalidField(f"pic-operations takes 1 to {MAX_RULES} rules.")
    folder = key[: key.rfind("/") + 1]
    confined = [_confined_rule(rule, folder, require_writable) for rule in rules]
    results = [rule["fileid"] for rule in confined]
    if len({f"/{key}", *results}) <= len(results):
        raise InvalidField("pic-operations names an object twice, or the picture itself.")
    return json.dumps({"is_pic_info": picture_info, "rules": confined}, separators=(",", ":"))


def _parsed(text: str) -> dict[str, Any]:
    if len(text) > MAX_PIC_OPERATIONS_BYTES or not (text.isascii() and text.isprintable()):
        raise InvalidField(f"pic-operations is not printable ASCII of at most {MAX_PIC_OPERATIONS_BYTES} bytes.")
    try:
        document = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        raise InvalidField("pic-operations is not JSON, or names a member twice.") from None
    if not isinstance(document, dict):
        raise InvalidField("pic-operations is not a JSON object.")
    return document


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two parsers may choose differently between two members of one name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member is repeated")
    return found


def _confined_rule(rule: object, folder: str, require_writable: Callable[[str], None]) -> dict[str, str]:
    if not isinstance(rule, dict) or rule.keys() != _RULE_MEMBERS:
        raise InvalidField("A rule of pic-operations takes fileid and rule, and no bucket.")
    fileid, operation = rule["fileid"], rule["rule"]
    if not isinstance(fileid, str) or not fileid or _NOT_IN_FILEID.search(fileid):
        raise InvalidField("A fileid of pic-operations is not the plain name of an object.")
    if not isinstance(operation, str) or not _is_free_of_addresses(operation):
        raise InvalidField("A rule of pic-operations is none that the gateway knows to read nothing but the picture.")
    result = fileid[1:] if fileid.startswith("/") else folder + fileid
    require_writable(result)
    return {"fileid": f"/{result}", "rule": operation}


def _is_free_of_addresses(operation: str) -> bool:
    steps = operation.split("|")
    return len(operation) <= MAX_RULE_LENGTH and all(
        _STEP.fullmatch(step) is not None and "image" not in step.split("/") for step in steps
    )

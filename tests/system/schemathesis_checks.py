"""What schemathesis is told of this API: which refusals no schema could have foretold, and which values there are.

Loaded by ``st`` (``SCHEMATHESIS_HOOKS``); ``test_schemathesis.py`` runs it.
"""

import json
from typing import Any, Final

import schemathesis

_OF_STATE: Final = frozenset({401, 403, 404, 409, 410, 412, 422, 429})
"""Whether a request meets these depends on what stands in the gateway, not on the request."""
_BEYOND_SCHEMAS: Final = frozenset(
    {
        "bad_digest",  # Content-MD5 and Content-Digest disagree
        "bad_query",  # a cursor that no list answered, control characters
        "bad_json",  # 32 levels, integers up to 2^53, Unicode without lone surrogates
        "body_incomplete",
        "body_too_large",
        "digest_mismatch",
        "field_order",  # the file last
        "file_too_large",
        "invalid_key",  # dot segments, control characters, 850 bytes of UTF-8
        "invalid_metadata",  # 2 KiB in all
        "invalid_part_number",  # beyond the task's last
        "invalid_range",  # first > last
        "invalid_size",  # not the task's
        "malformed_multipart",  # no file in the form
        "part_size_mismatch",
        "part_too_large",
        "ticket_invalid",
        "unknown_destination",
        "uri_too_long",
    }
)
_BEYOND_PATTERNS: Final = (
    "Input should be a valid integer.",  # 7.0 is one to JSON Schema
    "is not a decimal number.",  # in a form, 7.0 again
    "expected 819200 to 838860800.",  # a number in a text
)


@schemathesis.hook
def map_query(ctx: Any, query: Any) -> Any:
    """A query cannot hold JSON's null: what is null there is left out."""
    return {name: value for name, value in query.items() if value not in (None, "null")} if query else query


@schemathesis.hook
def map_body(ctx: Any, body: Any) -> Any:
    """Nor can a form."""
    return map_query(ctx, body) if ctx.operation.path == "/v1/files" and isinstance(body, dict) else body


@schemathesis.check
def valid_requests_are_refused_for_what_no_schema_tells(ctx: Any, response: Any, case: Any) -> None:
    """A request that the schema allows meets no refusal but those."""
    generated = case.meta.generation.mode if case.meta is not None else None
    if generated is None or not generated.is_positive or response.status_code < 400:
        return
    if response.status_code in _OF_STATE or case.operation.method.upper() == "HEAD":
        return
    code = json.loads(response.content)["code"]
    if code in _BEYOND_SCHEMAS:
        return
    detail = json.loads(response.content).get("detail", "")
    if detail.endswith(_BEYOND_PATTERNS) or "upload_add_meta_md5" in detail:  # which needs another option
        return
    if detail.startswith("pic-operations"):  # a document in a text
        return
    if case.meta.phase.name.lower() == "coverage" and code == "invalid_field":
        return  # its headers and query values leave the patterns and types that it was given
    raise AssertionError(f"{response.status_code} {code}: {detail}")

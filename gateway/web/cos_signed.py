"""What a signature at the COS door has to cover: whoever was given a signed URL for one file does no more with it.

COS itself looks at nothing that the lists of a signature leave out (doc 436/7778). What is demanded here all four of
Tencent's SDKs list; Content-Type and Cache-Control those for browsers and mini-programs do not.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.cos.signing import ParsedAuthorization, unsigned
from gateway.domain.object_headers import META, acts_on_cos
from gateway.web.cos_problems import CosRefusal

TOKEN: Final = "x-cos-security-token"  # noqa: S105 -- a header's name
ADDED_LATER: Final = frozenset({TOKEN, "x-cos-sdk-retry"})
"""SDKs add them after they have signed: the token, bound to the key by its seal, and the mark of a repetition."""
SIGNATURE_PARAMETERS: Final = frozenset(
    {"q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list", "q-signature", TOKEN}
)
_DESCRIBE: Final = frozenset({"content-disposition", "content-encoding", "expires"})


def require_signed(parsed: ParsedAuthorization, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
    """Refuse a request whose signature leaves out a parameter, or a header that acts.

    Args:
        headers: by lower-case name.
    Raises:
        CosRefusal: AccessDenied.
    """
    require_listed(headers, parsed.header_list)
    if unsigned(query.keys() - SIGNATURE_PARAMETERS, parsed.url_param_list):
        raise CosRefusal("AccessDenied", "The signature does not cover a parameter of the request.")


def require_fields_signed(parsed: ParsedAuthorization, query: Mapping[str, str], fields: Iterable[str]) -> None:
    """The same of a form that carries a ``Signature``, whose *fields* it covers as headers: ``acl`` as x-cos-acl."""
    require_signed(parsed, query, {"x-cos-acl" if name == "acl" else name: "" for name in fields if _acts(name)})


def require_fields_covered(fields: Iterable[str], conditions: Iterable[str]) -> None:
    """Refuse a form with a field that acts on COS and of which no condition of its policy speaks; metadata may be free.

    Raises:
        CosRefusal: AccessDenied.
    """
    if {name for name in fields if _acts(name) and not name.startswith(META)} - {*conditions, *ADDED_LATER}:
        raise CosRefusal("AccessDenied", "The policy does not speak of a field of the form that acts on COS.")


def require_in_fields(headers: Mapping[str, str], fields: Mapping[str, str]) -> None:
    """Refuse a form whose request's *headers* say what its *fields* do not: only these describe its object.

    Raises:
        CosRefusal: InvalidArgument.
    """
    acting = {name: value for name, value in headers.items() if acts_on_cos(name) and name not in ADDED_LATER}
    if any(fields.get("acl" if name == "x-cos-acl" else name) != value for name, value in acting.items()):
        raise CosRefusal("InvalidArgument", "A header of the request that acts on COS is no field of the form.")


def _acts(field: str) -> bool:
    return field == "acl" or acts_on_cos(field)


def require_listed(names: Iterable[str], listed: Iterable[str]) -> None:
    """Refuse those of the lower-case *names* that act on COS and are not *listed*. Raises CosRefusal AccessDenied."""
    acting = {name for name in names if (acts_on_cos(name) or name in _DESCRIBE) and name not in ADDED_LATER}
    if unsigned(acting, tuple(listed)):
        raise CosRefusal("AccessDenied", "The signature does not cover a header of the request that acts on COS.")

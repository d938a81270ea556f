"""Pages of a listing: prefix, delimiter, markers and limits, the same for objects, uploads and parts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from gateway.cos.signing import encode
from gateway.dev.cos_answers import Refusal, tag, text

MAX_PAGE: Final = 1000
_OWNER_ID: Final = "qcs::cam::uin/100000000001:uin/100000000001"

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Entry(Generic[Item]):
    """One row of a listing before it is cut into pages; ``id`` orders rows of the same key."""

    key: str
    id: str
    item: Item


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page: rows, and prefixes that stand for many rows. ``last_key`` and ``last_id`` are the next markers."""

    items: Sequence[Item]
    common_prefixes: Sequence[str]
    truncated: bool
    last_key: str
    last_id: str


class EncodedText:
    """Writes keys into XML, percent-encoded when the query says ``encoding-type=url``.

    Raises:
        Refusal: InvalidArgument, for another encoding.
    """

    def __init__(self, query: Mapping[str, str]) -> None:
        wanted = query.get("encoding-type", "")
        if wanted not in {"", "url"}:
            raise Refusal("InvalidArgument", "encoding-type can only be url.")
        self._encoded = wanted == "url"

    def text(self, name: str, value: str) -> str:
        return text(name, encode(value) if self._encoded else value)

    def kind(self, name: str = "EncodingType") -> str:
        return text(name, "url") if self._encoded else ""


def page_limit(query: Mapping[str, str], name: str) -> int:
    """The page length asked for, 1 to 1000; 1000 when the query does not say.

    Raises:
        Refusal: InvalidArgument.
    """
    value = query.get(name) or str(MAX_PAGE)
    if not value.isdecimal() or not 1 <= int(value) <= MAX_PAGE:
        raise Refusal("InvalidArgument", f"{name} is 1 to {MAX_PAGE}.")
    return int(value)


def take_page(
    entries: Iterable[Entry[Item]], *, prefix: str, delimiter: str, after: tuple[str, str | None], limit: int
) -> Page[Item]:
    """Cut one page from sorted *entries*.

    Keys with *prefix* that hold *delimiter* further on are shown once, as their common prefix.

    Args:
        after: key marker and id marker; without an id marker every row of that key has been seen.
        limit: rows and common prefixes together.
    """
    items: list[Item] = []
    common: list[str] = []
    last = ("", "")
    for entry in entries:
        if not entry.key.startswith(prefix):
            continue
        group = _group(entry.key, prefix, delimiter)
        place = (group, "") if group else (entry.key, entry.id)
        if group in common[-1:] or _is_seen(place, group, after):
            continue
        if len(items) + len(common) == limit:
            return Page(items, common, True, *last)
        last = place
        if group:
            common.append(group)
        else:
            items.append(entry.item)
    return Page(items, common, False, *last)


def owner(name: str) -> str:
    """An Owner or Initiator element: everything belongs to one made-up account."""
    return tag(name, text("ID", _OWNER_ID), text("DisplayName", "100000000001"))


def _group(key: str, prefix: str, delimiter: str) -> str:
    if not delimiter:
        return ""
    end = key.find(delimiter, len(prefix))
    return key[: end + len(delimiter)] if end >= 0 else ""


def _is_seen(place: tuple[str, str], group: str, after: tuple[str, str | None]) -> bool:
    key_marker, id_marker = after
    if not key_marker:
        return False
    if group or id_marker is None:
        return place[0] <= key_marker
    return place <= (key_marker, id_marker)

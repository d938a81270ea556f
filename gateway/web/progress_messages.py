"""What is said on a progress websocket, as text: made once, and held by reference wherever it has yet to be sent."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from gateway.domain.batch import BatchId, BatchTotals
from gateway.web.json_answers import json_bytes

PAGE_TASKS: Final = 100
PAGE_BYTES: Final = 48 * 1024
"""A page of a snapshot ends with the task that makes it longer than this, so no message is above 64 KiB."""

_CHANGE: Final = '{"type":"task",'
_LOSS: Final = '{"type":"part_lost",'


class Message:
    """One message about a task or a batch; *is_loss* tells that bytes of a task turned out to be lost."""

    __slots__ = ("is_loss", "text")

    def __init__(self, text: str, *, is_loss: bool = False) -> None:
        self.text: Final = text
        self.is_loss: Final = is_loss

    def instead_of(self, earlier: "Message | None") -> "Message":
        """This message for somebody who was never sent *earlier*: a loss is told, whatever came after it."""
        if earlier is None or not earlier.is_loss or self.is_loss:
            return self
        return Message(_LOSS + self.text.removeprefix(_CHANGE), is_loss=True)


def text_of(document: Any) -> str:
    """*document* as compact JSON."""
    return json_bytes(document).decode()


def task_message(document: str, *, is_loss: bool) -> Message:
    """A task has changed; *document* is its JSON."""
    return Message(f'{_LOSS if is_loss else _CHANGE}"task":{document}}}', is_loss=is_loss)


def batch_message(batch_id: BatchId, totals: BatchTotals) -> Message:
    """A batch adds up to something else."""
    return Message(text_of({"type": "batch", "batch": totals_document(batch_id, totals)}))


def totals_document(batch_id: BatchId, totals: BatchTotals) -> dict[str, Any]:
    """What a batch adds up to: ``size`` and ``loaded`` in bytes, ``speed`` in bytes/s, ``percent`` 0-1."""
    return {
        "id": batch_id,
        "size": totals.size,
        "loaded": totals.loaded,
        "percent": totals.percent,
        "speed": round(totals.speed),
    }


class PageMaker:
    """Cuts a snapshot into messages as its tasks come in."""

    def __init__(self) -> None:
        self._documents: list[str] = []
        self._bytes = 0

    def add(self, documents: Iterable[str]) -> Iterator[str]:
        """Take in *documents*, each a task's JSON; yields every page that is whole and not the last."""
        for document in documents:
            if len(self._documents) >= PAGE_TASKS or self._bytes > PAGE_BYTES:
                yield self._page(more=True)
            self._documents.append(document)
            self._bytes += len(document.encode())

    def last(self) -> str:
        """The page that ends the snapshot."""
        return self._page(more=False)

    def _page(self, *, more: bool) -> str:
        documents, self._documents, self._bytes = self._documents, [], 0
        return f'{{"type":"snapshot","tasks":[{",".join(documents)}],"more":{"true" if more else "false"}}}'

"""What operators read: one JSON object a line, with the ids of the moment. No secret is in it.

A thread of its own writes the lines: whoever logs never waits for a pipe that nobody reads.
"""

import atexit
import json
import logging
import re
import time
from collections.abc import Iterable
from typing import Any, Final, TextIO

from pydantic_core import PydanticSerializationError, to_json

from gateway.log_writer import LogWriter
from gateway.telemetry import CODE, COS_REQUEST_ID, REQUEST_ID, SUBJECT, TASK_ID, TOKEN
from gateway.tracing import TRACE

_CONTEXT: Final = (
    ("request_id", REQUEST_ID),
    ("subject", SUBJECT),
    ("token", TOKEN),
    ("task_id", TASK_ID),
    ("cos_request_id", COS_REQUEST_ID),
    ("code", CODE),
)
_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
_QUIET: Final = {"httpx": logging.WARNING, "python_multipart": logging.CRITICAL, "uvicorn.access": logging.CRITICAL}

_LEAST_SECRET: Final = 8  # shorter ones would star out half of every line

_HINTS: Final = ("bearer", "eyj", "q-signature", "security-token", "upload-ticket", "authorization", "#token=")
_SECRETS: Final = re.compile(
    r"""(?ix)
    (?P<name>
        \b bearer [\s.]+
      | \#token=
      | \b (?:q-signature|x-cos-security-token|upload-ticket|authorization)
        \\?["']? \s* [:=,] \s* (?:b(?=["']))? \\?["']?
    )
    (?: bearer \s+ )? [^\s"'\\&,;}]+
    | \b eyJ[\w-]+ \. [\w-]+ \. [\w-]+
    """
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the ids of the moment and whatever ``extra`` holds.

    Args:
        secrets: exact texts, of eight characters or more, that no line may hold, beside everything that looks like a
            token or a signature.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        known = [secret for secret in secrets if len(secret) >= _LEAST_SECRET]
        self._known = tuple(dict.fromkeys([*known, *(_encode(secret)[1:-1] for secret in known)]))
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": self._time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, variable in _CONTEXT:
            value = variable.get()
            if value is not None:
                fields[name] = value
        trace = TRACE.get()
        if trace is not None:
            fields["trace_id"] = trace.trace_id
        for name, value in record.__dict__.items():
            if name not in _RECORD_FIELDS:
                fields[name] = value
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return redacted(_encode(fields), self._known)

    def _time(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        return f"{self._second[1]}.{int((record.created - second) * 1000):03d}Z"


def _encode(value: object) -> str:
    """*value* as compact JSON."""
    try:
        return to_json(value, fallback=repr).decode()
    except PydanticSerializationError:  # what is no UTF-8: bytes, or half of a surrogate pair
        return json.dumps(value, default=repr)


def redacted(text: str, known: Iterable[str] = ()) -> str:
    """*text* with stars for tokens, signatures, tickets and the *known* secrets. JSON stays JSON."""
    for secret in known:
        if secret in text:
            text = text.replace(secret, "***")
    lower = text.lower()
    if any(hint in lower for hint in _HINTS):
        return _SECRETS.sub(lambda found: f"{found['name'] or ''}***", text)
    return text


def configure_logging(level: str, *, secrets: Iterable[str] = (), stream: TextIO) -> LogWriter:
    """Send every logger of this process to *stream* as JSON lines, from *level* (``info``, …) up.

    What is logged last is written when the process ends in order, or at the latest with the writer's ``flush``.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # nothing prints them
    logging._srcfile = None  # nor where a line comes from, which is found by walking the stack
    handler = LogWriter(stream)
    handler.setFormatter(JsonFormatter(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(least)
    atexit.register(handler.flush)
    return handler

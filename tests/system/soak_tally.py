"""What the soak's clients did, were answered, and did not reckon with."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

FAILURES_KEPT: Final = 20


@dataclass
class Tally:
    """What all clients did and were answered. Thread-safe."""

    uploads: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    stored_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, code: str) -> None:
        with self._lock:
            self.answers[code] += 1

    def did(self, kind: str) -> None:
        with self._lock:
            self.uploads[kind] += 1

    def stored(self, size: int) -> None:
        with self._lock:
            self.stored_bytes += size

    def failed(self, sentence: str) -> None:
        with self._lock:
            if len(self.failures) < FAILURES_KEPT:
                self.failures.append(sentence)

"""A local COS for each test, and who calls it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.cos_caller import CosCaller
from tests.fakes.local_cos import BUCKET, KEY, RunningCos, running_local_cos


@pytest.fixture
def cos(tmp_path: Path) -> Iterator[RunningCos]:
    with running_local_cos(tmp_path / "data") as running:
        yield running


@pytest.fixture
def caller(cos: RunningCos) -> CosCaller:
    return CosCaller(cos.port, BUCKET, KEY)

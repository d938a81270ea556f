"""What every folder of tests may ask for."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.fakes.redis_server import running_redis, send_command
from tests.tools import count_missing


def pytest_configure(config: pytest.Config) -> None:
    """Let the programs of this run keep what they compile, also where the environment forbids that.

    Each of the hundred gateways would otherwise compile everything anew, which takes a second of processor time.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", "") and "PYTHONPYCACHEPREFIX" not in os.environ:
        folder = os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="gateway-tests-compiled-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_finish() -> None:
    """Let no collection of garbage look at nine thousand tests again and again.

    Each costs a third of a second otherwise, and hundreds of tests ask for one when they end.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The ``unix://`` address of a real redis-server that this run alone uses."""
    with running_redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The same server, emptied for this test."""
    send_command(redis_server, "FLUSHALL")
    send_command(redis_server, "SCRIPT", "FLUSH")
    return redis_server


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI nothing may be left out, whichever way a test said that its tool is missing."""
    if os.environ.get("CI") == "true" and _missing(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing = _missing(terminalreporter.config)
    if missing:
        terminalreporter.section("missing tools")
        for tool, count in sorted(missing.items()):
            terminalreporter.line(f"{tool}: {count} tests not run")


def _missing(config: pytest.Config) -> dict[str, int]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return count_missing(reporter.stats.get("skipped", [])) if reporter is not None else {}

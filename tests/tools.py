"""Tools outside Python that some tests need: a missing one skips them here, and fails them in CI.

Every skip says ``missing tool: <name>``, so that a run can list at its end what it left out.
"""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

NODE_FOLDER: Final = Path(__file__).parent / "node"
_REASON: Final = "missing tool: "


def require_tool(name: str) -> str:
    """The path of the program *name*; without it the test is skipped, or fails with ``CI=true``."""
    return shutil.which(name) or report_missing(name)


def require_node_package(name: str) -> Path:
    """The folder of an installed package of ``tests/node``, for node; without either the test is skipped."""
    require_tool("node")
    folder = NODE_FOLDER / "node_modules" / name
    return folder if folder.is_dir() else report_missing(f"node package {name}")


def report_missing(tool: str) -> NoReturn:
    """End the test: *tool* is not here."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{_REASON}{tool}", pytrace=False)
    pytest.skip(f"{_REASON}{tool}")


def count_missing(skipped: list[Any]) -> Counter[str]:
    """How many tests each missing tool left out, from pytest's reports of skipped tests."""
    reasons = (report.longrepr[2].removeprefix("Skipped: ") for report in skipped if isinstance(report.longrepr, tuple))
    return Counter(reason.removeprefix(_REASON) for reason in reasons if reason.startswith(_REASON))

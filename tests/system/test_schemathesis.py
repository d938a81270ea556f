"""schemathesis makes requests of the OpenAPI document, good and bad, and finds nothing against a running gateway."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.system.processes import ROOT
from tests.system.stack import running_stack

HERE: Final = Path(__file__).parent
EXAMPLES: Final = "8"
SECONDS: Final = 240


@pytest.mark.timeout(SECONDS + 30)
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with running_stack(tmp_path, requests_per_subject_rate="0", creates_per_subject_rate="0") as stack:
        bearer = stack.caller("schemathesis").bearer
        command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
        command += ["--config-file", str(HERE / "schemathesis.toml"), "run", str(ROOT / "openapi" / "openapi.yaml")]
        command += ["--url", stack.gateway.url, "--header", f"Authorization: Bearer {bearer}", "--no-color"]
        # They live on the admin listener.
        command += ["--exclude-path", "/metrics", "--exclude-path", "/version"]
        command += ["--max-examples", EXAMPLES, "--seed", "1", "--generation-database", "none"]
        ran = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "schemathesis_checks"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]

"""The comparator for whole files: ``@tus/server`` with ``@tus/s3-store`` in front of the same sink."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import NotStarted, Server, free_port, running

_HERE = Path(__file__).parent / "tus"


def find_node() -> str | None:
    """The node on PATH, when npm is there too."""
    return shutil.which("node") if shutil.which("npm") else None


@contextmanager
def tus_server(node: str, folder: Path, sink_port: int) -> Iterator[Server]:
    """Run the server; its packages are installed from the lock the first time. Its part files go under *folder*.

    Raises:
        NotStarted: npm could not install, or the server did not come up.
    """
    if not (_HERE / "node_modules").is_dir():
        installed = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=_HERE, capture_output=True, check=False
        )
        if installed.returncode != 0:
            raise NotStarted(f"npm ci ended with {installed.returncode}: {installed.stderr.decode()[-500:]}")
    port = free_port()
    command = [node, str(_HERE / "server.mjs"), str(port), str(sink_port)]
    with running(
        command, folder, port=port, env={**os.environ, "TMPDIR": str(folder), "NODE_ENV": "production"}
    ) as server:
        yield server

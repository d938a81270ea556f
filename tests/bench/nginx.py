"""The comparator for bulk: Debian's nginx, one worker, passing bodies on to the sink as they arrive."""

import getpass
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.processes import Server, free_port, running

_CONFIG = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 2048; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_max_body_size 0;
  client_body_buffer_size {buffer_bytes};
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream sink {{ server 127.0.0.1:{sink_port}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://sink;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_request_buffering off;
      proxy_buffering off;
    }}
  }}
}}
"""


def find_nginx() -> str | None:
    """The nginx on PATH, or where Debian puts it."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@contextmanager
def nginx(program: str, folder: Path, sink_port: int, *, buffer_bytes: int) -> Iterator[Server]:
    """Run *program* before the sink; everything it writes goes under *folder*.

    ``buffer_bytes`` is what it reads of a body at once: 16 KiB is its default, 1 MiB its fastest here.
    """
    home = folder / f"nginx-{buffer_bytes}"
    home.mkdir()
    port = free_port()
    # Only root may, and must, say whom the worker runs as: anyone else's stays the caller's.
    user = f"user {getpass.getuser()};" if getpass.getuser() == "root" else ""
    config = home / "nginx.conf"
    values = {"folder": home, "port": port, "sink_port": sink_port, "user": user, "buffer_bytes": buffer_bytes}
    config.write_text(_CONFIG.format(**values))
    with running([program, "-p", str(home), "-c", str(config), "-e", "stderr"], folder, port=port) as server:
        yield server

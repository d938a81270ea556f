"""The settings of traces."""

from collections.abc import Iterator
from importlib.util import find_spec
from urllib.parse import urlsplit

from pydantic import Field
from pydantic_settings import BaseSettings


class TracingSettings(BaseSettings):
    """Where spans go, and which."""

    otlp_endpoint: str = Field(
        default="",
        description="http(s)://host:port of a collector that takes OTLP over HTTP; empty sends no spans. "
        "Needs the extra otel.",
    )
    trace_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the requests without a traceparent that are traced; with one its sampled flag decides.",
    )

    def _tracing_problems(self) -> Iterator[str]:
        if not self.otlp_endpoint:
            return
        url = urlsplit(self.otlp_endpoint)
        if url.scheme not in ("http", "https") or not url.hostname or url.query:
            yield "GATEWAY_OTLP_ENDPOINT is not http(s)://host[:port]."
        if find_spec("opentelemetry") is None:
            yield "GATEWAY_OTLP_ENDPOINT needs the extra otel: pip install 'upload-gateway[otel]'."

"""The settings of traces."""

from collections.abc import Iterator
from importlib.util import find_spec

from pydantic import Field
from pydantic_settings import BaseSettings

from gateway.config_values import is_endpoint


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
        description="Share of traces recorded where callers leave it to us, as our own clients do.",
    )

    def _tracing_problems(self) -> Iterator[str]:
        if not self.otlp_endpoint:
            return
        if not is_endpoint(self.otlp_endpoint):
            yield "GATEWAY_OTLP_ENDPOINT is not http(s)://host[:port]."
        if find_spec("opentelemetry") is None:
            yield "GATEWAY_OTLP_ENDPOINT needs the extra otel: pip install 'upload-gateway[otel]'."

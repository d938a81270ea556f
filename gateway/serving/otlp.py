"""Spans to an OpenTelemetry collector, by OTLP over HTTP. The libraries are those of the extra ``otel``."""

from collections.abc import Callable
from typing import Final

from gateway import VERSION
from gateway.tracing import Export, Span, Trace

EXPORT_SECONDS: Final = 5.0
CLOSE_MILLISECONDS: Final = 1000


def exporting(endpoint: str) -> tuple[Export, Callable[[], None]]:
    """What hands spans to the collector at *endpoint* (http://host:port) without waiting for it, and what ends that.

    Up to 2,048 spans wait; more are dropped, and the collector's absence is logged.

    Raises:
        ImportError: the extra is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    resource = Resource.create({"service.name": "upload-gateway", "service.version": VERSION})
    processor = BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_SECONDS))
    kinds = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}

    def place(trace: Trace, span_id: str) -> SpanContext:
        flags = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(int(trace.trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)

    def export(span: Span) -> None:
        processor.on_end(
            ReadableSpan(
                span.name,
                context=place(span.trace, span.trace.span_id),
                parent=place(span.trace, span.parent_id) if span.parent_id else None,
                resource=resource,
                attributes=dict(span.attributes),
                kind=kinds[span.kind],
                status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
                start_time=span.start,
                end_time=span.end,
            )
        )

    def close() -> None:
        processor.force_flush(CLOSE_MILLISECONDS)
        processor.shutdown()  # type: ignore[no-untyped-call]

    return export, close

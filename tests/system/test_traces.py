"""One upload reads as one trace, from the door to COS and Redis, in a collector that speaks OTLP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.system.stack import MIB, Stack, body, good, parts_of

TRACE_ID, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass
class Collector:
    """What an OpenTelemetry collector got."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)

    def by_id(self) -> dict[str, Span]:
        return {span.span_id.hex(): span for span in self.spans}

    def path_of(self, span: Span) -> list[str]:
        """The names from the client's own span down to *span*."""
        known, names = self.by_id(), [span.name]
        while (parent := span.parent_span_id.hex()) != CLIENT_SPAN:
            span = known[parent]
            names.insert(0, span.name)
        return names


@contextmanager
def running_collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            raw = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
                for scope in resource.scope_spans:
                    collector.spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield collector
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def traced(stack: Stack) -> Iterator[Collector]:
    """What is left in the collector of one upload in two parts, and of a file without a ``traceparent``."""
    with running_collector() as collector:
        gateway = stack.start_gateway(otlp_endpoint=collector.url, trace_share="1")
        alice, data = stack.caller("alice", gateway), body("traces", 2 * MIB)
        trace = {"traceparent": f"00-{TRACE_ID}-{CLIENT_SPAN}-01"}
        made = {"key": "traces/parts.bin", "size": len(data), "part_size": MIB}
        task_id = good(alice.call("POST", "/v1/tasks", json=made, headers=trace), 201)["id"]
        for number, piece in enumerate(parts_of(data, MIB), 1):
            good(alice.put_part(task_id, number, piece, **trace))
        good(alice.control(task_id, "complete", headers=trace))
        good(alice.call("GET", f"/v1/tasks/{task_id}", headers={"traceparent": trace["traceparent"][:-1] + "0"}))
        good(alice.post_form("traces/form.bin", data[:1000]), 201)
        gateway.close()
        assert stack.cos.read("traces/parts.bin") == data
        yield collector


def test_an_upload_is_one_trace_from_door_to_cos(traced: Collector) -> None:
    ours = [span for span in traced.spans if span.trace_id.hex() == TRACE_ID]
    paths = {" > ".join(traced.path_of(span)) for span in ours}

    assert sum(span.name == "PUT rest" for span in ours) == 2
    assert {
        "POST rest > COS initiate",
        "PUT rest > relay part",
        "PUT rest > relay part > COS upload_part",
        "POST rest > COS complete",
    } <= paths
    assert any(path.startswith("PUT rest > relay part > Redis ") for path in paths)
    assert "GET rest" not in paths, "it was not to be recorded"


def test_spans_say_what_became_of_the_request(traced: Collector) -> None:
    [part, _] = [span for span in traced.spans if span.name == "PUT rest"]
    told = {item.key: item.value for item in part.attributes}

    assert told["http.response.status_code"].int_value == 200
    assert told["door"].string_value == "rest"
    assert told["http.route"].string_value == "/v1/tasks/{task_id}/parts/{number}"
    assert part.start_time_unix_nano < part.end_time_unix_nano


def test_a_request_without_a_trace_is_one_of_its_own(traced: Collector) -> None:
    roots = [span for span in traced.spans if not span.parent_span_id]

    assert [span.name for span in roots if span.trace_id.hex() != TRACE_ID] == ["POST rest"]


def test_every_log_line_of_a_request_carries_the_trace(stack: Stack, traced: Collector) -> None:
    del traced
    lines = [line for line in stack.gateways[-1].log_lines() if line["message"] == "request"]
    with_it = [line["route"] for line in lines if line.get("trace_id") == TRACE_ID]

    assert with_it.count("/v1/tasks/{task_id}/parts/{number}") == 2
    assert len(with_it) == 5

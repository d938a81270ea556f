import pytest

from gateway.config import load_settings


def problems(**given: str) -> list[str]:
    return [sentence for sentence in load_settings(**given).problems() if "OTLP" in sentence]


def test_spans_go_nowhere_unless_told() -> None:
    assert load_settings().otlp_endpoint == ""
    assert problems() == []


@pytest.mark.parametrize(
    "endpoint",
    [
        "collector:4318",
        "grpc://collector:4317",
        "http://",
        "http://collector?x=1",
        "https://user:password@collector",
        "http://collector:99999",
        "http://[::1",
    ],
)
def test_what_is_no_collector_is_named(endpoint: str) -> None:
    assert problems(otlp_endpoint=endpoint) == ["GATEWAY_OTLP_ENDPOINT is not http(s)://host[:port]."]


def test_a_collector_is_fine_with_the_extra() -> None:
    pytest.importorskip("opentelemetry.sdk")

    assert problems(otlp_endpoint="http://127.0.0.1:4318") == []

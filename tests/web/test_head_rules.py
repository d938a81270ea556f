import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from gateway.domain.errors import (
    BadFraming,
    BadHost,
    BadInput,
    BadRequestTarget,
    ExpectationFailed,
    HeaderTooLarge,
    MethodNotAllowed,
    UpgradeNotSupported,
    UriTooLong,
)
from gateway.web.head_rules import Head, HeadRules

RULES = HeadRules({"gateway.example", "127.0.0.1", "[::1]"}, ["/v1/objects/"])
Headers = list[tuple[bytes, bytes]]
HOST: Headers = [(b"host", b"gateway.example")]


def check(path: bytes = b"/v1/tasks", headers: Headers = HOST, method: str = "GET", query: bytes = b"") -> None:
    scope: Scope = {"type": "http", "method": method, "raw_path": path, "query_string": query}
    RULES.check(scope, Head.of(headers))


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/v1/tasks/",
        b"/v1/tasks/AZ_az-09~/parts/1",
        b"/console/app.js",
        b"/v1/objects/a//b",
        b"/v1/objects/a%2Fb%2f",
        b"/v1/objects/%E7%94%BB%20+&=;,:@!$'()*",
        b"/v1/objects/...",
        b"/" + b"a" * 8191,
    ],
)
def test_paths_that_a_client_may_ask_for(path: bytes) -> None:
    check(path)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"*",
        b"v1/tasks",
        b"http://evil.example/v1/tasks",
        b"/v1//tasks",
        b"//evil.example/v1",
        b"/v1/tasks%2Fx",
        b"/v1/tasks%2fx",
        b"/v1/./tasks",
        b"/v1/../tasks",
        b"/v1/%2e%2E/tasks",
        b"/v1/.%2e",
        b"/v1/objects/a/../b",
        b"/v1/objects/a%2f..%2fb",
        b"/v1/objects/..",
        b"/v1/tasks%00",
        b"/v1/tasks\x00",
        b"/v1/tasks\x7f",
        b"/v1/objects/\xe7\x94\xbb",
        b"/v1/a b",
        b"/v1/tasks%",
        b"/v1/tasks%zz",
        b"/v1/tasks#x",
    ],
)
def test_paths_that_two_readers_could_take_for_different_ones(path: bytes) -> None:
    with pytest.raises(BadRequestTarget):
        check(path)


@given(st.binary(max_size=40))
def test_no_path_breaks_the_rules_themselves(path: bytes) -> None:
    try:
        check(b"/" + path)
    except BadRequestTarget:
        return
    assert path.isascii()
    assert b".." not in path.split(b"/")


def test_long_targets_are_414() -> None:
    with pytest.raises(UriTooLong, match="8193 bytes"):
        check(b"/" + b"a" * 8192)
    with pytest.raises(UriTooLong, match="8193 bytes"):
        check(query=b"a" * 8193)
    check(query=b"a" * 8192)


@pytest.mark.parametrize("host", [b"gateway.example", b"GATEWAY.example:8080", b"127.0.0.1:1", b"[::1]:8080"])
def test_our_own_names_are_answered_to_on_any_port(host: bytes) -> None:
    check(headers=[(b"host", host)])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"")],
        [(b"host", b"evil.example")],
        [(b"host", b"gateway.example.evil.example")],
        [(b"host", b"gateway.example/b?c=")],
        [(b"host", b"gateway.example@evil.example")],
        [(b"host", b"gateway.example:80:80")],
        [(b"host", b"gateway.example, evil.example")],
        [*HOST, *HOST],
        [*HOST, (b"host", b"evil.example")],
    ],
)
def test_any_other_host_is_refused(headers: Headers) -> None:
    with pytest.raises(BadHost):
        check(headers=headers)


def test_probes_are_answered_under_any_host() -> None:
    check(b"/livez", [(b"host", b"10.0.0.7:8080")])
    check(b"/readyz", [])


def test_headers_are_bounded_in_number_and_size() -> None:
    many = [(b"x-%d" % n, b"") for n in range(63)]
    check(headers=HOST + many)
    with pytest.raises(HeaderTooLarge, match="65 headers, expected at most 64"):
        check(headers=[*HOST, *many, (b"x", b"")])
    with pytest.raises(HeaderTooLarge, match="expected at most 16384"):
        check(headers=[*HOST, (b"x", b"a" * 16_384)])


def test_a_header_of_ours_may_come_once_and_others_as_often_as_they_like() -> None:
    check(headers=[*HOST, (b"accept", b"a"), (b"accept", b"a")])
    with pytest.raises(BadInput):
        check(headers=[*HOST, (b"authorization", b"a"), (b"authorization", b"b")])
    with pytest.raises(BadInput):
        check(headers=[*HOST, *[(b"content-type", b"a/b")] * 2])
    with pytest.raises(BadInput):
        check(headers=[*HOST, (b"x-cos-acl", b"private"), (b"x-cos-acl", b"public-read")])


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "FOOBAR", "get", "PROPFIND", ""])
def test_unknown_methods_are_refused(method: str) -> None:
    with pytest.raises(MethodNotAllowed):
        check(method=method)


def test_expect_and_upgrade_have_one_meaning_each() -> None:
    check(headers=[*HOST, (b"expect", b"100-Continue")])
    with pytest.raises(ExpectationFailed):
        check(headers=[*HOST, (b"expect", b"wat")])
    with pytest.raises(UpgradeNotSupported):
        check(headers=[*HOST, (b"upgrade", b"h2c")])


def test_a_websocket_may_upgrade() -> None:
    scope: Scope = {"type": "websocket", "raw_path": b"/v1/progress", "query_string": b""}
    RULES.check(scope, Head.of([*HOST, (b"upgrade", b"websocket")]))


def test_bytes_beyond_ascii_are_refused_where_they_would_be_read() -> None:
    for name in (b"authorization", b"host", b"if-match", b"x-cos-security-token"):
        with pytest.raises(BadInput):
            check(headers=[*HOST, (name, b"caf\xe9")])
    check(headers=[*HOST, (b"x-cos-meta-name", "画".encode()), (b"user-agent", b"\xff")])


def test_http_1_0_is_for_probes() -> None:
    scope: Scope = {"type": "http", "method": "GET", "query_string": b"", "http_version": "1.0"}
    RULES.check({**scope, "raw_path": b"/livez"}, Head.of(HOST))
    with pytest.raises(BadFraming):
        RULES.check({**scope, "raw_path": b"/v1/tasks"}, Head.of(HOST))

import pytest

from gateway.web.origins import REQUEST_HEADERS, Origins, Verdict, is_preflight, preflight_headers

LISTED = "https://app.example"
ORIGINS = Origins([LISTED])


@pytest.mark.parametrize(
    ("origin", "verdict"),
    [
        (None, Verdict.OWN),
        (b"https://app.example", Verdict.LISTED),
        (b"https://APP.example", Verdict.LISTED),
        (b"http://app.example", Verdict.FOREIGN),
        (b"https://app.example:444", Verdict.FOREIGN),
        (b"https://app.example.evil.example", Verdict.FOREIGN),
        (b"https://gateway.example:8080", Verdict.OWN),
        (b"http://gateway.example:8080", Verdict.OWN),
        (b"http://gateway.example", Verdict.FOREIGN),
        (b"ftp://gateway.example:8080", Verdict.FOREIGN),
        (b"null", Verdict.FOREIGN),
        (b"", Verdict.FOREIGN),
        (b"https://", Verdict.FOREIGN),
    ],
)
def test_an_origin_is_own_listed_or_foreign(origin: bytes | None, verdict: Verdict) -> None:
    values = {b"host": b"gateway.example:8080"}
    if origin is not None:
        values[b"origin"] = origin

    assert ORIGINS.judge(values) is verdict


def test_without_a_host_no_origin_is_our_own() -> None:
    assert ORIGINS.judge({b"origin": b"https://"}) is Verdict.FOREIGN


def test_only_a_listed_page_may_read_the_answer() -> None:
    values = {b"origin": LISTED.encode()}

    allowed = dict(ORIGINS.answer_headers(Verdict.LISTED, values, "PUT"))

    assert allowed[b"access-control-allow-origin"] == LISTED.encode()
    assert {b"ETag", b"x-cos-next-append-position"} <= exposed(allowed)
    assert ORIGINS.answer_headers(Verdict.FOREIGN, values, "PUT") == [(b"vary", b"origin")]
    assert Origins([]).answer_headers(Verdict.OWN, values, "PUT") == []


def test_every_header_of_an_object_may_be_read_and_nothing_else_is_exposed_by_an_asterisk() -> None:
    values = {b"origin": LISTED.encode()}

    assert b"*" in exposed(dict(ORIGINS.answer_headers(Verdict.LISTED, values, "HEAD")))
    assert b"*" not in exposed(dict(ORIGINS.answer_headers(Verdict.LISTED, values, "GET")))


def exposed(answered: dict[bytes, bytes]) -> set[bytes]:
    return set(answered[b"access-control-expose-headers"].split(b", "))


def test_a_preflight_is_an_options_request_that_says_so() -> None:
    values = {b"origin": b"x", b"access-control-request-method": b"PUT"}

    assert is_preflight("OPTIONS", values)
    assert not is_preflight("PUT", values)
    assert not is_preflight("OPTIONS", {b"origin": b"x"})


def test_a_page_may_send_the_headers_of_cos_that_it_asks_for_and_no_others_that_we_do_not_read() -> None:
    asked = b"authorization, x-cos-meta-Colour,x-cos-acl, cookie, not-x-cos-acl, x-cos-\xe9"

    allowed = preflight_headers({b"access-control-request-headers": asked})["Access-Control-Allow-Headers"].split(", ")

    assert allowed == [*REQUEST_HEADERS, "x-cos-meta-colour", "x-cos-acl"]
    assert preflight_headers({})["Access-Control-Allow-Headers"].split(", ") == [*REQUEST_HEADERS]


def test_a_page_that_traces_its_calls_may_send_its_trace() -> None:
    allowed = preflight_headers({b"access-control-request-headers": b"traceparent,tracestate"})

    assert {"Traceparent", "Tracestate"} <= set(allowed["Access-Control-Allow-Headers"].split(", "))

import json

import h11

from gateway.cos.xml_tree import read_xml
from gateway.domain.errors import HeadTimeout, Overloaded
from gateway.web.edge_refusals import refusal_message


def read(raw: bytes) -> tuple[h11.Response, dict[bytes, bytes], bytes]:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(raw)
    response, data = client.next_event(), client.next_event()
    assert isinstance(response, h11.Response)
    assert isinstance(data, h11.Data)
    assert isinstance(client.next_event(), h11.EndOfMessage)
    return response, dict(response.headers), bytes(data.data)


def test_at_the_front_door_a_refusal_is_a_problem_document() -> None:
    response, headers, body = read(refusal_message(Overloaded("Full."), "an-id", [(b"Date", b"now")], as_cos=False))

    assert (response.status_code, headers[b"connection"], headers[b"date"]) == (503, b"close", b"now")
    assert (headers[b"content-type"], headers[b"retry-after"]) == (b"application/problem+json", b"1")
    assert headers[b"x-request-id"] == b"an-id"
    assert json.loads(body)["code"] == "overloaded"


def test_at_the_cos_door_it_is_cos_s_xml() -> None:
    response, headers, body = read(refusal_message(HeadTimeout("Late."), "an-id", [], as_cos=True))

    assert (response.status_code, headers[b"connection"]) == (400, b"close")
    assert headers[b"x-cos-request-id"] == b"an-id"
    error = read_xml(body)
    assert (error.name, error.text_of("Code"), error.text_of("RequestId")) == ("Error", "RequestTimeout", "an-id")

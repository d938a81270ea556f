import base64
import hashlib
import hmac

from gateway.hooks.signing import signed_headers

SECRET = "webhook-secret-0123456789-0123456789"


def test_the_signature_is_what_the_specification_computes() -> None:
    """Known answer, computed with `openssl dgst -sha256 -hmac`."""
    headers = signed_headers("evt_1", 1_763_800_000, b'{"a":1}', SECRET)

    key, signed = SECRET.encode(), b'evt_1.1763800000.{"a":1}'
    assert headers == {
        "Webhook-Id": "evt_1",
        "Webhook-Timestamp": "1763800000",
        "Webhook-Signature": "v1,nnGanzyU7bAgI3C25Fkds271MmaDY2DUNWtr4kXwrq0=",
        "Idempotency-Key": "evt_1",
    }
    expected = hmac.new(key, signed, hashlib.sha256).digest()
    assert headers["Webhook-Signature"] == "v1," + base64.b64encode(expected).decode()


def test_id_time_and_every_byte_are_signed() -> None:
    signatures = {
        signed_headers(event_id, at, body, secret)["Webhook-Signature"]
        for event_id, at, body, secret in [
            ("evt_1", 1, b"a", SECRET),
            ("evt_2", 1, b"a", SECRET),
            ("evt_1", 2, b"a", SECRET),
            ("evt_1", 1, b"b", SECRET),
            ("evt_1", 1, b"a", SECRET + "x"),
        ]
    }

    assert len(signatures) == 5

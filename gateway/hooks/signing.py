"""How a receiver knows that a webhook is ours: a signature over its id, its time and its bytes. Pure.

The headers are those of the Standard Webhooks specification, https://www.standardwebhooks.com.
"""

import base64
import hashlib
import hmac


def signed_headers(event_id: str, timestamp: int, body: bytes, secret: str) -> dict[str, str]:
    """The headers that sign *body*, sent at Unix time *timestamp*.

    The signature is the HMAC-SHA256, keyed with the bytes of *secret*, of ``<event id>.<timestamp>.<body>``, in Base64
    after ``v1,``.
    """
    signed = f"{event_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return {
        "Webhook-Id": event_id,
        "Webhook-Timestamp": str(timestamp),
        "Webhook-Signature": f"v1,{base64.b64encode(digest).decode()}",
        "Idempotency-Key": event_id,
    }

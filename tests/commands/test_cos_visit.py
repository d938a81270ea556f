import time
from pathlib import Path

import pytest

from gateway.commands.cos_visit import CosVisit
from gateway.cos import wire_requests
from gateway.cos.exchange import AttemptFailed
from gateway.cos.wire_errors import CosRefusal
from gateway.domain.objects import ObjectAddress
from tests.fakes.local_cos import BUCKET, KEY, running_local_cos
from tests.test_app import settings


async def test_a_clock_that_is_off_is_measured_and_the_rest_is_asked_by_cos_s(tmp_path: Path) -> None:
    with running_local_cos(tmp_path) as cos:
        good = settings(cos_endpoint=cos.url, cos_secret_id=KEY.secret_id, cos_secret_key=KEY.secret_key)
        visit = CosVisit(good, clock=lambda: time.time() - 1200)
        answer = await visit.ask(wire_requests.head_object(ObjectAddress(BUCKET, "none")))
        await visit.aclose()

    assert answer.status == 404
    assert visit.offset_seconds == pytest.approx(1200, abs=3)


async def test_an_address_where_nothing_is_names_its_setting() -> None:
    visit = CosVisit(settings(cos_endpoint="http://127.0.0.1:1"))
    with pytest.raises(AttemptFailed) as caught:
        await visit.ask(wire_requests.head_object(ObjectAddress(BUCKET, "none")))
    text, passing = visit.no_answer(BUCKET, caught.value)
    await visit.aclose()

    assert text.startswith("GATEWAY_COS_ENDPOINT: http://127.0.0.1:1 does not answer (no connection)")
    assert passing


@pytest.mark.parametrize(
    ("status", "code", "named", "passing"),
    [
        (404, "NoSuchBucket", "GATEWAY_BUCKETS", False),
        (403, "InvalidAccessKeyId", "GATEWAY_COS_SECRET_ID", False),
        (403, "SignatureDoesNotMatch", "GATEWAY_COS_SECRET_KEY", False),
        (400, "ExpiredToken", "GATEWAY_COS_SESSION_TOKEN", False),
        (301, "PermanentRedirect", "GATEWAY_BUCKETS", False),
        (402, "PaymentRequired", "arrears", False),
        (503, "SlowDown", "status", True),
    ],
)
async def test_each_refusal_means_a_setting(status: int, code: str, named: str, passing: bool) -> None:
    found = CosVisit(settings()).meaning(BUCKET, CosRefusal(status, code, "", "", None))

    assert found is not None
    assert named in found[0]
    assert found[1] == passing


async def test_what_a_right_is_missing_for_is_not_guessed() -> None:
    assert CosVisit(settings()).meaning(BUCKET, CosRefusal(403, "AccessDenied", "", "", None)) is None


async def test_keys_from_a_file_are_named_by_their_file(tmp_path: Path) -> None:
    visit = CosVisit(settings(cos_secret_id="", cos_secret_key="", cos_credentials_file=tmp_path / "keys.json"))
    found = visit.meaning(BUCKET, CosRefusal(403, "InvalidAccessKeyId", "", "", None))

    assert found is not None
    assert found[0].startswith("GATEWAY_COS_CREDENTIALS_FILE: ")

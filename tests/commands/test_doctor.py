import pytest

from gateway.commands.doctor import cors
from gateway.commands.findings import Level
from tests.test_app import settings


@pytest.mark.parametrize(
    ("origin", "level"),
    [(None, Level.OK), ("https://app.example", Level.OK), ("https://APP.example/", Level.OK)],
)
def test_origins_that_may_upload_are_told(origin: str | None, level: Level) -> None:
    assert cors(settings(allowed_origins=("https://app.example",)), origin).level is level


def test_an_origin_that_is_not_listed_is_what_to_add() -> None:
    finding = cors(settings(), "https://app.example/")

    assert finding.is_problem
    assert finding.text == "GATEWAY_ALLOWED_ORIGINS lists no other origin: add https://app.example."

import pytest

from gateway.cli import main
from gateway.commands.calling import refusal_line, token_of_environment, unreachable_line
from gateway.commands.ending import CommandFailed
from gateway.commands.rest_client import Refused, Unreachable


def test_s21_a_token_comes_from_the_environment_and_from_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", " from.the.environment\n")

    assert token_of_environment() == "from.the.environment"
    for command in (["tasks"], ["upload", "a.bin"], ["pause", "a"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--token", "a.b.c"])
        assert ended.value.code == 2
        assert "unrecognized arguments: --token" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "tökén"])
def test_what_is_no_token_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", text)

    with pytest.raises(CommandFailed, match="GATEWAY_TOKEN is no") as caught:
        token_of_environment()
    assert "\n" not in str(caught.value)


def test_a_refusal_is_one_line_with_its_code_and_what_to_do() -> None:
    refused = Refused(409, "task_paused", "The task is paused", "The task is paused.", retryable=True)

    assert refusal_line("a.bin", refused) == (
        "a.bin: task_paused: The task is paused. Do: somebody paused it: `restart` it, then send again."
    )
    assert refusal_line("a", Refused(503, "overloaded", "Busy", retryable=True)).endswith("again later.")
    assert (
        refusal_line("a", Refused(400, "invalid_key", "Bad key", "Too long.")) == "a: invalid_key: Bad key. Too long."
    )


def test_a_gateway_that_is_away_is_named() -> None:
    assert unreachable_line("http://a", Unreachable("no connection")).startswith("http://a does not answer (no conn")

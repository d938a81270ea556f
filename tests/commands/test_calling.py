import argparse

import pytest

from gateway.commands.calling import refusal_line, token_of, unreachable_line
from gateway.commands.ending import CommandFailed
from gateway.commands.rest_client import Refused, Unreachable


def test_the_token_of_the_command_line_goes_before_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", " from.the.environment\n")

    assert token_of(argparse.Namespace(token=None)) == "from.the.environment"
    assert token_of(argparse.Namespace(token="given")) == "given"


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "tökén"])
def test_what_is_no_token_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GATEWAY_TOKEN", text)

    with pytest.raises(CommandFailed, match="GATEWAY_TOKEN is no") as caught:
        token_of(argparse.Namespace(token=None))
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

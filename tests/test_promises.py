"""Every promise is shown by a test, and the table of them is the truth."""

import pytest

from tests.promises import PROMISES, TABLE, shown, table


@pytest.mark.promise(32)
def test_every_promise_is_shown_by_a_test() -> None:
    assert sorted(shown()) == list(range(1, len(PROMISES) + 1))


def test_the_table_names_the_tests_that_there_are() -> None:
    assert TABLE.read_text() == table(shown()), "write it anew: python -m tests.promises"

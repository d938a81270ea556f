"""One running stack for each module of system tests."""

from collections.abc import Iterator

import pytest

from tests.system.stack import Caller, Stack, running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis, a local COS and one gateway."""
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Redis, a local COS and two gateways that share them."""
    with running_stack(tmp_path_factory.mktemp("pair"), gateways=2) as stack:
        yield stack


@pytest.fixture
def alice(stack: Stack, request: pytest.FixtureRequest) -> Caller:
    """Somebody nobody has heard of, with a COS that works."""
    stack.cos.clear_faults()
    return stack.caller(f"alice of {request.node.name}")

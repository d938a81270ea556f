"""COS has several addresses: a dead one costs no request, and one outside the ranges is never spoken to."""

import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from ipaddress import ip_network
from typing import Final

import httpx
import pytest
from aiohttp.abc import ResolveResult

from gateway.cos.addresses import RangedResolver
from gateway.cos.client import CosClient
from gateway.cos.credentials import FixedCredentials
from gateway.cos.exchange import CosLimits
from gateway.cos.signing import Credentials
from gateway.cos.transport import AiohttpTransport
from gateway.domain import errors
from gateway.domain.objects import Bucket, ObjectAddress
from tests.cos.bodies import Once, Replayable
from tests.cos.dns import Dns
from tests.cos.raw_server import RawServer, always, answer, raw_server

AT: Final = ObjectAddress(Bucket("b-125", "r"), "k")
HEAD_SAID: Final = answer(200, b"", 'ETag: "e"', "Connection: close")


class Nowhere(Dns):
    """No name is known."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown name")


@contextmanager
def blackhole(address: str, port: int) -> Iterator[None]:
    """A port that answers no SYN: its queue of connections is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((address, port))
        yield


def client_of(dns: Dns, port: int, *ranges: str, connect_seconds: float = 3.0) -> CosClient:
    return CosClient(
        FixedCredentials(Credentials("id", "key")),
        endpoint=f"http://cos.test:{port}",
        transport=AiohttpTransport(resolver=RangedResolver([ip_network(text) for text in ranges], dns)),
        limits=CosLimits(connect_seconds=connect_seconds, stall_seconds=1, answer_seconds=1),
    )


@asynccontextmanager
async def three_of_four() -> AsyncIterator[list[RawServer]]:
    """Four addresses with one port, the first of which is dead."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(raw_server(always(HEAD_SAID), host="127.0.0.3"))]
        port = servers[0].port
        for host in ("127.0.0.4", "127.0.0.5"):
            servers.append(await stack.enter_async_context(raw_server(always(HEAD_SAID), host=host, port=port)))
        stack.enter_context(blackhole("127.0.0.2", port))
        yield servers


@pytest.mark.promise(20)
async def test_b88_one_dead_address_of_four_fails_no_request_and_the_others_share_the_load() -> None:
    async with three_of_four() as servers:
        client = client_of(Dns("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"), servers[0].port)
        try:
            slowest = 0.0
            for _ in range(40):
                began = time.monotonic()
                await client.head_object(AT)
                slowest = max(slowest, time.monotonic() - began)
        finally:
            await client.aclose()

        assert sum(len(server.heads) for server in servers) == 40
        assert all(len(server.heads) >= 5 for server in servers)
        assert slowest < 1.0


@pytest.mark.promise(20)
async def test_b59_a_blackhole_ends_within_the_connect_deadline_of_each_attempt() -> None:
    with socket.create_server(("127.0.0.2", 0)) as free:
        port = free.getsockname()[1]
    with blackhole("127.0.0.2", port):
        client = client_of(Dns("127.0.0.2"), port, connect_seconds=0.3)
        began = time.monotonic()
        body = Once(b"1")
        try:
            with pytest.raises(errors.StorageUnavailable):
                await client.put_object(AT, body, {})
        finally:
            await client.aclose()

    assert time.monotonic() - began < 3 * 0.3 + 1.5 + 0.5
    assert body.reads == 0


@pytest.mark.promise(20)
async def test_b59_a_name_that_dns_does_not_know_is_a_retryable_failure() -> None:
    client = client_of(Nowhere(), 80)
    try:
        with pytest.raises(errors.StorageUnavailable) as failed:
            await client.put_object(AT, Replayable(b"1"), {})
    finally:
        await client.aclose()

    assert failed.value.retryable


@pytest.mark.promise(26)
async def test_b60_an_address_outside_the_ranges_gets_no_byte_and_the_answer_is_final() -> None:
    async with raw_server(always(HEAD_SAID)) as server:
        client = client_of(Dns("127.0.0.1"), server.port, "203.0.113.0/24")
        try:
            with pytest.raises(errors.StorageAddressRefused) as refused:
                await client.put_object(AT, Replayable(b"1"), {})
        finally:
            await client.aclose()

        assert server.connections == 0
        assert not refused.value.retryable


@pytest.mark.promise(26)
async def test_b60_of_two_addresses_only_the_one_inside_is_spoken_to() -> None:
    async with AsyncExitStack() as stack:
        inside: RawServer = await stack.enter_async_context(raw_server(always(HEAD_SAID), host="127.0.0.3"))
        outside = await stack.enter_async_context(raw_server(always(HEAD_SAID), host="127.0.0.4", port=inside.port))
        client = client_of(Dns("127.0.0.4", "127.0.0.3"), inside.port, "127.0.0.3/32")
        try:
            for _ in range(4):
                await client.head_object(AT)
        finally:
            await client.aclose()

        assert (len(inside.heads), outside.connections) == (4, 0)


@pytest.mark.promise(26)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_b82_a_redirect_to_another_host_is_not_followed_and_names_the_setting(status: int) -> None:
    async with raw_server(always(answer(200))) as elsewhere:
        said = answer(status, b"", f"Location: http://127.0.0.1:{elsewhere.port}/k")
        async with raw_server(always(said)) as server:
            client = client_of(Dns("127.0.0.1"), server.port)
            try:
                with pytest.raises(errors.StorageRefused, match="GATEWAY_BUCKETS") as refused:
                    await client.put_object(AT, Replayable(b"1"), {})
            finally:
                await client.aclose()

            assert (len(server.heads), elsewhere.connections) == (1, 0)
            assert not refused.value.retryable


async def test_a_transport_without_a_resolver_asks_the_system(transport: AiohttpTransport) -> None:
    async with raw_server(always(answer(200))) as server:
        request = httpx.Request("GET", f"http://localhost:{server.port}/", extensions={"target": b"/"})

        assert (await transport.handle_async_request(request)).status_code == 200

"""TLS: the certificate must be the bucket's, wherever the connection goes."""

import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.cos.client import CosClient
from gateway.cos.credentials import FixedCredentials
from gateway.cos.signing import Credentials
from gateway.cos.transport import AiohttpTransport
from gateway.domain import errors
from gateway.domain.checksums import crc64
from gateway.domain.objects import Bucket, ObjectAddress
from tests.cos.bodies import Replayable
from tests.cos.raw_server import RawServer, always, answer, raw_server

AT = ObjectAddress(Bucket("b-125", "r"), "k")
DATA = bytes(range(256)) * 4096


def make_certificate(path: Path, *, ends_in: datetime.timedelta) -> Path:
    """A self-signed certificate of the bucket's host, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, AT.bucket.host)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=2))
        .not_valid_after(now + ends_in)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(AT.bucket.host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + made.public_bytes(pem)
    )
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "bucket.pem", ends_in=datetime.timedelta(hours=1))


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "expired.pem", ends_in=datetime.timedelta(hours=-1))


@asynccontextmanager
async def tls_cos(certificate: Path, *, trusted: bool) -> AsyncIterator[tuple[RawServer, CosClient]]:
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(certificate)
    ours = ssl.create_default_context(cafile=certificate) if trusted else None
    said = answer(200, b"", 'ETag: "e"', f"x-cos-hash-crc64ecma: {crc64(DATA)}")
    async with raw_server(always(said), tls=theirs) as server:
        client = CosClient(
            FixedCredentials(Credentials("id", "key")),
            endpoint=f"https://127.0.0.1:{server.port}",
            transport=AiohttpTransport(tls=ours),
        )
        try:
            yield server, client
        finally:
            await client.aclose()


async def test_bytes_pass_through_tls_to_another_address_under_the_buckets_name(certificate: Path) -> None:
    async with tls_cos(certificate, trusted=True) as (server, client):
        for _ in range(2):
            await client.put_object(AT, Replayable(DATA), {})

        assert server.bodies == [DATA, DATA]
        assert server.connections == 1


async def require_refused(certificate: Path, at: ObjectAddress, *, trusted: bool) -> None:
    """Refused once and for good: not a byte is sent, nothing is tried again, and no other way is taken."""
    async with tls_cos(certificate, trusted=trusted) as (server, client):
        with pytest.raises(errors.StorageUntrusted) as refused:
            await client.put_object(at, Replayable(DATA), {})

        assert not refused.value.retryable
        assert (server.heads, server.connections) == ([], 0)


@pytest.mark.promise(26)
async def test_b61_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path) -> None:
    await require_refused(certificate, AT, trusted=False)


@pytest.mark.promise(26)
async def test_b61_a_certificate_of_another_name_is_refused(certificate: Path) -> None:
    await require_refused(certificate, ObjectAddress(Bucket("other-125", "r"), "k"), trusted=True)


@pytest.mark.promise(26)
async def test_b61_a_certificate_that_has_run_out_is_refused(expired: Path) -> None:
    await require_refused(expired, AT, trusted=True)

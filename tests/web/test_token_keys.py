import hmac
import json
import logging
import os
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.utils import base64url_encode

from gateway.domain.errors import TokenInvalid
from gateway.web.auth import Authenticator
from gateway.web.token_keys import JwksFile, SharedSecret

RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = Ed25519PrivateKey.generate()
NOW = 1_700_000_000
CLAIMS = {"sub": "alice", "exp": NOW + 600, "aud": "upload-gateway"}


def rsa_jwk(kid: str, key: rsa.RSAPrivateKey = RSA_KEY, **more: Any) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def ec_jwk(kid: str) -> dict[str, Any]:
    return {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": kid}


def ed_jwk(kid: str) -> dict[str, Any]:
    return {**OKPAlgorithm.to_jwk(ED_KEY.public_key(), as_dict=True), "kid": kid}


class Scene:
    """An Authenticator on a JWKS file, with a clock that the test moves."""

    def __init__(self, folder: Path, *keys: dict[str, Any]) -> None:
        self.path = folder / "jwks.json"
        self.seconds = 1000.0
        self.writes = 0
        self.write({"keys": list(keys)})
        self.gate = Authenticator.with_jwks_file(
            self.path, "upload-gateway", None, lambda: NOW, monotonic=lambda: self.seconds
        )

    def write(self, document: Any) -> None:
        self.writes += 1
        self.path.write_text(json.dumps(document))
        os.utime(self.path, ns=(self.writes, self.writes))

    def owner(self, key: Any, algorithm: str, kid: str | None) -> str:
        token = jwt.encode(CLAIMS, key, algorithm=algorithm, headers={"kid": kid} if kid else None)
        return self.gate.caller_of(token).owner


def test_rsa_elliptic_and_edwards_keys_verify(tmp_path: Path) -> None:
    scene = Scene(tmp_path, rsa_jwk("r"), ec_jwk("e"), ed_jwk("d"), rsa_jwk("enc", use="enc"))

    assert scene.owner(RSA_KEY, "RS256", "r") == "alice"
    assert scene.owner(EC_KEY, "ES256", "e") == "alice"
    assert scene.owner(ED_KEY, "EdDSA", "d") == "alice"


@pytest.mark.parametrize(
    ("algorithm", "kid"),
    [("RS512", "r"), ("PS256", "r"), ("RS256", "unknown"), ("RS256", "e"), ("RS256", "enc"), ("RS256", None)],
)
def test_a_key_has_one_algorithm_and_is_named_exactly(tmp_path: Path, algorithm: str, kid: str | None) -> None:
    scene = Scene(tmp_path, rsa_jwk("r"), ec_jwk("e"), rsa_jwk("enc", use="enc"))

    with pytest.raises(TokenInvalid):
        scene.owner(RSA_KEY, algorithm, kid)


def test_our_public_key_is_no_hmac_secret(tmp_path: Path) -> None:
    scene = Scene(tmp_path, rsa_jwk("r"))
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "r"}, CLAIMS)]
    signing_input = b".".join(base64url_encode(part) for part in parts)
    signature = base64url_encode(hmac.digest(public, signing_input, "sha256"))

    with pytest.raises(TokenInvalid):
        scene.gate.caller_of((signing_input + b"." + signature).decode())


def test_the_only_key_needs_no_name(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {name: value for name, value in rsa_jwk("r").items() if name != "kid"})

    assert scene.owner(RSA_KEY, "RS256", None) == "alice"


def test_a_rotated_key_is_found_within_sixty_seconds_and_the_file_is_not_read_sooner(tmp_path: Path) -> None:
    scene = Scene(tmp_path, rsa_jwk("old"))
    assert scene.owner(RSA_KEY, "RS256", "old") == "alice"
    scene.write({"keys": [rsa_jwk("new", OTHER_RSA_KEY)]})

    scene.seconds += 59
    with pytest.raises(TokenInvalid):
        scene.owner(OTHER_RSA_KEY, "RS256", "new")

    scene.seconds += 1
    assert scene.owner(OTHER_RSA_KEY, "RS256", "new") == "alice"
    with pytest.raises(TokenInvalid):
        scene.owner(RSA_KEY, "RS256", "old")  # it was remembered: a removed key ends that too


def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, rsa_jwk("r"))
    assert scene.owner(RSA_KEY, "RS256", "r") == "alice"

    scene.seconds += 60
    assert not scene.gate._keys.changed()


def test_a_file_that_became_unreadable_keeps_the_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(tmp_path, rsa_jwk("r"))
    scene.write(["nothing"])

    scene.seconds += 60
    with caplog.at_level(logging.ERROR):
        assert scene.owner(RSA_KEY, "RS256", "r") == "alice"

    assert "stay in force" in caplog.text


WEAK_KEY = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- it must be refused


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"keys": []},
        {"keys": [{"kty": "oct", "k": "AAAA" * 16, "kid": "s"}]},
        {"keys": [rsa_jwk("a"), {"kty": "RSA", "kid": "b"}]},
        {"keys": [rsa_jwk("w", WEAK_KEY)]},
        {"keys": [RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True)]},
        {"keys": [ec_jwk("a"), {name: value for name, value in ec_jwk("b").items() if name != "kid"}]},
    ],
)
def test_a_file_without_usable_public_keys_is_refused_at_the_start(tmp_path: Path, document: Any) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(document))

    with pytest.raises(ValueError, match="JWKS"):
        JwksFile(path, lambda: 0.0)


def test_a_short_secret_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="has 5 bytes, expected at least 32"):
        SharedSecret("short")

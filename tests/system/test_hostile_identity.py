"""Whoever has no token, or a forged one, gets nothing: promises C2; tenants and websockets have files of their own."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.system.processes import HTTP, wait_until
from tests.system.stack import CALLS, MIB, SECRET, Stack, good, read_answer, require_problem, token

pytestmark = pytest.mark.usefixtures("unharmed")


AUDIENCE: Final = "upload-gateway"


@pytest.fixture
def task_id(stack: Stack) -> str:
    """A task of somebody who is not the one that asks."""
    found: str = stack.caller("owner").create("owner/file.bin", 2 * MIB, part_size=MIB)["id"]
    return found


def ask(stack: Stack, method: str, path: str, **options: Any) -> httpx.Response:
    return httpx.request(method, stack.gateway.url + path, timeout=20, **{**HTTP, **options})


def ask_with(stack: Stack, authorization: str) -> httpx.Response:
    return ask(stack, "GET", "/v1/tasks", headers={"Authorization": authorization})


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_c37_no_token(stack: Stack, task_id: str, method: str, path: str) -> None:
    answer = ask(stack, method, path.format(id=task_id), content=b"x" * 1000 if method != "GET" else None)

    require_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if call[0] != "GET"])
@pytest.mark.parametrize("expects", [True, False])
def test_c37_not_one_byte_of_the_body_is_read_without_a_token(
    stack: Stack, task_id: str, method: str, path: str, expects: bool
) -> None:
    expect = "Expect: 100-continue\r\n" if expects else ""
    head = f"{method} {path.format(id=task_id)} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MIB}\r\n{expect}\r\n"
    with stack.caller("nobody").connect() as connection:
        connection.sendall(head.encode())
        came = b""
        while b"\r\n\r\n" not in came:
            came += connection.recv(65536)

    assert came.startswith(b"HTTP/1.1 401 ")
    assert (b"connection: close" in came.lower()) == expects


@pytest.mark.parametrize("expects", [True, False])
def test_c37_the_application_sees_nothing_of_a_body_that_came_without_a_token(stack: Stack, expects: bool) -> None:
    before = stack.gateway.metrics().get("gateway_body_bytes_total", 0)
    headers = {"Expect": "100-continue"} if expects else {}
    answer = ask(stack, "POST", "/v1/files?key=a", content=bytes(MIB // 2), headers=headers)

    require_problem(answer, 401, "unauthenticated")
    assert stack.gateway.metrics().get("gateway_body_bytes_total", 0) == before
    assert access_line(stack, answer)["received_bytes"] == 0


def access_line(stack: Stack, answer: httpx.Response) -> dict[str, Any]:
    """The log's line on the request that was answered so, which is written a moment after."""
    request_id = answer.headers["x-request-id"]

    def found() -> list[dict[str, Any]]:
        lines = stack.gateway.log_lines()
        return [line for line in lines if line.get("request_id") == request_id and line["logger"] == "gateway.access"]

    wait_until(lambda: bool(found()), "the line in the log", 5)
    (line,) = found()
    return line


@pytest.mark.parametrize("scheme", ["Basic YTpi", "bearer", "Bearer", "Token abc", "Bearer\tabc", "", "Negotiate x"])
def test_c37_another_scheme_is_no_token(stack: Stack, scheme: str) -> None:
    require_problem(ask_with(stack, scheme), 401, ["unauthenticated", "token_invalid"])


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    told = {"sub": "mallory", "aud": AUDIENCE, "iat": now, "exp": now + 600, **changes}
    return {name: value for name, value in told.items() if value is not None}


def signed(told: dict[str, Any], key: str = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(told, key, algorithm=algorithm, headers=header)


def raw_token(header: bytes, payload: bytes = b"{}", signature: bytes = b"x") -> str:
    return ".".join(base64.urlsafe_b64encode(piece).rstrip(b"=").decode() for piece in (header, payload, signature))


def alg_none() -> str:
    return raw_token(b'{"alg":"none","typ":"JWT"}', json.dumps(claims()).encode(), b"")


def good_but_for_one_bit() -> str:
    whole = signed(claims())
    head, payload, signature = whole.split(".")
    flipped = bytearray(base64.urlsafe_b64decode(signature + "=="))
    flipped[5] ^= 1
    return f"{head}.{payload}.{base64.urlsafe_b64encode(flipped).rstrip(b'=').decode()}"


def claims_changed_after_signing() -> str:
    head, _, signature = signed(claims()).split(".")
    other = base64.urlsafe_b64encode(json.dumps(claims(sub="victim")).encode()).rstrip(b"=").decode()
    return f"{head}.{other}.{signature}"


FORGED: dict[str, Callable[[], str]] = {
    "c38 longer than 8 KiB": lambda: signed(claims(note="x" * 9000)),
    "c38 two segments": lambda: ".".join(signed(claims()).split(".")[:2]),
    "c38 four segments": lambda: signed(claims()) + ".x",
    "c38 no base64": lambda: "!!!.???.***",
    "c38 no json": lambda: raw_token(b"not json"),
    "c38 a list for a header": lambda: raw_token(b"[]"),
    "c38 a deeply nested header": lambda: raw_token(b'{"alg":' + b"[" * 700 + b"]" * 700 + b"}"),
    "c38 deeply nested claims": lambda: raw_token(b'{"alg":"HS256"}', b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"),
    "c38 an odd character": lambda: signed(claims()) + "%00",
    "c39 alg none": alg_none,
    "c39 alg None": lambda: alg_none().replace("none", "None"),
    "c39 no alg": lambda: raw_token(b'{"typ":"JWT"}', json.dumps(claims()).encode()),
    "c39 another secret": lambda: signed(claims(), "another secret, of 32 bytes or more"),
    "c39 another algorithm with our secret": lambda: signed(claims(), SECRET + "x" * 40, "HS512"),
    "c39 a flipped bit": good_but_for_one_bit,
    "c39 changed claims": claims_changed_after_signing,
    "c40 jku": lambda: signed(claims(), jku="http://127.0.0.1:1/keys"),
    "c40 x5u": lambda: signed(claims(), x5u="http://127.0.0.1:1/cert"),
    "c40 jwk": lambda: signed(claims(), jwk={"kty": "oct", "k": "AAAA"}),
    "c40 crit": lambda: signed(claims(), crit=["b64"]),
    "c41 nbf to come": lambda: signed(claims(nbf=int(time.time()) + 300)),
    "c41 iat to come": lambda: signed(claims(iat=int(time.time()) + 300)),
    "c41 no exp": lambda: signed(claims(exp=None)),
    "c41 no aud": lambda: signed(claims(aud=None)),
    "c41 no sub": lambda: signed(claims(sub=None)),
    "c41 exp is text": lambda: signed(claims(exp="tomorrow")),
    "c41 exp is endless": lambda: signed(claims(exp=10**30)),
    "c41 sub is empty": lambda: signed(claims(sub="")),
    "c41 sub is a number": lambda: raw_signed(claims(sub=7)),
    "c41 sub breaks the line": lambda: signed(claims(sub="a\nb")),
    "c43 another audience": lambda: signed(claims(aud="another-service")),
    "c43 audience is a longer name": lambda: signed(claims(aud=AUDIENCE + "x")),
    "c43 another type": lambda: signed(claims(), typ="id+jwt"),
    "c46 buckets is no list": lambda: signed(claims(buckets="files")),
    "c46 actions is no list": lambda: signed(claims(actions="read")),
    "c46 a prefix that is no text": lambda: raw_signed(claims(prefix="\ud800")),
    "c46 a type that is no text": lambda: raw_signed(claims(types=["image/\udfff"])),
    "c46 max_size is negative": lambda: signed(claims(max_size=-1)),
}


def raw_signed(told: dict[str, Any]) -> str:
    """A good signature over claims that PyJWT would not write."""
    unsigned = raw_token(b'{"alg":"HS256","typ":"JWT"}', json.dumps(told).encode()).rpartition(".")[0]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        unsigned.encode(), SECRET.encode()
    )
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize("row", list(FORGED))
def test_c38_to_c46_a_token_that_is_not_ours_opens_nothing(stack: Stack, row: str) -> None:
    answer = ask_with(stack, f"Bearer {FORGED[row]()}")

    document = require_problem(answer, 401, "token_invalid")
    assert "detail" not in document, "every reason reads the same"


def test_c38_a_token_that_is_none_costs_next_to_nothing(stack: Stack) -> None:
    rows = [f"Bearer {make()}" for row, make in FORGED.items() if row.startswith("c38")]
    before = stack.gateway.program.cpu_seconds
    with httpx.Client(base_url=stack.gateway.url, **HTTP) as client:
        for authorization in rows * 30:
            client.get("/v1/tasks", headers={"Authorization": authorization})

    assert (stack.gateway.program.cpu_seconds - before) / (30 * len(rows)) < 0.003, "HTTP's own share is most of it"


def test_c41_an_expired_token_is_told_apart_so_that_its_holder_fetches_another(stack: Stack) -> None:
    require_problem(ask_with(stack, f"Bearer {token('alice', seconds=-60)}"), 401, "token_expired")


def test_c41_a_clock_may_be_half_a_minute_late(stack: Stack) -> None:
    good(ask_with(stack, f"Bearer {token('alice', seconds=-10)}"))


def test_c41_a_token_s_good_name_does_not_outlive_its_time(stack: Stack) -> None:
    """The second look at a token comes from a cache, which has to see that it has expired."""
    fleeting = token("alice", seconds=-29)
    good(ask_with(stack, f"Bearer {fleeting}"))
    deadline = time.monotonic() + 5
    while (answer := ask_with(stack, f"Bearer {fleeting}")).status_code == 200:
        assert time.monotonic() < deadline

    require_problem(answer, 401, "token_expired")


@pytest.fixture(scope="module")
def rsa_stack(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """A gateway that trusts one RSA key, and that key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    path: Path = tmp_path_factory.mktemp("keys") / "jwks.json"
    path.write_text(json.dumps({"keys": [{**public, "kid": "one", "alg": "RS256", "use": "sig"}]}))
    gateway = stack.start_gateway(token_secret="", token_jwks_file=str(path))
    yield gateway.url, key
    gateway.close()


def test_c39_a_key_pair_s_public_half_signs_nothing(rsa_stack: tuple[str, Any]) -> None:
    url, key = rsa_stack
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = raw_token(b'{"alg":"HS256","typ":"JWT","kid":"one"}', json.dumps(claims()).encode()).rpartition(".")[0]
    hmac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(unsigned.encode(), pem)
    confused = f"{unsigned}.{base64.urlsafe_b64encode(hmac).rstrip(b'=').decode()}"
    tokens = {
        "good": jwt.encode(claims(), key, algorithm="RS256", headers={"kid": "one"}),
        "confused": confused,
        "unknown kid": jwt.encode(claims(), key, algorithm="RS256", headers={"kid": "two"}),
        "another algorithm": jwt.encode(claims(), key, algorithm="PS256", headers={"kid": "one"}),
        "shared secret": signed(claims(), kid="one"),
    }

    answers = {
        name: httpx.get(f"{url}/v1/tasks", headers={"Authorization": f"Bearer {bearer}"}, **HTTP)
        for name, bearer in tokens.items()
    }

    good(answers.pop("good"))
    for answer in answers.values():
        require_problem(answer, 401, "token_invalid")


@pytest.mark.promise(26)
@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_c40_no_address_in_a_token_is_visited(stack: Stack, rsa_stack: tuple[str, Any], name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        header = {name: f"http://127.0.0.1:{listener.getsockname()[1]}/keys"}
        of_a_key = jwt.encode(claims(), rsa_stack[1], algorithm="RS256", headers={"kid": "one", **header})
        for url, bearer in ((stack.gateway.url, signed(claims(), **header)), (rsa_stack[0], of_a_key)):
            answer = httpx.get(f"{url}/v1/tasks", headers={"Authorization": f"Bearer {bearer}"}, **HTTP)
            require_problem(answer, 401, "token_invalid")
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_c43_another_issuer_s_tokens_open_nothing(stack: Stack) -> None:
    issuer = "https://issuer.example"
    gateway = stack.start_gateway(token_issuer=issuer)
    told = [claims(), *(claims(iss=other) for other in ("", "issuer.example", issuer + "/", [issuer], 7))]
    for bearer in map(raw_signed, told):
        answer = httpx.get(f"{gateway.url}/v1/tasks", headers={"Authorization": f"Bearer {bearer}"}, **HTTP)
        assert "detail" not in require_problem(answer, 401, "token_invalid")

    ours = {"Authorization": f"Bearer {signed(claims(iss=issuer))}"}
    good(httpx.get(f"{gateway.url}/v1/tasks", headers=ours, **HTTP))
    gateway.close()


def flipped(ticket: str) -> str:
    middle = len(ticket) // 2
    return ticket[:middle] + ("A" if ticket[middle] != "A" else "B") + ticket[middle + 1 :]


def test_c51_another_site_s_form_has_no_effect(stack: Stack) -> None:
    """There are no cookies here: a browser adds nothing that lets anybody in. The Origin is judged all the same."""
    mallory, form = stack.caller("mallory"), "multipart/form-data; boundary=b"
    raw = b'--b\r\nContent-Disposition: form-data; name="file"; filename="cross-site"\r\n\r\nx\r\n--b--\r\n'
    for path, content_type in (("/v1/files?key=cross-site", "text/plain"), ("/v1/files", form)):
        headers = {"Origin": "https://evil.example", "Content-Type": content_type}
        answer = mallory.call("POST", path, content=raw, headers=headers)

        require_problem(answer, 403, "origin_not_allowed")
        assert "access-control-allow-origin" not in answer.headers
    with pytest.raises(FileNotFoundError):
        stack.cos.read("cross-site")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://localhost"]
)
def test_c53_a_preflight_from_another_site_is_refused(stack: Stack, origin: str) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    answer = ask(stack, "OPTIONS", "/v1/tasks", headers=headers)

    require_problem(answer, 403, "origin_not_allowed")
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_c54_forwarded_headers_of_whoever_is_no_proxy_are_ignored(stack: Stack) -> None:
    forged = {
        "X-Forwarded-For": "10.9.8.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=10.9.8.7",
        "X-User-Id": "victim",
        "X-Real-IP": "10.9.8.7",
    }
    answer = stack.caller("mallory behind no proxy").call("GET", "/v1/tasks", headers=forged)

    assert good(answer)["tasks"] == []
    assert access_line(stack, answer)["client"] == "127.0.0.1"


def test_a_token_in_the_query_is_no_token(stack: Stack) -> None:
    bearer = token("alice")
    for name in ("token", "access_token", "authorization"):
        require_problem(ask(stack, "GET", f"/v1/tasks?{name}={bearer}"), 401, "unauthenticated")


def test_two_tokens_are_none(stack: Stack) -> None:
    alice = stack.caller("alice")
    with alice.connect() as connection:
        connection.sendall(alice.head("GET", "/v1/tasks", f"Authorization: Bearer {token('mallory')}"))

        require_problem(read_answer(connection), 400, "bad_request")

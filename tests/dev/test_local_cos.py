"""The local COS as a program of its own, and as browsers meet it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cos.signing import Credentials
from gateway.dev.local_cos import main
from gateway.domain.objects import Bucket
from tests.fakes.cos_caller import CosCaller
from tests.fakes.local_cos import BUCKET, RunningCos

ORIGIN = {"Origin": "http://page.example"}


def test_a_browser_may_ask_before_it_sends(caller: CosCaller) -> None:
    """A preflight carries no signature, and names what it is about to send."""
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization,x-cos-meta-a"}

    answer = caller.call("OPTIONS", "k", headers={**ORIGIN, **asked}, signed=False)

    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
    assert caller.call("OPTIONS", "k", signed=False).code == "AccessDenied"


def test_a_browser_may_read_what_the_sdk_needs(caller: CosCaller) -> None:
    put = caller.call("PUT", "k", headers={**ORIGIN, "x-cos-meta-mine": "1"}, body=b"x").headers
    head = caller.call("HEAD", "k", headers=ORIGIN).headers
    refused = caller.call("GET", "k", headers=ORIGIN, signed=False).headers

    exposed = {name.strip() for name in put["access-control-expose-headers"].split(",")}
    assert {"ETag", "Date", "Content-Length", "x-cos-hash-crc64ecma", "x-cos-next-append-position"} <= exposed
    assert "x-cos-meta-mine" in head["access-control-expose-headers"]
    assert put["access-control-allow-origin"] == refused["access-control-allow-origin"] == ORIGIN["Origin"]
    assert "access-control-allow-origin" not in caller.call("HEAD", "k").headers


def test_a_plain_host_means_the_default_bucket(caller: CosCaller, cos: RunningCos) -> None:
    for host in (f"127.0.0.1:{cos.port}", f"localhost:{cos.port}", "[::1]:9000"):
        assert caller.call("PUT", host, headers={"Host": host}, body=b"x").status == 200, host

    assert len(cos.keys(BUCKET)) == 3


def test_it_runs_alone(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "gateway.dev.local_cos", "--listen", "127.0.0.1:0", "--data", str(tmp_path)),
        *("--bucket", "one-1250000000@ap-guangzhou", "--bucket", "two-1250000000@ap-beijing"),
    ]
    key = {"GATEWAY_COS_SECRET_ID": "AKIDalone", "GATEWAY_COS_SECRET_KEY": "alone-secret"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **key}) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2])
            caller = CosCaller(port, Bucket("two-1250000000", "ap-beijing"), Credentials("AKIDalone", "alone-secret"))

            assert caller.call("PUT", "a/b", body=b"bytes").status == 200
        finally:
            process.terminate()

    assert (tmp_path / "cos" / "two-1250000000" / "a" / "b").read_bytes() == b"bytes"


@pytest.mark.parametrize(
    "wrong", [["--bucket", "no-region"], ["--bucket", "b@r"], ["--bucket", "b@r", "--key", "a:b"], []]
)
def test_wrong_arguments_are_explained(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)

    assert ended.value.code == 2
    assert "usage: python -m gateway.dev.local_cos" in capsys.readouterr().err


def test_s1_what_the_local_cos_does_not_act_on_it_refuses(caller: CosCaller, cos: RunningCos) -> None:
    """So no header or parameter that means something to COS passes a test unseen."""
    put = {"x-cos-callback": "x", "x-cos-website-redirect-location": "/", "x-ci-a": "b", "x-made-up": "1"}
    for name, value in put.items():
        answer = caller.call("PUT", "refused", headers={name: value}, body=b"x")
        assert (answer.status, answer.code) == (501, "NotImplemented"), name
    for method, query in (("PUT", {"image_process": ""}), ("POST", {"uploads": "", "x": "1"})):
        assert caller.call(method, "refused", query, body=b"").code == "NotImplemented"
    for name in ("x-cos-acl", "x-cos-meta-a", "pic-operations", "x-cos-forbid-overwrite"):
        assert caller.call("HEAD", "refused", headers={name: "true"}).status == 501
    assert cos.keys(BUCKET) == []


def test_s1_pic_operations_act_as_coss_do(caller: CosCaller, cos: RunningCos) -> None:
    rules = [{"fileid": "small.png", "rule": "imageSlim"}, {"fileid": "/top.png", "rule": "imageSlim"}]
    said = {"pic-operations": json.dumps({"is_pic_info": 1, "rules": rules})}

    answer = caller.call("PUT", "album/a.png", headers=said, body=b"picture")

    assert (answer.status, answer.texts("Key")) == (200, ["album/a.png", "album/small.png", "top.png"])
    assert {cos.read(BUCKET, key) for key in ("album/a.png", "album/small.png", "top.png")} == {b"picture"}
    assert caller.call("PUT", "b.png", headers={"pic-operations": "{}"}, body=b"x").code == "InvalidArgument"


@pytest.mark.parametrize(
    ("limit", "said", "status"),
    [("image/*;text/css", "image/png", 200), ("image/*", "text/html", 403), ("!text/html", "text/html", 403)],
)
def test_s1_x_cos_mime_limit_acts(caller: CosCaller, limit: str, said: str, status: int) -> None:
    headers = {"x-cos-mime-limit": limit, "Content-Type": said}
    assert caller.call("PUT", "limited", headers=headers, body=b"x").status == status

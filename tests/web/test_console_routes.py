"""The console's files come as a browser may safely use them, and no other file comes at all."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

import gateway
from gateway.web.console_routes import CONSOLE_FILES, console_routes

CONSOLE = Path(gateway.__file__).parent / "console"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=console_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def test_every_file_of_the_console_is_served() -> None:
    assert sorted(CONSOLE_FILES) == sorted(path.name for path in CONSOLE.iterdir())


def loaded_by(name: str) -> set[str]:
    """The module *name* and all that it imports at once."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting += set(re.findall(r'from "\./([^"]+)"', (CONSOLE / module).read_text())) - found
    return found


async def test_the_page_and_all_that_it_loads_take_under_60_kb(client: httpx.AsyncClient) -> None:
    """In the bytes that go over the wire, compressed as every browser asks for it."""
    names = {"index.html", "style.css", *loaded_by("page.js")}
    length = 0
    for name in names:
        answer = await client.get(f"/console/{name}", headers={"Accept-Encoding": "gzip"})
        length += int(answer.headers["content-length"])

    assert 20_000 < length < 60_000


def test_the_page_asks_for_all_its_modules_at_once() -> None:
    """A module that is only found when another has come costs a round trip."""
    preloaded = re.findall(r'rel="modulepreload" href="/console/([^"]+)"', (CONSOLE / "index.html").read_text())

    assert sorted([*preloaded, "page.js"]) == sorted(loaded_by("page.js"))


async def test_a_file_comes_compressed_only_to_those_who_take_that(client: httpx.AsyncClient) -> None:
    whole = (CONSOLE / "page.js").read_bytes()
    etags = set()
    for accepted, coding in (("gzip, deflate, br", "gzip"), ("br;q=1, GZIP;q=0.5", "gzip"), ("identity", None)):
        answer = await client.get("/console/page.js", headers={"Accept-Encoding": accepted})

        assert (answer.content, answer.headers.get("content-encoding")) == (whole, coding)
        assert answer.headers["vary"] == "Accept-Encoding"
        etags.add(answer.headers["etag"])
    refused = await client.get("/console/page.js", headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers
    assert len(etags) == 2


def test_every_import_names_a_file_that_is_served() -> None:
    for path in CONSOLE.glob("*.js"):
        imported = re.findall(r'from "\./([^"]+)"', path.read_text())

        assert set(imported) <= set(CONSOLE_FILES), path.name


def test_the_page_holds_no_script_or_style_of_its_own() -> None:
    page = (CONSOLE / "index.html").read_text()

    assert "<style" not in page
    assert " style=" not in page
    assert not re.search(r"\son[a-z]+=", page)
    assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", page))


@pytest.mark.parametrize("name", CONSOLE_FILES)
async def test_a_file_comes_whole_with_its_type_and_its_guards(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/console/{name}")

    assert answer.status_code == 200
    assert answer.content == (CONSOLE / name).read_bytes()
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript", "ts": "text/plain"}
    kind = kinds[name.rpartition(".")[2]]
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


async def test_the_root_is_the_page(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).content == (CONSOLE / "index.html").read_bytes()


async def test_a_file_the_browser_already_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    etag = (await client.get("/")).headers["etag"]

    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = await client.get("/", headers={"If-None-Match": known})

        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag


async def test_a_file_that_changed_is_sent_again(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers={"If-None-Match": '"older"'})

    assert answer.status_code == 200


async def test_head_tells_the_length_without_the_bytes(client: httpx.AsyncClient) -> None:
    answer = await client.head("/console/style.css", headers={"Accept-Encoding": "identity"})

    assert answer.content == b""
    assert int(answer.headers["content-length"]) == (CONSOLE / "style.css").stat().st_size


@pytest.mark.parametrize(
    "path",
    ["/console/", "/console/../app.py", "/console/%2e%2e/app.py", "/console//etc/passwd", "/page.js"],
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_page_cannot_be_written(client: httpx.AsyncClient) -> None:
    assert (await client.post("/")).status_code == 405


async def test_s16_the_page_keeps_no_window_that_opened_it_and_asks_for_no_device(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")

    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    for feature in ("camera", "geolocation", "microphone", "payment", "usb"):
        assert f"{feature}=()" in answer.headers["permissions-policy"]

"""Imports point one way, the domain is pure, every module has its tests, and calls that lose bytes do not come back."""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parents[1]
_MODULES: Final = sorted((_ROOT / "gateway").rglob("*.py"))
_NAMES: Final = {".".join(path.relative_to(_ROOT).with_suffix("").parts) for path in _MODULES}
_LINES_MAX: Final = 350

# What each layer may import of the gateway, besides itself and the version in gateway/__init__.py.
# Adapters may import the ports that they provide; pure parts of cos serve its two doors.
_LAYERS: Final[Mapping[str, tuple[str, ...]]] = {
    "domain": (),
    "audit": ("domain.*", "telemetry", "tracing"),
    "cos": ("domain.*", "fair_timeout", "telemetry", "tracing", "transfer.ports"),
    "store": ("domain.*", "fair_timeout", "telemetry", "tracing", "transfer.ports"),
    "fair_timeout": (),
    "transfer": ("audit", "collector", "domain.*", "telemetry", "tracing"),
    "hooks": ("domain.*", "telemetry"),
    "web": (
        *("audit", "collector", "domain.*", "fair_timeout", "telemetry", "tracing", "transfer.*"),
        *("cos.signing", "cos.wire*", "cos.xml_tree"),
    ),
    "dev": ("domain.*", "telemetry", "cos.signing", "cos.wire*"),
    "config_values": (),
    "config": ("config_values", "config_edge", "config_limits", "config_tracing", "config_upkeep"),
    "config_edge": ("config_values",),
    "config_tracing": ("config_values",),
    "config_limits": ("config_values", "domain.options"),
    "config_upkeep": ("config_values", "domain.addresses"),
    "telemetry": (),
    "logs": ("log_writer", "telemetry", "tracing"),
    "log_writer": (),
    "loop_watch": ("telemetry",),
    "heap_watch": ("malloc",),
    "gauges": ("telemetry",),
    "observer": ("audit", "domain.*", "telemetry", "tracing"),
    "tracing": (),
    "collector": (),
    "malloc": (),
    "app": ("*",),
    "from_settings": ("*",),
    "upkeep": ("*",),
    "serving": ("*",),
    "commands": ("*",),
    "cli": ("commands.*",),
    "__main__": ("cli",),
}
# `dev` runs the very `serve` of production with settings filled in, so these two know the settings.
_SETTINGS_TOO: Final = {"gateway.dev.plan", "gateway.dev.stack"}

_THIRD_PARTY: Final[Mapping[str, frozenset[str]]] = {
    "domain": frozenset({"fastcrc"}),
    "cos": frozenset({"httpx", "aiohttp", "yarl"}),
    "store": frozenset({"redis"}),
    "transfer": frozenset(),
    "hooks": frozenset({"aiohttp"}),
    "web": frozenset(
        {
            "starlette",
            "uvicorn",
            "h11",
            "python_multipart",
            "jwt",
            "pydantic",
            "pydantic_core",
            "cryptography",
            "websockets",
        }
    ),
    "dev": frozenset({"starlette", "uvicorn", "python_multipart", "pydantic"}),
    "config_values": frozenset({"pydantic", "pydantic_settings"}),
    "config": frozenset({"pydantic", "pydantic_settings"}),
    "config_edge": frozenset({"pydantic", "pydantic_settings"}),
    "config_tracing": frozenset({"pydantic", "pydantic_settings"}),
    "config_limits": frozenset({"pydantic", "pydantic_settings"}),
    "config_upkeep": frozenset({"pydantic", "pydantic_settings"}),
    "telemetry": frozenset({"prometheus_client"}),
    "logs": frozenset({"pydantic_core"}),
    "gauges": frozenset(),
    "observer": frozenset(),
    "audit": frozenset(),
    "tracing": frozenset(),
    "log_writer": frozenset(),
    "loop_watch": frozenset(),
    "heap_watch": frozenset(),
    "collector": frozenset(),
    "malloc": frozenset(),
    "commands": frozenset({"httpx", "jwt", "redis"}),
    "cli": frozenset(),
    "serving": frozenset({"starlette", "uvicorn", "opentelemetry"}),
    "__main__": frozenset(),
}
_IMPURE: Final = frozenset(
    {
        *("asyncio", "concurrent", "multiprocessing", "threading", "queue", "select", "signal", "subprocess"),
        *("datetime", "time", "random", "secrets", "uuid"),
        *("io", "os", "pathlib", "shutil", "socket", "sys", "tempfile", "logging", "urllib.request"),
    }
)
_PURE: Final = ("gateway.domain.*", "gateway.hooks.signing", "gateway.cos.signing", "gateway.cos.wire*")

_NO_TEST_OF_ITS_OWN: Final = {
    "gateway.__main__": "one call of gateway.cli.main, which tests/dev/test_stack.py makes as a user does",
    "gateway.dev.cos_*": "pieces of the local COS, proved whole over its socket by tests/dev/test_local_cos*.py and "
    "by Tencent's own SDKs",
    "gateway.web.cos_*": "pieces of the COS door, proved whole over its socket by tests/system/test_cos_door_*.py; "
    "what decides by itself has its own file besides",
    **dict.fromkeys(
        [f"gateway.commands.{name}" for name in ("ending", "findings", "given_settings", "serve", "dev", "control")]
        + ["gateway.commands.upload", "gateway.commands.file_upload"],
        "thin, or proved whole: tests/test_cli.py, tests/system/test_command_line.py and test_bad_settings.py",
    ),
    "gateway.transfer.ports": "Protocols and plain values only",
    "gateway.transfer.due_tasks": "one Protocol",
    "gateway.transfer.costs": "one Protocol, and one that counts nothing",
}
_LONGER: Final = {
    "gateway/domain/errors.py": "one flat list of every public code",
    "gateway/domain/task.py": "the whole state machine stands in one file on purpose",
}
_ENVIRONMENT: Final = {
    "gateway/commands/calling.py": "the token of whoever calls a gateway, which is no setting of one",
    "gateway/config.py": "the only reader",
    "gateway/dev/local_cos.py": "alone it is no gateway, and has its key where one has it",
    "gateway/serving/listeners.py": "hands the ports that it found to the workers",
    "gateway/serving/run.py": "hands the folder of metrics to the workers",
    "gateway/telemetry.py": "tells prometheus-client its folder, which it takes from nowhere else",
}
_UNIX_TIME: Final[Mapping[str, frozenset[str]]] = {
    "commands": frozenset({"cos_visit", "revoke", "survey", "token"}),
    "cos": frozenset({"client", "credentials"}),
    "dev": frozenset({"local_cos"}),
    "hooks": frozenset({"sender"}),
    "store": frozenset({"batch_store", "index_repair", "revocations", "task_quota", "task_store"}),
    "transfer": frozenset(
        {"batches", "completion", "control", "ending", "engine", "intents", "notices", "sweeper", "uploads"}
    ),
    "web": frozenset(
        {"admission", "auth", "cos_answers", "cos_auth", "cos_form_calls", "cos_keys"}
        | {"progress_socket", "task_document", "tickets"}
    ),
}
"""Who tells moments to others: in Redis, in documents and tokens, in signatures."""


def _module(path: Path) -> str:
    return ".".join(path.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__")


def _layer(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that *tree* imports; ``from gateway import cos`` is gateway.cos, not gateway."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                joined = f"{module}.{alias.name}"
                inside = joined in _NAMES or f"{joined}.__init__" in _NAMES
                yield joined if inside else module


def _may_import(module: str, target: str) -> bool:
    if target == "gateway" or _layer(target) == _layer(module):
        return True
    if module in _SETTINGS_TOO and _layer(target) in ("config", "config_values"):
        return True
    return any(fnmatchcase(target.removeprefix("gateway."), allowed) for allowed in _LAYERS[_layer(module)])


def _ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(_ROOT)) for path in paths]


@pytest.mark.parametrize("path", _MODULES, ids=_ids(_MODULES))
def test_imports_point_one_way(path: Path) -> None:
    module = _module(path)
    if module == "gateway":
        return
    ours = [name for name in imported(_tree(path)) if name.split(".")[0] == "gateway"]

    assert [name for name in ours if not _may_import(module, name)] == []


@pytest.mark.parametrize("path", _MODULES, ids=_ids(_MODULES))
def test_each_layer_uses_its_own_libraries_only(path: Path) -> None:
    allowed = _THIRD_PARTY.get(_layer(_module(path)))
    if allowed is None:
        return
    tops = {name.split(".")[0] for name in imported(_tree(path))}

    assert tops - sys.stdlib_module_names - {"gateway"} <= allowed


def test_the_import_check_sees_through_from_imports() -> None:
    tree = ast.parse("from gateway import cos, VERSION\nfrom gateway.cos import signing\nimport gateway.web.auth")

    assert list(imported(tree)) == ["gateway.cos", "gateway", "gateway.cos.signing", "gateway.web.auth"]
    assert not _may_import("gateway.domain.task", "gateway.cos")
    assert not _may_import("gateway.web.auth", "gateway.cos.client")
    assert _may_import("gateway.web.auth", "gateway.cos.wire_requests")


def _pure_modules() -> list[Path]:
    return [path for path in _MODULES if any(fnmatchcase(_module(path), name) for name in _PURE)]


@pytest.mark.parametrize("path", _pure_modules(), ids=_ids(_pure_modules()))
def test_what_is_pure_has_no_clock_no_loop_no_log_and_no_files(path: Path) -> None:
    tree = _tree(path)
    names = set(imported(tree))
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}

    assert (names | {name.split(".")[0] for name in names}) & _IMPURE == set()
    assert calls & {"open", "print", "input"} == set()
    assert not any(isinstance(node, ast.Await) for node in ast.walk(tree))


def _called_methods(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func.value), node.func.attr


@pytest.mark.parametrize("path", _MODULES, ids=_ids(_MODULES))
def test_calls_that_lose_bytes_or_spool_them_to_disk_are_not_made(path: Path) -> None:
    tree = _tree(path)
    methods = list(_called_methods(tree))
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | set(imported(tree))

    assert not any(method == "is_disconnected" for _, method in methods)
    assert not any(method == "form" and "request" in owner.lower() for owner, method in methods)
    assert words & {"BaseHTTPMiddleware", "MockTransport", "starlette.middleware.base"} == set()
    assert "follow_redirects=True" not in path.read_text()


@pytest.mark.parametrize("path", _MODULES, ids=_ids(_MODULES))
def test_the_environment_has_one_reader(path: Path) -> None:
    if str(path.relative_to(_ROOT)) in _ENVIRONMENT:
        return
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "environb", "getenv"), f"line {node.lineno}"


@pytest.mark.parametrize("path", _MODULES, ids=_ids(_MODULES))
def test_b54_what_lasts_is_measured_by_a_clock_that_nobody_can_set(path: Path) -> None:
    for line in path.read_text().splitlines():
        if re.search(r"\btime\.time\b", line):
            assert path.stem in _UNIX_TIME.get(_layer(_module(path)), ()), line
            assert re.search(r"\bclock: [^=]+ = time\.time\b|\btime\.time\(\)", line), line


def _tests_of(module: str) -> list[Path]:
    *folders, name = module.split(".")[1:]
    folder = _ROOT.joinpath("tests", *folders)
    return [*folder.glob(f"test_{name}.py"), *folder.glob(f"test_{name}_*.py")]


def test_every_module_has_its_test_file() -> None:
    modules = [_module(path) for path in _MODULES if path.name != "__init__.py"]
    excused = {name for name in modules if any(fnmatchcase(name, pattern) for pattern in _NO_TEST_OF_ITS_OWN)}

    assert [name for name in modules if not _tests_of(name) and name not in excused] == []


def test_modules_stay_short_enough_to_be_read_at_once() -> None:
    lengths = {str(path.relative_to(_ROOT)): len(path.read_text().splitlines()) for path in _MODULES}

    assert {name: count for name, count in lengths.items() if count > _LINES_MAX and name not in _LONGER} == {}


def test_no_test_mocks_and_system_tests_stay_outside() -> None:
    for path in sorted((_ROOT / "tests").rglob("*.py")):
        if "node_modules" in path.parts or path == Path(__file__):
            continue
        names = set(imported(_tree(path)))
        tops = {name.split(".")[0] for name in names}
        assert not {"unittest.mock", "mock", "pytest_mock"} & (names | tops), path
        assert "MockTransport" not in path.read_text(), path
        assert "system" not in path.parts or "gateway" not in tops, path

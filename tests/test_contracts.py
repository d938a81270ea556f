"""What is written down is what the code does: documents that repeat the code are compared with it here."""

import re
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from gateway.config import Settings
from gateway.config_values import as_text

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

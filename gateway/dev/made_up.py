"""What `dev` makes up where nothing is set: secrets, kept in the data folder so that tokens survive a restart."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_FILE: Final = "dev-secrets.json"


@dataclass(frozen=True, slots=True)
class MadeUpSecrets:
    """Secrets of one data folder, good for nothing beyond it."""

    token_secret: str
    cos_secret_id: str
    cos_secret_key: str

    def __repr__(self) -> str:
        return "MadeUpSecrets(***)"


def read_secrets(data: Path) -> MadeUpSecrets | None:
    """The secrets that an earlier `dev` kept in *data*, if there are any."""
    try:
        return MadeUpSecrets(**json.loads((data / _FILE).read_text()))
    except FileNotFoundError:
        return None


def keep_secrets(data: Path) -> MadeUpSecrets:
    """The secrets kept in *data*, made up first where there are none; only their owner may read the file."""
    kept = read_secrets(data)
    if kept is not None:
        return kept
    made = MadeUpSecrets(
        token_secret=secrets.token_urlsafe(32),
        cos_secret_id="AKID" + secrets.token_hex(16),
        cos_secret_key=secrets.token_hex(16),
    )
    data.mkdir(parents=True, exist_ok=True)
    new = data / f"{_FILE}.new"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(made), file)
    new.replace(data / _FILE)
    return made

import stat
from pathlib import Path

from gateway.dev.made_up import keep_secrets, read_secrets


def test_secrets_made_up_once_are_the_same_ever_after(tmp_path: Path) -> None:
    made = keep_secrets(tmp_path / "data")

    assert keep_secrets(tmp_path / "data") == made
    assert read_secrets(tmp_path / "data") == made


def test_each_folder_has_secrets_of_its_own(tmp_path: Path) -> None:
    first, second = keep_secrets(tmp_path / "a"), keep_secrets(tmp_path / "b")

    assert first.token_secret != second.token_secret
    assert first.cos_secret_key != second.cos_secret_key
    assert len(first.token_secret) >= 32


def test_only_their_owner_may_read_them(tmp_path: Path) -> None:
    keep_secrets(tmp_path)

    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_they_do_not_show_when_printed(tmp_path: Path) -> None:
    made = keep_secrets(tmp_path)

    assert made.token_secret not in repr(made)


def test_nothing_is_made_up_by_looking(tmp_path: Path) -> None:
    assert read_secrets(tmp_path) is None
    assert list(tmp_path.iterdir()) == []

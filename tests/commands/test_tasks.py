from gateway.commands.tasks import row, table

TASK = {"id": "abc", "state": "uploading", "percent": 0.999, "size": 1536, "key": "a/b.bin", "error": None}


def test_a_row_tells_what_is_known() -> None:
    assert row(TASK) == ("abc", "uploading", "99 %", "1.5 KiB", "a/b.bin", "")
    unknown = {**TASK, "percent": None, "size": None, "error": {"code": "upload_lost"}}
    assert row(unknown) == ("abc", "uploading", "-", "-", "a/b.bin", "upload_lost")


def test_a_key_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in "".join(row({**TASK, "key": "a\x1b[2Jb\u202e"}))


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table([("ID", "STATE", "X"), ("abc", "ok", "")]) == ["ID   STATE  X", "abc  ok"]

"""What the local COS knows of its uploads after it was killed."""

import shutil
from pathlib import Path

import pytest

from gateway.dev.cos_uploads import LocalUpload, UploadDisk

BUCKET = "files-1250000000"


def begun(disk: UploadDisk, parts: int) -> LocalUpload:
    """An open upload with so many parts, each a file as the server names it."""
    upload = disk.initiate(BUCKET, "a.bin", {}, 1.0)
    for number in range(1, parts + 1):
        (upload.folder / f"{number:05d}-{'0' * 32}-{'0' * 16}").write_bytes(b"part")
    return upload


def test_an_upload_is_known_with_its_parts_to_the_next_server(tmp_path: Path) -> None:
    upload = begun(UploadDisk(tmp_path, [BUCKET]), 3)

    (known,) = UploadDisk(tmp_path, [BUCKET]).all(BUCKET)

    assert (known.upload_id, known.key, sorted(known.parts)) == (upload.upload_id, "a.bin", [1, 2, 3])


def test_of_an_upload_that_ended_as_its_server_was_killed_no_part_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = UploadDisk(tmp_path, [BUCKET])
    upload = begun(disk, 3)

    def killed(folder: Path, **_: object) -> None:
        next(folder.glob("00002-*")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            disk.close(upload)

    assert UploadDisk(tmp_path, [BUCKET]).all(BUCKET) == []
    assert not upload.folder.exists()

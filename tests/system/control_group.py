"""Control groups, version 1, where this machine lets us make some: what a container's limits are to a process."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_NUMBERS: Final = itertools.count()
_AS_IN_A_CONTAINER: Final = """
echo $$ > "$1/cgroup.procs" && mount --make-rprivate / && mount --bind "$1" "$0" || exit 70
shift
exec "$@"
"""


class ControlGroup:
    """One group below the root of *controller*; processes are in it until they end, or are let out."""

    def __init__(self, controller: str) -> None:
        self._hierarchy = _ROOT / controller
        self.folder = self._hierarchy / f"gateway-test-{os.getpid()}-{next(_NUMBERS)}"

    @property
    def launcher(self) -> Sequence[str]:
        """Runs the command line behind it in this group, which it takes for the root, as in a container."""
        return ["unshare", "-m", "sh", "-c", _AS_IN_A_CONTAINER, str(self._hierarchy), str(self.folder)]

    def write(self, name: str, value: int) -> None:
        (self.folder / f"{self.folder.parent.name}.{name}").write_text(str(value))

    def read(self, name: str) -> dict[str, int]:
        """The file's lines, each a name and a number."""
        text = (self.folder / f"{self.folder.parent.name}.{name}").read_text()
        return {key: int(value) for key, value in (line.split() for line in text.splitlines())}

    def take_in(self, pid: int) -> None:
        (self.folder / "cgroup.procs").write_text(str(pid))

    def let_out(self, pid: int) -> None:
        (self._hierarchy / "cgroup.procs").write_text(str(pid))


@contextmanager
def control_group(controller: str, limits: Mapping[str, int]) -> Iterator[ControlGroup | None]:
    """A group with *limits*, which must be empty again at the end; None where we may not make one."""
    group = ControlGroup(controller)
    made = _can_make(group.folder)
    try:
        for name, value in limits.items() if made else ():
            group.write(name, value)
        yield group if made else None
    finally:
        if made:
            group.folder.rmdir()


def _can_make(folder: Path) -> bool:
    try:
        folder.mkdir()
    except OSError:
        return False
    return True

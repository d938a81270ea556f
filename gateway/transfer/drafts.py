"""A task as its creator describes it, before it is written anywhere."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.domain.errors import InvalidField, InvalidMetadata, KeyNotAllowed
from gateway.domain.fingerprint import Fingerprint
from gateway.domain.object_headers import FORBID_OVERWRITE, META
from gateway.domain.objects import ObjectAddress
from gateway.domain.parts import MIB, plan_part_size
from gateway.domain.picture_operations import PIC_OPERATIONS
from gateway.domain.policy import Caller, Destinations
from gateway.domain.task import BodyMode, Intent, Task, TaskState, task_id_of
from gateway.domain.write_headers import headers_of_write
from gateway.transfer.ports import Clock
from gateway.transfer.typed_source import TypeLook

MAX_SLICE_BYTES: Final = 64 * MIB
"""A file that goes in one PUT is buffered whole: above this it is cut into parts whatever ``slice_size`` says."""
MAX_OPTIONS_BYTES: Final = 6144
"""Names and values of a task's headers: they stay in Redis until it ends."""
DEFAULT_ASYNC_LIMIT: Final = 3
"""Parts of one sequential body in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What a caller says of a file to come. Sizes in bytes, None where unknown or left to the gateway."""

    key: str
    bucket: str | None = None
    region: str | None = None
    size: int | None = None
    part_size: int | None = None
    slice_size: int = MIB
    async_limit: int = DEFAULT_ASYNC_LIMIT
    content_type: str | None = None
    client_ref: str | None = None
    forbid_overwrite: bool = False
    fingerprint: Fingerprint | None = None
    batch_id: str | None = None
    object_headers: Mapping[str, str] = field(default_factory=dict)
    part_headers: Mapping[str, str] = field(default_factory=dict)


class Drafts:
    """Makes tasks of what callers say, as far as that is allowed.

    Args:
        task_ttl_seconds: how long a task lives after its last change.
    """

    def __init__(self, destinations: Destinations, task_ttl_seconds: int, clock: Clock) -> None:
        self._destinations = destinations
        self._task_ttl_seconds = task_ttl_seconds
        self._clock = clock

    def key_for(self, caller: Caller, bucket: str | None, region: str | None, name: str) -> str:
        """The key of a file called *name* whose caller gave none: below the narrowest prefix that holds for them."""
        place = self._destinations.find(caller.policy, bucket, region)
        return max(caller.policy.prefix, place.prefix, key=len) + name

    def is_looked_at(self, caller: Caller, new: NewTask) -> bool:
        """Whether the bucket that *new* is for looks at its files."""
        return self._destinations.find(caller.policy, new.bucket, new.region).types is not None

    def as_it_shows(self, caller: Caller, new: NewTask, head: bytes) -> NewTask:
        """*new* under the type that *head*, its first bytes, shows. Raises TypeMismatch."""
        place = self._destinations.find(caller.policy, new.bucket, new.region)
        look = TypeLook(caller, place, new.content_type)
        look.judge(head)
        if not look.headers:
            return new
        headers = {**new.object_headers, **look.headers}
        return replace(new, content_type=headers["content-type"], object_headers=headers)

    def late_headers(self, caller: Caller, task: Task, said: Mapping[str, str]) -> dict[str, str]:
        """What of *said*, COS's headers that *caller* sends as the parts of *task* become one, goes with that call.

        SDKs say the metadata of the upload's begin again. After a loss of Redis nobody knows any more what that was.

        Raises:
            InvalidMetadata: it is other metadata, which COS would not keep.
            GatewayError: it may not be said.
        """
        place = self._destinations.of(task.at)
        if place is None:
            raise KeyNotAllowed("The destination is none of the gateway's any more.")
        known = task.object_headers
        late = headers_of_write(caller, place, task.at.key, said, forbid_overwrite=FORBID_OVERWRITE in known)
        if known and any(known.get(name) != late[name] for name in late if name.startswith(META)):
            raise InvalidMetadata("The metadata is not that which the upload was begun with.")
        return {name: late[name] for name in (FORBID_OVERWRITE, PIC_OPERATIONS) if name in late}

    def task(self, caller: Caller, new: NewTask) -> Task:
        """The task that *new* asks for, which nobody knows yet.

        Raises:
            GatewayError: the caller's policy or the bucket does not allow it.
        """
        place = self._destinations.find(caller.policy, new.bucket, new.region)
        caller.check_key(place, new.key)
        caller.check_type(place, new.content_type)
        if new.size is not None:
            caller.check_size(new.size)
        slice_size = min(new.slice_size, MAX_SLICE_BYTES)
        now = self._clock()
        headers = headers_of_write(caller, place, new.key, new.object_headers, forbid_overwrite=new.forbid_overwrite)
        _require_short(headers, new.part_headers)
        at = ObjectAddress(place.bucket, new.key)
        return Task(
            id=task_id_of(secrets.token_bytes(16)),
            owner=caller.owner,
            at=at,
            size=new.size,
            part_size=plan_part_size(new.size, new.part_size),
            slice_size=slice_size,
            async_limit=new.async_limit,
            intent=Intent.INITIATE if new.size is None or new.size > slice_size else Intent.NONE,
            client_ref=new.client_ref,
            content=None if new.fingerprint is None else new.fingerprint.content_of(at, headers),
            batch_id=new.batch_id,
            object_headers=headers,
            part_headers=dict(new.part_headers),
            created_at=now,
            updated_at=now,
            expires_at=now + self._task_ttl_seconds,
        )

    def whole(self, caller: Caller, new: NewTask, draft: Task, size: int) -> Task:
        """*draft*, the task that *new* asks for, once its file of *size* bytes is here to go to COS in one PUT.

        Raises:
            FileTooLarge: the caller's policy does not allow the size.
        """
        caller.check_size(size)
        return replace(
            draft,
            size=size,
            part_size=plan_part_size(size, new.part_size),
            state=TaskState.COMPLETING,
            intent=Intent.PUT,
            mode=BodyMode.CONTENT,
            writer=1,
        )


def _require_short(*headers: Mapping[str, str]) -> None:
    total = sum(len(name) + len(value) for each in headers for name, value in each.items())
    if total > MAX_OPTIONS_BYTES:
        raise InvalidField(f"The options have {total} bytes in all, expected at most {MAX_OPTIONS_BYTES}.")

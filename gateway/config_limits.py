"""The settings of what callers may ask for, and of what may lie in a bucket."""

from collections.abc import Iterator

from pydantic import Field
from pydantic_settings import BaseSettings

from gateway.config_values import BucketOptions, BucketTypes
from gateway.domain.options import Option, is_pattern


class LimitSettings(BaseSettings):
    """What one caller may take from the others."""

    bucket_types: BucketTypes = Field(
        default=(),
        description="alias=type:type,… where a bucket takes these media types only, image/* for every image; its files "
        "are then looked at, and shown to nobody but saved.",
    )
    bucket_options: BucketOptions = Field(
        default=(),
        description="alias=option:option,… that callers may use in a bucket, * for all where one owner has it to "
        "himself; a bucket that is not listed is taken to serve several owners, and allows none.",
    )
    requests_per_subject_rate: float = Field(
        default=100,
        ge=0,
        description="What one token subject may ask for a second, per process: a request counts 1, and 1 more for each "
        "4 KiB that are parsed and each 10 tasks that are loaded; 0 sets no bound.",
    )
    requests_per_address_rate: float = Field(
        default=0,
        ge=0,
        description="Requests a second from one address, perhaps a whole office's, per process; 0 sets no bound.",
    )
    creates_per_subject_rate: float = Field(
        default=100,
        ge=0,
        description="Tasks that a subject may create a second ahead of their bytes, per process; 0 sets no bound.",
    )
    bad_tokens_per_minute_count: float = Field(
        default=20,
        ge=0,
        description="Bad tokens or signatures from one address before those not seen before are refused unread.",
    )
    unknown_ids_per_minute_count: float = Field(
        default=60,
        ge=0,
        description="Tasks, batches and uploads that are not there, or not theirs, that a subject may name.",
    )
    looks_per_subject_rate: float = Field(
        default=50,
        ge=0,
        description="Calls to COS a second for one token subject that only look (HEAD, pages of lists), per process; 0 "
        "sets no bound.",
    )
    tasks_per_subject_count: int = Field(
        default=100_000,
        ge=1,
        description="Unfinished tasks that one token subject may have; each KiB of options, and six parts, count too.",
    )
    state_per_subject_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1024 * 1024,
        description="Redis memory for one token subject's ended tasks, batches and Idempotency-Keys, of which the "
        "oldest go first, and as much again for tails; never more than a sixteenth of Redis's maxmemory.",
    )
    bodies_count: int = Field(default=1024, ge=1, description="Bodies received at once, per process.")
    bodies_per_subject_count: int = Field(
        default=512, ge=1, description="Bodies received at once of one token subject, per process."
    )
    token_life_seconds: int = Field(
        default=86_400,
        ge=60,
        description="Longest life of a token, iat to exp; it needs an iat. Revocations count for as long.",
    )
    token_recheck_seconds: float = Field(
        default=15,
        gt=0,
        le=60,
        description="Time between looks at who was revoked, and at the tokens of bodies under way.",
    )

    def _limit_problems(self, aliases: set[str]) -> Iterator[str]:
        if not {rule.alias for rule in self.bucket_types} <= aliases:
            yield "GATEWAY_BUCKET_TYPES names an alias that is not in GATEWAY_BUCKETS."
        if not {rule.alias for rule in self.bucket_options} <= aliases:
            yield "GATEWAY_BUCKET_OPTIONS names an alias that is not in GATEWAY_BUCKETS."
        if not all(is_pattern(option) for rule in self.bucket_options for option in rule.options):
            yield f"GATEWAY_BUCKET_OPTIONS names an option that is none of {', '.join(Option)}, nor a pattern of them."

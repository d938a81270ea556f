"""What the settings say, as the objects that a gateway is built of."""

from gateway.config import Settings
from gateway.cos.credentials import CredentialSource, FileCredentials, FixedCredentials
from gateway.cos.signing import Credentials
from gateway.domain.objects import Bucket
from gateway.domain.policy import Destination, Destinations
from gateway.web.admission import AdmissionLimits
from gateway.web.auth import Authenticator, TokenBounds
from gateway.web.sealing import Sealer


def credentials_of(settings: Settings) -> CredentialSource:
    """Where *settings* say that the COS keys come from."""
    if settings.cos_credentials_file is not None:
        return FileCredentials(settings.cos_credentials_file)
    return FixedCredentials(
        Credentials(
            settings.cos_secret_id.get_secret_value(),
            settings.cos_secret_key.get_secret_value(),
            settings.cos_session_token.get_secret_value() or None,
            None,
        )
    )


def destinations_of(settings: Settings) -> Destinations:
    """The buckets that there are, with the types and options that each takes; without a line of its own no option."""
    types = {rule.alias: rule.types for rule in settings.bucket_types}
    options = {rule.alias: rule.options for rule in settings.bucket_options}
    return Destinations(
        tuple(
            Destination(
                place.alias,
                Bucket(place.name, place.region),
                place.prefix,
                types.get(place.alias),
                options.get(place.alias, ()),
            )
            for place in settings.buckets
        )
    )


def authenticator_of(settings: Settings) -> Authenticator:
    """Who checks tokens."""
    issuer, audience = settings.token_issuer or None, settings.token_audience
    bounds = TokenBounds(settings.token_life_seconds, settings.max_file_size_bytes)
    resolved = destinations_of(settings).resolved
    if settings.token_jwks_file is not None:
        path = settings.token_jwks_file
        return Authenticator.with_jwks_file(path, audience, issuer, bounds=bounds, resolved=resolved)
    secret = settings.token_secret.get_secret_value()
    return Authenticator.with_secret(secret, audience, issuer, bounds=bounds, resolved=resolved)


def admission_limits_of(settings: Settings) -> AdmissionLimits:
    """What callers may ask for, and how often."""
    return AdmissionLimits(
        requests_per_subject=settings.requests_per_subject_rate,
        requests_per_address=settings.requests_per_address_rate,
        creates_per_subject=settings.creates_per_subject_rate,
        bad_tokens_per_address_minute=settings.bad_tokens_per_minute_count,
        unknown_ids_per_subject_minute=settings.unknown_ids_per_minute_count,
        looks_per_subject=settings.looks_per_subject_rate,
        bodies=settings.bodies_count,
        bodies_per_subject=settings.bodies_per_subject_count,
    )


def sealer_of(settings: Settings) -> Sealer:
    """Who seals tickets, cursors and issued keys: with the seal keys, or one that the token secret gives."""
    keys = {key.id: key.secret.get_secret_value() for key in settings.seal_keys}
    if keys:
        return Sealer(keys, settings.seal_keys[0].id)
    return Sealer.derive_from_secret(settings.token_secret.get_secret_value())


def allowed_hosts_of(settings: Settings) -> frozenset[str]:
    """The hosts that requests may name: lower-case names without ports."""
    if settings.allowed_hosts:
        return frozenset(host.lower() for host in settings.allowed_hosts)
    listens = (settings.listen, settings.cos_listen)
    return frozenset({"localhost", "127.0.0.1", "[::1]", *(at.host.lower() for at in listens if at is not None)})

"""Variables that look like settings and are none: a limit with a typing error is no limit."""

import re
from difflib import get_close_matches
from typing import Final

from gateway.config import known_names, unknown_names

_SERVICE_LINK: Final = re.compile(r"GATEWAY_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT\w*|PORT(?:_\d+_(?:TCP|UDP)\w*)?)")
"""What Kubernetes and Docker put into every container beside a service that is called ``gateway``."""
_ALIKE: Final = 0.75


def misspelt_settings() -> list[str]:
    """One sentence for each, with the setting that may be meant."""
    return [_sentence(name) for name in unknown_names() if not _SERVICE_LINK.fullmatch(name)]


def _sentence(name: str) -> str:
    alike = get_close_matches(name.upper(), sorted(known_names()), n=1, cutoff=_ALIKE)
    return f"{name} is no setting of ours: " + (f"did you mean {alike[0]}?" if alike else "take it out.")

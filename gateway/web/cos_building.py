"""The COS door, built from the use cases that it translates to."""

from collections.abc import Collection

from gateway.domain.policy import Destinations
from gateway.telemetry import Metrics
from gateway.transfer.completion import Completion
from gateway.transfer.control import Control
from gateway.transfer.engine import Engine
from gateway.transfer.object_calls import ObjectCalls
from gateway.transfer.relay import PartRelay
from gateway.transfer.sequential import SequentialRelay
from gateway.transfer.streamed_put import StreamedPut
from gateway.transfer.uploads import Uploads
from gateway.web.admission import Admission
from gateway.web.cos_auth import CosAuth
from gateway.web.cos_backoff import Backoff
from gateway.web.cos_door import CosDoor
from gateway.web.cos_form_calls import FormCalls
from gateway.web.cos_keys import KeyIssuer
from gateway.web.cos_list_calls import ListCalls
from gateway.web.cos_object_calls import SingleCalls
from gateway.web.cos_upload_calls import UploadCalls
from gateway.web.drain import Drain


def build_cos_door(
    engine: Engine,
    completion: Completion,
    sequential: SequentialRelay,
    control: Control,
    destinations: Destinations,
    issuer: KeyIssuer,
    admission: Admission,
    *,
    fields_seconds: float,
    allowed_hosts: Collection[str],
    allowed_origins: Collection[str],
    metrics: Metrics,
    drain: Drain,
) -> CosDoor:
    """The door over *engine* and its use cases, for keys that *issuer* issues."""
    auth, uploads = CosAuth(issuer, destinations, admission.bad_proofs), Uploads(engine, control)
    puts = StreamedPut(engine, completion, control, sequential)
    handlers = {
        **UploadCalls(admission, control, uploads, PartRelay(engine), Backoff()).handlers(),
        **ListCalls(uploads).handlers(),
        **SingleCalls(puts, ObjectCalls(engine, destinations)).handlers(),
    }
    return CosDoor(
        auth,
        admission,
        handlers,
        FormCalls(auth, admission, puts, fields_seconds=fields_seconds),
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
        metrics=metrics,
        drain=drain,
    )

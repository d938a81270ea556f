/** What to do about each error of the gateway, by the words of the languages' `advice`. */

const CODES = {
  network: "network",
  signIn: "unauthenticated token_invalid token_expired",
  lost: "upload_lost",
  anew: "integrity_failed task_not_found task_expired parts_missing storage_integrity object_not_found",
  restart: "task_paused task_error",
  ask: "forbidden option_not_allowed type_not_allowed file_too_large body_too_large too_many_uploads",
  key: "key_not_allowed",
  rename: "invalid_key invalid_metadata",
  exists: "object_exists object_conflict object_not_appendable append_position",
  choose: "file_unreadable file_missing",
  finish: "quota_exceeded",
  type: "type_mismatch",
  differs: "file_differs",
  moved:
    "task_canceled task_succeeded task_completing body_superseded part_in_progress version_mismatch batch_not_found " +
    "illegal_transition precondition_failed task_mode idempotency_conflict",
  denied: "storage_denied",
  operator:
    "storage_refused storage_address_refused storage_untrusted credentials_unavailable unknown_destination bad_host " +
    "origin_not_allowed internal",
};

const ADVICE = new Map();
for (const advice in CODES) for (const code of CODES[advice].split(" ")) ADVICE.set(code, advice);

/** The name of the advice for a problem; one that is not listed passes by itself, or else is a fault of this page. */
export function adviceFor({ code, retryable }) {
  return ADVICE.get(code) ?? (retryable ? "wait" : "report");
}

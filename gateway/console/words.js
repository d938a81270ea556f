/** Everything the page says in words and numbers. */

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

export function bytes(count) {
  if (count === null) return "unknown size";
  if (count < 1000) return count === 1 ? "1 byte" : `${count} bytes`;
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(count) / 3));
  const value = count / 1000 ** power;
  return `${value.toFixed(value < 9.95 && power > 1 ? 1 : 0)} ${UNITS[power]}`;
}

export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

/** Seconds until `left` bytes have gone, null when nobody can tell. */
export function secondsLeft(left, speed) {
  return speed > 0 ? left / speed : null;
}

/** 99.9 % is not 100 %. */
export function percent(part) {
  return `${Math.floor(part * 100)} %`;
}

export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

const STATES = { completing: "Finishing", success: "Done", error: "Failed" };
const WAITS = {
  offline: "Offline, waiting for the network",
  busy: "The gateway is busy, trying again",
  signed_out: "Waiting for you to sign in",
};

/** One word or a few for how an entry of the list stands. */
export function stateOf(entry) {
  if (entry.waiting && entry.state !== "paused") return WAITS[entry.waiting];
  if (entry.needsFile && entry.state !== "paused" && entry.state !== "error") return "Interrupted";
  return STATES[entry.state] ?? entry.state[0].toUpperCase() + entry.state.slice(1);
}

/** The numbers of an entry: how much, how fast, how long. */
export function factsOf({ state, size, loaded, percent: part, speed, secondsLeft }) {
  if (state === "success" || state === "canceled" || loaded === 0) return bytes(size);
  const facts = [`${bytes(loaded)} of ${bytes(size)}`];
  if (size) facts.push(percent(part));
  if (speed > 0) facts.push(`${bytes(Math.round(speed))}/s`);
  if (secondsLeft !== null) facts.push(`${duration(secondsLeft)} left`);
  return facts.join(" · ");
}

const ANEW = "Retry sends the whole file again.";
const ASK = "Ask for a token that allows it.";
const ADVICE = {
  network: "Check the connection, then try again.",
  file_unreadable: "Choose the file again.",
  file_differs: "Choose the file that was being sent, or cancel this task and send the new file.",
  upload_lost: ANEW,
  integrity_failed: ANEW,
  task_not_found: ANEW,
  task_expired: ANEW,
  key_not_allowed: "Change the folder, or ask for a token that covers it.",
  invalid_key: "Change the folder or rename the file.",
  forbidden: ASK,
  type_not_allowed: ASK,
  file_too_large: ASK,
  storage_denied: "Tell whoever runs the gateway: its COS keys lack a right.",
};

/** An error as sentences: what happened, and what to do. */
export function troubleOf({ code, title, detail, retryable }) {
  const advice = ADVICE[code] ?? (retryable ? "Try again in a moment." : "");
  return [title, detail, advice].filter(Boolean).map((text) => text.replace(/[^.?!]$/, "$&.")).join(" ");
}

/** The bearer token of this tab. */

import { keep, kept } from "./storage.js";

const PLACE = ["sessionStorage", "gateway.token"];

/** The token of the address, which is then taken out of it; null where there is none. */
export function givenToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname + location.search);
  return given || null;
}

/** The token that this tab has, or had before a reload. */
export function keptToken() {
  return kept(...PLACE);
}

export function keepToken(token) {
  keep(...PLACE, token);
}

/** Whose `token` is, the key prefix it is limited to, and its end in Unix seconds: what it says itself, "" and 0 for what
 * it does not say. */
export function claimsOf(token) {
  try {
    const claims = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const told = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(claims), (c) => c.charCodeAt(0))));
    return { subject: text(told.sub), prefix: text(told.prefix), end: typeof told.exp === "number" ? told.exp : 0 };
  } catch {
    return { subject: "", prefix: "", end: 0 }; // not ours to judge: the gateway will
  }
}

/** Whether two tokens are known to be one person's. */
export function areOfOne(token, other) {
  const { subject } = claimsOf(token);
  return token === other || (subject !== "" && subject === claimsOf(other).subject);
}

function text(claim) {
  return typeof claim === "string" ? claim : "";
}

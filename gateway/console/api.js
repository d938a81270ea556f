/** One gateway, spoken to over a transport. */

import { newSlots } from "./slots.js";

export const NETWORK = "network";
const BODIES = 5; // a browser has six connections to a host: one is left for a pause

/** A refusal in the gateway's own words (its problem document, `next_offset` and such included), or `network`. */
export class Problem extends Error {
  constructor(given) {
    super(given.title);
    Object.assign(this, given);
  }
}

/**
 * `base`: the gateway's address without a slash at the end, empty for the page's own. `getToken(refused)` gives a
 * bearer token, or a promise of one; `refused` is the one it gave before, when the gateway refused that.
 */
export function newApi(base, transport, getToken) {
  let current, asking;

  const ask = (refused) =>
    (asking ??= (async () => {
      try {
        return (current = await getToken(refused));
      } catch {
        throw unreachable(); // whoever gives tokens is asked again, as the gateway would be
      } finally {
        asking = null;
      }
    })());

  /** The bearer token in force. */
  const token = async () => current ?? ask();

  return {
    base,
    transport,
    lanes: newSlots(BODIES),
    token,

    /** Go on with another token. */
    use: (given) => (current = given),

    /** See to another token than the one that `problem` is about; throws `problem` when there is none. */
    async renew(problem) {
      if (current === problem.token) await ask(current);
      if (current === problem.token) throw problem;
    },

    /**
     * Send `json`, the bytes of `body`, or a form of `fields` and `file`; get the parsed answer. `ticket` is the
     * task's, `onSent(bytes)` tells how many have left. Throws Problem, or `stop`'s reason.
     */
    async send(method, path, { headers, ticket, json, body, stop, ...form } = {}) {
      const bearer = await token();
      const all = { ...headers, Authorization: `Bearer ${bearer}` };
      if (ticket) all["Upload-Ticket"] = ticket;
      if (json) [body, all["Content-Type"]] = [JSON.stringify(json), "application/json"];
      else if (body) all["Content-Type"] = "application/octet-stream";
      stop?.check();
      const request = { method, url: base + path, headers: all, body, ...form };
      return new Promise((resolve, reject) => {
        let off;
        const abort = transport.send(request, (status, text, wait) => {
          off?.();
          const [answer, problem] = read(status, text, bearer, wait);
          if (problem) reject(problem);
          else resolve(answer);
        });
        off = stop?.on((reason) => {
          reject(reason);
          abort();
        });
      });
    },
  };
}

/** `api` for the calls about one file, which read as one trace; whether it is recorded is the gateway's choice. */
export function traced(api) {
  const traceparent = "00-rrrr-rr-02".replace(/r/g, () => (1 + Math.random()).toString(16).slice(2, 10).padEnd(8, 0));
  const send = (method, path, { headers, ...more } = {}) =>
    api.send(method, path, { headers: { traceparent, ...headers }, ...more });
  return { ...api, send };
}

function unreachable() {
  return new Problem({ code: NETWORK, title: "Gateway unreachable", retryable: true });
}

/** [answer, problem]; a `status` of 0 is no answer. */
function read(status, text, token, wait) {
  if (!status) return [null, unreachable()];
  let body = null; // a proxy's own page, or nothing
  try {
    body = JSON.parse(text);
  } catch {}
  if (status < 300) return [body];
  const guess = { code: `http_${status}`, title: `HTTP ${status}`, retryable: status > 428 };
  return [null, new Problem({ ...guess, ...body, status, token, retryAfter: Number(wait) || 0 })];
}

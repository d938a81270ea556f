/** One gateway, spoken to over a transport. */

export const NETWORK = "network";

/** A refusal in the gateway's own words (its problem document, `next_offset` and such included), or `network`. */
export class Problem extends Error {
  constructor(given) {
    super(given.title);
    Object.assign(this, { status: 0, code: "internal", title: "It failed", detail: "", retryable: false }, given);
  }
}

export class Api {
  #token;
  #asking;
  #getToken;

  /**
   * `base`: the gateway's address without a slash at the end, empty for the page's own. `getToken(refused)` gives a
   * bearer token, or a promise of one; `refused` is the one it gave before, when the gateway refused that.
   */
  constructor(base, transport, getToken) {
    this.transport = transport;
    this.base = base;
    this.#getToken = getToken;
  }

  /** The bearer token in force. */
  async token() {
    return this.#token ?? this.#ask();
  }

  /** Go on with `token`. */
  use(token) {
    this.#token = token;
  }

  /** See to another token than the one that `problem` is about; throws `problem` when there is none. */
  async renew(problem) {
    if (this.#token === problem.token) await this.#ask(problem.token);
    if (this.#token === problem.token) throw problem;
  }

  /**
   * Send `json`, the bytes of `body`, or a form of `fields` and `file`; get the parsed answer. `onSent(bytes)` tells how
   * many have left. Throws Problem, or `stop`'s reason.
   */
  async send(method, path, { headers, json, body, stop, onSent = () => {}, ...form } = {}) {
    const token = await this.token();
    const all = { ...headers, Authorization: `Bearer ${token}` };
    if (json) [body, all["Content-Type"]] = [JSON.stringify(json), "application/json"];
    else if (body) all["Content-Type"] = "application/octet-stream";
    stop?.check();
    const url = this.base + path;
    return new Promise((resolve, reject) => {
      let off;
      const abort = this.transport.send({ method, url, headers: all, body, onSent, ...form }, (status, text, wait) => {
        off?.();
        const [answer, problem] = read(status, text, token, wait);
        if (problem) reject(problem);
        else resolve(answer);
      });
      off = stop?.on((reason) => {
        reject(reason);
        abort();
      });
    });
  }

  #ask(refused) {
    return (this.#asking ??= (async () => {
      try {
        return (this.#token = await this.#getToken(refused));
      } catch {
        throw unreachable(); // whoever gives tokens is asked again, as the gateway would be
      } finally {
        this.#asking = null;
      }
    })());
  }
}

function unreachable() {
  return new Problem({ code: NETWORK, title: "The gateway cannot be reached", retryable: true });
}

/** [answer, problem]; a `status` of 0 is no answer. */
function read(status, text, token, wait) {
  if (!status) return [null, unreachable()];
  let body = null; // a proxy's own page, or nothing
  try {
    body = JSON.parse(text);
  } catch {}
  if (status < 300) return [body];
  const guess = { code: `http_${status}`, title: `The server answered ${status}`, retryable: status > 428 };
  return [null, new Problem({ ...(body?.code ? body : guess), status, token, retryAfter: Number(wait) || 0 })];
}

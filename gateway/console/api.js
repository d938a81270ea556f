/** One gateway, spoken to: JSON calls by fetch, bodies by XMLHttpRequest, since fetch tells no upload progress. */

export const NETWORK = "network";
const CALL_SECONDS = 75; // complete may hold its answer for 50
const STALL_SECONDS = 120; // a part whose bytes are sent may wait for the gateway's own retries against COS

/** A refusal in the gateway's own words (its problem document), or `network` when no answer came at all. */
export class Problem extends Error {
  constructor({ status = 0, code = "internal", title = "It failed", detail = "", retryable = false, ...facts }) {
    super(title);
    Object.assign(this, { name: "Problem", status, code, title, detail, retryable, facts, retryAfterSeconds: 0 });
  }
}

const unreachable = () => new Problem({ code: NETWORK, title: "The gateway cannot be reached", retryable: true });

export class Api {
  #token;
  #signIns = [];

  /** `base`: the gateway's address without a slash at the end, empty for the page's own. */
  constructor({ base = "", token = "" } = {}) {
    this.base = base;
    this.#token = token;
  }

  get token() {
    return this.#token;
  }

  /** A new token also wakes everything that waited for one. */
  set token(token) {
    this.#token = token;
    if (token) this.#signIns.splice(0).forEach((wake) => wake());
  }

  /** Resolves when there is another token. */
  signedIn(signal) {
    return new Promise((resolve, reject) => {
      this.#signIns.push(resolve);
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }

  /** Send `json`, get the parsed answer. Throws Problem, or `signal`'s reason. */
  async call(method, path, { json, headers = {}, signal } = {}) {
    const deadline = AbortSignal.timeout(CALL_SECONDS * 1000);
    try {
      const response = await fetch(this.base + path, {
        method,
        headers: { ...this.#headers(json === undefined ? undefined : "application/json"), ...headers },
        body: json === undefined ? undefined : JSON.stringify(json),
        signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      });
      return answer(response.status, await response.text(), response.headers.get("Retry-After"));
    } catch (error) {
      signal?.throwIfAborted();
      throw error instanceof Problem ? error : unreachable();
    }
  }

  /** PUT the bytes of `body`; `onSent(bytes)` tells how many have left. Throws Problem, or `signal`'s reason. */
  put(path, body, { headers = {}, signal, onSent = () => {} } = {}) {
    return new Promise((resolve, reject) => {
      const xhr = new XMLHttpRequest();
      const stop = () => xhr.abort();
      let stall;
      const moved = () => {
        clearTimeout(stall);
        stall = setTimeout(stop, STALL_SECONDS * 1000);
      };
      xhr.upload.onprogress = (event) => {
        moved();
        onSent(event.loaded);
      };
      xhr.onloadend = () => {
        clearTimeout(stall);
        signal?.removeEventListener("abort", stop);
        globalThis.removeEventListener?.("offline", stop);
        if (signal?.aborted) return reject(signal.reason);
        if (xhr.status === 0) return reject(unreachable());
        try {
          return resolve(answer(xhr.status, xhr.responseText, xhr.getResponseHeader("Retry-After")));
        } catch (error) {
          return reject(error);
        }
      };
      if (signal?.aborted) return reject(signal.reason);
      xhr.open("PUT", this.base + path);
      const all = { ...this.#headers("application/octet-stream"), ...headers };
      for (const [name, value] of Object.entries(all)) xhr.setRequestHeader(name, value);
      signal?.addEventListener("abort", stop);
      globalThis.addEventListener?.("offline", stop); // it would hang until TCP gives up
      moved();
      xhr.send(body);
    });
  }

  #headers(type) {
    return { ...(type && { "Content-Type": type }), Authorization: `Bearer ${this.#token}` };
  }
}

function answer(status, text, retryAfter) {
  const body = parsed(text);
  if (status >= 200 && status < 300) return body;
  const retryable = status >= 500 || status === 429;
  const guess = { code: `http_${status}`, title: `The server answered ${status}`, retryable };
  const problem = new Problem({ ...(typeof body?.code === "string" ? body : guess), status });
  problem.retryAfterSeconds = seconds(retryAfter);
  throw problem;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's own page, or nothing
  }
}

function seconds(retryAfter) {
  const left = Number(retryAfter) || (Date.parse(retryAfter) - Date.now()) / 1000;
  return left > 0 ? left : 0;
}

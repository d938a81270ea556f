/** Hears of every task of the caller: over the websocket, and by asking while that is down. */

import { delay } from "./retry.js";

const POLL_SECONDS = 3;
const LONGEST_PAUSE_SECONDS = 15;
const TOKEN_EXPIRED = 4401;

/**
 * `hooks`: `onSnapshot(tasks)` every unfinished task and the last finished ones, `onTask(task)` one that changed,
 * `onConnection(how)` with `"live"`, `"polling"`, `"offline"` or `"signed_out"`.
 */
export class Watch {
  #stop = new AbortController();

  constructor(api, hooks) {
    this.api = api;
    this.hooks = hooks;
  }

  start() {
    this.#run().catch((error) => {
      if (!this.#stop.signal.aborted) throw error;
    });
  }

  stop() {
    this.#stop.abort();
  }

  async #run() {
    const { signal } = this.#stop;
    for (let failures = 0; ; ) {
      const { lived, code } = await this.#listen(signal);
      failures = lived ? 0 : failures + 1;
      const until = performance.now() + Math.min(LONGEST_PAUSE_SECONDS, 2 ** failures / 2) * 1000;
      do {
        await this.#poll(signal, code === TOKEN_EXPIRED);
        await delay(Math.min(POLL_SECONDS, (until - performance.now()) / 1000), signal, "online");
      } while (performance.now() < until);
    }
  }

  /** One websocket's life. The token goes as a subprotocol, never into the address. */
  #listen(signal) {
    return new Promise((resolve, reject) => {
      const address = new URL(`${this.api.base}/v1/progress`, globalThis.location?.href);
      address.protocol = address.protocol.replace("http", "ws");
      const socket = new WebSocket(address, ["gateway.v1", `bearer.${this.api.token}`]);
      let lived = false;
      const end = (code) => {
        socket.close();
        signal.removeEventListener("abort", end);
        globalThis.removeEventListener?.("offline", end);
        if (signal.aborted) reject(signal.reason);
        else resolve({ lived, code });
      };
      socket.onmessage = ({ data }) => {
        if (!lived) this.hooks.onConnection("live");
        lived = true;
        this.#hear(JSON.parse(data));
      };
      socket.onclose = ({ code }) => end(code);
      signal.addEventListener("abort", end);
      globalThis.addEventListener?.("offline", end); // nobody else tells a socket that its network is gone
    });
  }

  #hear(message) {
    if (message.type === "snapshot") this.hooks.onSnapshot(message.tasks);
    else if (message.task) this.hooks.onTask(message.task);
  }

  async #poll(signal, expired) {
    try {
      const { tasks } = await this.api.call("GET", "/v1/tasks?limit=100", { signal });
      this.hooks.onConnection("polling");
      tasks.forEach((task) => this.hooks.onTask(task));
    } catch (error) {
      signal.throwIfAborted();
      const signedOut = expired || error.status === 401;
      this.hooks.onConnection(signedOut ? "signed_out" : "offline");
      if (signedOut) await this.api.signedIn(signal);
    }
  }
}

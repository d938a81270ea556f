/** Hears of every task of the caller: over the websocket, and by asking while that is down. */

import { delay } from "./retry.js";
import { newStop } from "./stop.js";

const POLL_SECONDS = 3;
const LONGEST_PAUSE_SECONDS = 15;
const TOKEN_EXPIRED = 4401;

/**
 * `hooks`: `onSnapshot(tasks)` every unfinished task and the last finished ones, `onTask(task)` one that changed,
 * `onBatch(totals)` what a batch adds up to, `onConnection(how)` with `"live"`, `"polling"`, `"offline"` or
 * `"signed_out"`.
 */
export class Watch {
  #stop = newStop();
  #snapshot = []; // what has come of one that is not complete

  constructor(api, hooks) {
    this.api = api;
    this.hooks = hooks;
  }

  start() {
    this.#run().catch((error) => {
      if (!this.#stop.reason()) throw error;
    });
  }

  stop() {
    this.#stop.stop();
  }

  async #run() {
    const stop = this.#stop;
    for (let failures = 0; ; ) {
      const { lived, code } = await this.#listen(stop);
      failures = lived ? 0 : failures + 1;
      const until = performance.now() + Math.min(LONGEST_PAUSE_SECONDS, 2 ** failures / 2) * 1000;
      do {
        await this.#poll(stop, code === TOKEN_EXPIRED);
        await delay(Math.min(POLL_SECONDS, (until - performance.now()) / 1000), stop, this.api);
      } while (performance.now() < until);
    }
  }

  /** One websocket's life. The token goes as a subprotocol, never into the address. */
  async #listen(stop) {
    const token = await this.api.token();
    return new Promise((resolve) => {
      const address = new URL(`${this.api.base}/v1/progress`, globalThis.location?.href);
      address.protocol = address.protocol.replace("http", "ws");
      this.#snapshot = [];
      const socket = new WebSocket(address, ["gateway.v1", `bearer.${token}`]);
      let lived = false;
      const end = (code) => {
        socket.close();
        off();
        globalThis.removeEventListener?.("offline", end);
        resolve({ lived, code });
      };
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (!lived && !message.more) this.hooks.onConnection("live"); // with the whole snapshot, not before
        lived ||= !message.more;
        this.#hear(message);
      };
      socket.onclose = ({ code }) => end(code);
      const off = stop.on(() => end());
      globalThis.addEventListener?.("offline", end); // nobody else tells a socket that its network is gone
    });
  }

  #hear(message) {
    if (message.type === "snapshot") this.#hearSnapshot(message);
    else if (message.type === "batch") this.hooks.onBatch(message.batch);
    else if (message.task) this.hooks.onTask(message.task);
  }

  #hearSnapshot({ tasks, more }) {
    this.#snapshot.push(...tasks);
    if (more) return;
    const all = this.#snapshot;
    this.#snapshot = [];
    this.hooks.onSnapshot(all);
  }

  async #poll(stop, expired) {
    const token = await this.api.token();
    try {
      const { tasks } = await this.api.send("GET", "/v1/tasks?limit=100", { stop });
      this.hooks.onConnection("polling");
      tasks.forEach((task) => this.hooks.onTask(task));
    } catch (error) {
      stop.check();
      const signedOut = expired || error.status === 401;
      this.hooks.onConnection(signedOut ? "signed_out" : "offline");
      if (signedOut) await stop.race(this.api.renew({ token }));
    }
  }
}

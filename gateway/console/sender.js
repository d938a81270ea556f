/** One file on its way into one task: from its place in the queue to its end or a halt, and on again. */

import { Problem } from "./api.js";
import { HALTS, delay, persist } from "./retry.js";
import { speedometer } from "./speed.js";
import { newStop } from "./stop.js";

export const FINAL = /^(success|canceled)$/;
export const HALTED = /^(paused|error)$/; // until somebody restarts the task
const GONE = /^task_(not_found|expired)$/; // a retry begins a new task
const PARTS_MISSING = "parts_missing";
export const UNREADABLE = { code: "file_unreadable", title: "File changed or gone" };
const POLL_SECONDS = 3; // the websocket is faster; this is for when it is down, or where there is none
const MOST_COMPLETES = 4;

/** A name that none of the caller's other files has. */
export function uniqueName() {
  return `${Date.now()}${Math.random()}`;
}

/** Calls about a task: (method, suffix, more) as `api.send` has them. */
export function callsAbout(api, { id, ticket }) {
  return (method, suffix, more) => api.send(method, `/v1/tasks/${id}${suffix}`, { ticket, ...more });
}

/** Every stored part: [{number, size, etag, crc64}]. */
export async function storedParts(call) {
  const found = [];
  for (let query = "?limit=1000"; query; ) {
    const { parts, next_cursor } = await call("GET", `/parts${query}`);
    found.push(...parts);
    query = next_cursor && `?cursor=${next_cursor}`;
  }
  return found;
}

/** The bytes of `file` that are part `number`. */
export function sliceOf(file, size, number) {
  return file.slice((number - 1) * size, number * size);
}

/**
 * `given`: {id, file, task, options, mode, digest, parallel}. `options` is what `POST /v1/tasks` takes; `mode` is
 * `"parts"` or `"content"`, else the task decides; `digest` is the `Content-MD5` of the content; `parallel` parts are
 * in flight at once.
 *
 * `changed()` is called when anything moved; `prepare(patiently, stop)` before a task is created: whoever knows an
 * earlier one lets the sender `take` it.
 */
export function newSender(api, slots, given, changed, prepare) {
  let { id: ref, file, task, options, mode, digest, parallel = 3 } = given;
  let local; // the state while the gateway knows no better: queued, checking, paused without a network, given up
  let run; // stops what is under way
  let [problem, waiting, again, loaded, heard] = [];
  let [shown, speed] = [0, 0];
  const meter = speedometer();

  const call = (...what) => callsAbout(api, task)(...what);
  const onWait = (reason) => {
    waiting = reason;
    changed();
  };

  /** The shown progress only grows: a part that breaks off is sent again, which is nobody's concern. */
  function moved(bytes = loaded?.() ?? task?.loaded ?? 0) {
    shown = Math.max(shown, bytes);
    speed = meter(shown);
    changed();
  }

  function halt(as) {
    const before = run;
    [local, run, loaded] = [as];
    changed();
    before?.stop();
  }

  /** Take in the task's document, from wherever it came; an older one than is known changes nothing. */
  function see(newer) {
    if (!newer?.state || newer.version < task?.version) return;
    const before = task?.state;
    task = { ...task, ...newer };
    heard?.();
    if (FINAL.test(task.state)) {
      if (task.state === "canceled") run?.stop();
      local = file = null;
    } else if (local === "canceled") cancel().catch(() => {}); // canceled while it was being created
    else if (HALTED.test(task.state) && !HALTED.test(before)) halt();
    moved();
  }

  async function control(move, stop) {
    see(await call("POST", `/${move}`, { stop }));
  }

  /** Stop sending, then say so: a browser keeps a request waiting while six others have its connections. */
  async function leave(as, move) {
    halt(as);
    try {
      if (task && !GONE.test(problem?.code)) await control(move);
    } catch (error) {
      if (file && error.retryable) {
        if (as === "paused" && !error.status) return; // without a network nothing moves all the same
      } else {
        local = null; // it may not be left: it goes on
        if (file) start();
      }
      throw error;
    }
  }

  /** Stop sending; the parts stay. */
  const pause = () => leave("paused", "pause");

  /** Go on, also after an error; whoever has the file sends the rest. */
  async function restart() {
    if (!file) return control("restart");
    if (GONE.test(problem?.code)) {
      [task, ref, shown] = [null, uniqueName(), 0]; // the old reference would only find the old task
    }
    again = task && task.state !== "completing";
    start();
  }

  /** End the task; its parts are dropped. */
  const cancel = () => leave("canceled", "cancel").then(() => (file = null));

  /** One attempt to bring the file over. */
  async function start() {
    if (run) return;
    const mine = (run = newStop());
    [problem, local] = [null, "waiting"];
    changed();
    try {
      await slots.run(mine, () => attempt(mine));
    } catch (error) {
      if (!mine.reason()) await failed(error);
    } finally {
      if (run === mine) {
        run = loaded = waiting = null;
        changed();
      }
    }
  }

  async function failed(error) {
    local = null;
    try {
      if (HALTS.test(error.code)) return see(await call("GET", "")); // the task itself says it better
    } catch {
      // then the error itself must do
    }
    problem = error.title ? error : { code: "internal", title: `${error}` };
    local = "error";
    changed();
  }

  /** Nothing stops the request: of a task that it makes we must hear, to cancel it. A form has its bytes with it. */
  function create(stop) {
    const json = { ...options, size: file.size, client_ref: ref };
    const fields = mode === "content" && !digest && api.transport.fieldsOf?.(file, json);
    const headers = { "Idempotency-Key": ref };
    if (!fields) return stop.race(api.send("POST", "/v1/tasks", { json, headers }).then(see));
    const onSent = (bytes) => moved(Math.min(bytes, file.size));
    return api.send("POST", "/v1/files", { file, fields, stop, onSent }).then(see);
  }

  async function attempt(stop) {
    const patiently = (action, until = stop, check) => persist(api, until, action, onWait, check);
    local = "checking";
    changed();
    await stop.race(prepare(patiently, stop));
    if (!task) await patiently(() => create(stop));
    if (again) await patiently(() => control("restart", stop));
    local = again = null;
    await send(stop, patiently);
  }

  /** Find out what is stored, send what is missing, have it completed. */
  async function send(stop, patiently) {
    const sending = new Map(); // part number -> bytes under way
    const stored = new Map(); // part number -> bytes COS has acknowledged; 0: those before a single body
    const ask = (method, suffix) => patiently(() => call(method, suffix, { stop }), stop, probe);
    const look = async () => see(await ask("GET", ""));
    loaded = () => [...stored, ...sending].reduce((total, [, size]) => total + size, 0);

    /**
     * After a lost connection: is the file still readable, and does the gateway answer? A file changed or deleted since
     * it was chosen is not, and XMLHttpRequest calls that a lost network.
     */
    async function probe() {
      try {
        await file.slice(0, 1).arrayBuffer();
      } catch {
        throw new Problem(UNREADABLE);
      }
      see(await call("GET", "", { stop }));
    }

    async function put(number, suffix, body, until, headers) {
      const onSent = (bytes) => {
        sending.set(number, bytes);
        moved();
      };
      try {
        return await api.lanes.run(until, () => call("PUT", suffix, { body, headers, stop: until, onSent }));
      } finally {
        sending.delete(number);
      }
    }

    async function sendParts() {
      stored.clear();
      for (const { number, size } of await storedParts(ask)) stored.set(number, size);
      moved();
      const group = newStop(stop); // one part is lost: the others need not go on
      let next = 0;
      const worker = async () => {
        while (next < Math.max(1, Math.ceil(file.size / task.part_size))) {
          const number = ++next;
          if (stored.has(number)) continue;
          const body = sliceOf(file, task.part_size, number);
          await patiently(() => put(number, `/parts/${number}`, body, group), group, probe);
          stored.set(number, body.size);
          moved();
        }
      };
      try {
        await Promise.all(Array.from({ length: parallel }, worker));
      } catch (error) {
        group.stop(error);
        throw error;
      }
    }

    /** The file as one body, from where the gateway stands. */
    async function sendContent() {
      const { size } = file;
      const body = async () => {
        const from = task.next_offset;
        stored.set(0, from);
        if (from && from === size) return ask("POST", "/complete");
        const range = { "Content-Range": `bytes ${from}-${size - 1}/${size}` };
        const headers = from ? range : digest && { "Content-MD5": digest };
        try {
          return await put(0, "/content", file.slice(from), stop, headers);
        } catch (error) {
          task.next_offset = error.next_offset ?? from;
          if (digest) error.retryable &&= error.code !== "digest_mismatch"; // the caller's own
          throw error;
        }
      };
      see(await patiently(body, stop, probe));
    }

    /** Send what is missing, and have the whole completed. */
    async function sendRest() {
      try {
        if (mode === "content" || !file.size) return await sendContent();
        await sendParts();
        see(await ask("POST", "/complete"));
      } catch (error) {
        if (!/completing|succeeded/.test(error.code) || error.differs) throw error;
        await look(); // another request does it, or did: its answer was lost, or it was another client's
      }
    }

    /** Wait for COS's verdict on the whole. */
    async function settled() {
      while (task.state === "completing") {
        await Promise.race([delay(POLL_SECONDS, stop), new Promise((resolve) => (heard = resolve))]);
        await look();
      }
      stop.check();
      if (task.state !== "success") throw new Problem(task.error ?? { code: PARTS_MISSING, title: "Parts lost" });
    }

    task.ticket ?? (await look()); // a list told of it, which leaves the upload and the ticket out
    if (FINAL.test(task.state) || task.state === "completing") return settled();
    mode ??= task.upload_id ? "parts" : "content"; // small: one PUT is the whole file
    for (let attempts = 1; ; attempts++) {
      try {
        return await sendRest().then(settled);
      } catch (error) {
        if (error.code === "task_mode") mode = "content"; // begun as one body by another client: it goes on as one
        else if (error.code !== PARTS_MISSING) throw error;
        if (attempts === MOST_COMPLETES) throw error;
      }
    }
  }

  return {
    ...{ start, pause, restart, cancel, halt, see },

    /** Take over a file, or an earlier task. */
    take(other) {
      ({ file = file, task = task, ref = ref, shown = shown, again = again } = other);
    },

    /** How it stands. `shown`: bytes; `speed`: bytes/s from here. */
    get now() {
      let state = local ?? task?.state ?? "waiting";
      if (FINAL.test(task?.state)) state = task.state;
      if (loaded && state === "waiting") state = "uploading"; // the gateway says so after the first part
      return { state, file, task, ref, problem, waiting, shown, speed: loaded ? speed : 0 };
    },
  };
}

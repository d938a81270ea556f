// Runs calls of one of Tencent's JavaScript SDKs, one after the other (or with "together" all at once), and prints what
// each came to.
//
// Reads {sdk, options, key, calls: [{method, params, pauseAt}]} from standard input; a parameter {"$base64": text} is a
// Buffer. A "key" is what getAuthorization answers. With "pauseAt" the task is paused once so many bytes are said to be
// loaded, and restarted when nothing of it is under way any more.
// Prints a JSON list of {data, progress} or {error, progress}: progress is what onProgress last said.

const fs = require("fs");

const input = JSON.parse(fs.readFileSync(0, "utf8"));
if (input.sdk === "cos-wx-sdk-v5") require("./wx_shim.js");
const COS = require(input.sdk);
if (input.key) input.options.getAuthorization = (_, done) => done(input.key);
const cos = new COS(input.options);
const QUIET_MS = 300;

function revived(value) {
  if (value && typeof value.$base64 === "string") return Buffer.from(value.$base64, "base64");
  if (Array.isArray(value)) return value.map(revived);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, revived(inner)]));
  }
  return value;
}

function failure(error) {
  const inner = error.error && typeof error.error === "object" ? error.error : {};
  const code = error.code || inner.Code || (inner.error && inner.error.Code) || "";
  return { code, headers: error.headers || inner.headers || null, message: String(error.message || inner.Message || error.error || error), statusCode: error.statusCode || inner.statusCode };
}

function call({ method, params, pauseAt }) {
  return new Promise((resolve) => {
    let progress = null;
    let taskId = null;
    let pauses = 0;
    const onProgress = (now) => {
      progress = now;
      if (!pauseAt || pauses || now.loaded < pauseAt) return;
      pauses += 1;
      cos.pauseTask(taskId);
      setTimeout(() => cos.restartTask(taskId), QUIET_MS);
    };
    const whenDone = (error, data) => resolve({ ...(error ? { error: failure(error) } : { data }), progress, pauses });
    const revivedParams = revived(params);
    if (pauseAt) revivedParams.onTaskReady = (id) => { taskId = id; };
    if (/^(put|post|upload|slice)/.test(method)) revivedParams.onProgress = onProgress;
    cos[method](revivedParams, whenDone);
  });
}

(async () => {
  const results = [];
  if (input.together) results.push(...(await Promise.all(input.calls.map(call))));
  else for (const one of input.calls) results.push(await call(one));
  const plain = (name, value) => (value && value.type === "Buffer" ? { $base64: Buffer.from(value.data).toString("base64") } : value);
  fs.writeSync(1, JSON.stringify(results, plain));
  process.exit(0);
})();

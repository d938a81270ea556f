// Runs calls of one of Tencent's JavaScript SDKs, one after the other, and prints what each came to.
//
// Reads {sdk, options, calls: [{method, params}]} from standard input; a parameter {"$base64": text} is a Buffer.
// Prints a JSON list of {data, progress} or {error, progress}: progress is what onProgress last said.

const fs = require("fs");

const input = JSON.parse(fs.readFileSync(0, "utf8"));
if (input.sdk === "cos-wx-sdk-v5") require("./wx_shim.js");
const COS = require(input.sdk);
const cos = new COS(input.options);

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
  return { code, message: String(error.message || inner.Message || error.error || error), statusCode: error.statusCode || inner.statusCode };
}

function call({ method, params }) {
  return new Promise((resolve) => {
    let progress = null;
    const onProgress = (now) => { progress = now; };
    const whenDone = (error, data) => resolve(error ? { error: failure(error), progress } : { data, progress });
    const revivedParams = revived(params);
    if (/^(put|post|upload|slice)/.test(method)) revivedParams.onProgress = onProgress;
    cos[method](revivedParams, whenDone);
  });
}

(async () => {
  const results = [];
  for (const one of input.calls) results.push(await call(one));
  const plain = (name, value) => (value && value.type === "Buffer" ? { $base64: Buffer.from(value.data).toString("base64") } : value);
  fs.writeSync(1, JSON.stringify(results, plain));
  process.exit(0);
})();

// As much of a WeChat mini-program as cos-wx-sdk-v5 asks for, over Node's http and files.

const crypto = require("crypto");
const fs = require("fs");
const http = require("http");

function send(options, body, done) {
  // Not by new URL(): it would fold dot segments, which are part of some keys.
  const [, host, port, path] = options.url.match(/^http:\/\/([^/:]+):(\d+)(.*)$/);
  const headers = { ...options.header, "Content-Length": body.length };
  const request = http.request(
    { host, port, path, method: options.method, headers },
    (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => done({ statusCode: response.statusCode, header: response.headers, data: Buffer.concat(chunks).toString() }));
    },
  );
  request.on("error", (error) => options.fail({ errMsg: `request:fail ${error.message}` }));
  request.end(body);
  return request;
}

function bytes(data) {
  if (data === undefined || data === null) return Buffer.alloc(0);
  return typeof data === "string" ? Buffer.from(data) : Buffer.from(data.buffer || data);
}

// As wx.uploadFile does: the fields, then the one file.
function form(options, boundary) {
  const fields = Object.entries(options.formData || {}).map(
    ([name, value]) => `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  );
  const file = `--${boundary}\r\nContent-Disposition: form-data; name="${options.name}"; filename="${options.filePath.split("/").pop()}"\r\nContent-Type: application/octet-stream\r\n\r\n`;
  return Buffer.concat([Buffer.from(fields.join("") + file), fs.readFileSync(options.filePath), Buffer.from(`\r\n--${boundary}--\r\n`)]);
}

function wxFile(options, read) {
  try {
    options.success(read());
  } catch (error) {
    options.fail({ errMsg: error.message });
  }
}

const stored = new Map();

global.window = global;
global.wx = {
  canIUse: () => true,
  getAppBaseInfo: () => ({ SDKVersion: "3.0.0" }),
  getDeviceInfo: () => ({ platform: "devtools" }),
  getSystemInfoSync: () => ({ SDKVersion: "3.0.0", platform: "devtools" }),
  getStorageSync: (name) => stored.get(name),
  setStorageSync: (name, value) => stored.set(name, value),
  removeStorageSync: (name) => stored.delete(name),
  getFileSystemManager: () => ({
    stat: (options) => wxFile(options, () => {
      const stat = fs.statSync(options.path);
      return { stats: { size: stat.size, mode: stat.mode, lastAccessedTime: stat.atimeMs, lastModifiedTime: stat.mtimeMs, isDirectory: () => stat.isDirectory() } };
    }),
    readFile: (options) => wxFile(options, () => {
      const whole = fs.readFileSync(options.filePath);
      const start = options.position || 0;
      const piece = whole.subarray(start, options.length === undefined ? whole.length : start + options.length);
      return { data: options.encoding ? piece.toString(options.encoding) : Uint8Array.from(piece).buffer };
    }),
  }),
  request: (options) => {
    const request = send(options, bytes(options.data), options.success);
    return { abort: () => request.destroy() };
  },
  uploadFile: (options) => {
    const boundary = crypto.randomBytes(16).toString("hex");
    const body = form(options, boundary);
    const header = { ...options.header, "content-type": `multipart/form-data; boundary=${boundary}` };
    for (const name of Object.keys(header)) if (name === "Content-Type" || header[name] === undefined) delete header[name];
    let told = () => {};
    const request = send({ ...options, header, method: "POST" }, body, (answer) => {
      told({ progress: 100, totalBytesSent: body.length, totalBytesExpectedToSend: body.length });
      options.success(answer);
    });
    return { abort: () => request.destroy(), onProgressUpdate: (listener) => { told = listener; } };
  },
};

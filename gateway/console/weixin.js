/** What a mini-program gives: wx.request for JSON and parts, wx.uploadFile for forms, files by path. */

import * as resume from "./resume.js";
import { contentOf } from "./seed.js";

const TIMEOUT_MILLISECONDS = 60_000; // the platform's own, which no setting of ours may exceed

export const weixin = {
  /** Bytes of a part: what a slow phone can send before the timeout. */
  partSize: 1 << 20,

  /** As in browser.js; `file` and `fields` make a form, of which alone the platform tells the progress. */
  send({ method, url, headers: header, body, file, fields, onSent }, done) {
    const fail = () => done(0);
    const success = ({ statusCode, data, header: told = {} }) => {
      const text = typeof data === "string" ? data : JSON.stringify(data);
      done(statusCode, text, told["Retry-After"] ?? told["retry-after"]);
    };
    const common = { url, header, timeout: TIMEOUT_MILLISECONDS, success, fail };
    if (file) {
      const task = wx.uploadFile({ ...common, filePath: file.path, name: "file", formData: fields });
      task.onProgressUpdate?.((now) => onSent?.(now.totalBytesSent));
      return () => task.abort();
    }
    let [task, over] = [null, false];
    const start = (data) => {
      if (!over) task = wx.request({ ...common, method, data, dataType: "text" });
    };
    Promise.resolve(body?.arrayBuffer ? body.arrayBuffer() : body).then(start).catch(fail);
    return () => {
      over = true;
      task?.abort();
    };
  },

  /** The members of a task's JSON as the fields of a form; none where it cannot be one: there is none for `headers`. */
  fieldsOf({ path }, { meta, headers, ...fields }) {
    if (!path || Object.keys(headers).length) return;
    const form = {};
    for (const name in fields) if (fields[name] !== undefined) form[name] = `${fields[name]}`;
    for (const name in meta) form[`meta-${name}`] = meta[name];
    return form;
  },

  /** The content of a call's parameters: {size, slice}, as a Blob has them, and the path of a file. */
  async file({ FilePath, Body }) {
    if (!FilePath) return sized(bytesOf(contentOf(Body)));
    const { stats } = await called("stat", { path: FilePath });
    const read = async (position, length) =>
      (await called("readFile", { filePath: FilePath, position, length })).data;
    return { ...sliced(stats.size, read), path: FilePath };
  },

  /** What compares contents: mini-programs load nothing later. */
  content: async () => resume,

  /** `listener()` is called when the app or the network is back. Returns how to take that back. */
  onBack(listener) {
    const network = ({ isConnected }) => isConnected && listener();
    wx.onAppShow?.(listener);
    wx.onNetworkStatusChange?.(network);
    return () => {
      wx.offAppShow?.(listener);
      wx.offNetworkStatusChange?.(network);
    };
  },
};

function called(method, options) {
  return new Promise((success, fail) => wx.getFileSystemManager()[method]({ ...options, success, fail }));
}

function sized(buffer) {
  return sliced(buffer.byteLength, async (start, size) => buffer.slice(start, start + size));
}

function sliced(size, read) {
  const slice = (start = 0, end = size) => {
    const length = Math.max(0, Math.min(end, size) - start);
    return { size: length, arrayBuffer: async () => (length ? read(start, length) : new ArrayBuffer(0)) };
  };
  return { size, slice };
}

function bytesOf(content) {
  if (typeof content === "string") return utf8(content);
  const { buffer, byteOffset, byteLength } = content; // wx.request takes an ArrayBuffer only
  return buffer ? buffer.slice(byteOffset, byteOffset + byteLength) : content;
}

function utf8(text) {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (byte) => byte.charCodeAt(0)).buffer;
}

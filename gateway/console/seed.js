/** The parameters, results and errors of Tencent's COS SDKs, and what the gateway calls them. */

const OPTION = /^(bucket|region|acl|expires|storage_class|cache_control|content_(?!le|md)\w+|grant_\w+)$/;
const NOT_OURS = /^(content-|expect|host)/i;

/** What `POST /v1/tasks` takes, from the SDK's parameters; those in `Headers` may be spelled as COS's headers. */
export function optionsOf({ Key, Headers, Query, ...params }) {
  const [options, meta, headers] = [{ key: Key }, {}, {}];
  const take = (given, isHeader) => {
    for (const name in given) {
      const value = given[name];
      const option = name.replace(/^x-cos-/i, "").replace(/([a-z])([A-Z])/g, "$1_$2").replace(/-/g, "_").toLowerCase();
      if (!value) continue;
      if (/^x-cos-meta-/i.test(name)) meta[name.slice(11).toLowerCase()] = `${value}`;
      else if (/^(traffic|async)_limit$/.test(option)) options[option] = Number(value);
      else if (OPTION.test(option)) options[option] = value;
      else if (isHeader && !NOT_OURS.test(name)) headers[name] = `${value}`;
    }
  };
  take(params);
  take(Headers, true);
  take(Query, true);
  return { ...options, meta, headers };
}

/** `Body` as a Blob takes it. Throws what else is called content: nothing, or what would be stored as "[object …]". */
export function contentOf(Body) {
  if (typeof Body === "string" || Body?.byteLength >= 0) return Body; // a mini-program's buffers have classes of their own
  throw { errMsg: `missing content: expected a file, text or bytes, got ${Body === null ? Body : typeof Body}` };
}

/** {loaded, total, speed, percent}: bytes, bytes, bytes/s and 0 to 1, which is 1 only once COS has the whole. */
export function progress(loaded, total, speed = 0, done = loaded >= total) {
  const percent = total ? Math.floor((loaded / total) * 100) / 100 : 1;
  return { loaded, total, speed: Math.round(speed), percent: done ? percent : Math.min(percent, 0.99) };
}

/** The data of a callback, of a task in success. */
export function dataOf({ result, upload_id }) {
  const headers = { etag: result.etag, "x-cos-hash-crc64ecma": result.crc64 };
  const Location = result.location.replace(/^.*:\/\//, "");
  const data = { statusCode: 200, headers, Location, Bucket: result.bucket, Key: result.key, ETag: result.etag };
  if (upload_id) data.UploadId = upload_id;
  if (result.version_id) data.VersionId = headers["x-cos-version-id"] = result.version_id;
  return data;
}

/** The err of a callback: COS's own code and request id where COS refused. */
export function failure({ code, title, detail, status, cos, request_id }) {
  const Code = cos?.code || code;
  const RequestId = cos?.request_id || request_id;
  const Message = detail ? `${title}: ${detail}` : title;
  return Object.assign(new Error(Message), {
    code: Code,
    statusCode: cos?.status || status || undefined,
    headers: { "x-cos-request-id": RequestId },
    RequestId,
    error: { Code, Message, RequestId },
  });
}

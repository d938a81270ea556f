/** Uploads through the gateway, by the names of Tencent's cos-js-sdk-v5 and cos-wx-sdk-v5. */

export interface Options {
  /** The gateway's address, without a slash at the end; the page's own when left out. */
  gateway?: string;
  /** A bearer token, or what gives one: asked again, with the token that the gateway refused. */
  token?: string;
  getToken?(refused?: string): string | Promise<string>;
  /** What the platform gives; upload.js brings a browser's, upload-wx.js a mini-program's. */
  transport?: Transport;
  /** Files in flight over all calls of this client (3), and parts of one file (3). */
  FileParallelLimit?: number;
  ChunkParallelLimit?: number;
  /** Bytes up to which a file goes in one piece (1,048,576), and bytes of a part; both 1,048,576 at least. */
  SliceSize?: number;
  ChunkSize?: number;
}

export interface UploadParams {
  Bucket?: string;
  Region?: string;
  Key: string;
  /** The content: in a browser `Body`; in a mini-program `FilePath`, or a text or bytes as `Body`. */
  Body?: Blob | string | ArrayBuffer | ArrayBufferView;
  FilePath?: string;
  /** Of `uploadFile`: the bytes up to which it goes in one piece. Of `sliceUploadFile`: the bytes of a part. */
  SliceSize?: number;
  ChunkSize?: number;
  AsyncLimit?: number;
  /** Writes `x-cos-meta-md5`; the file is read once before it is sent. */
  UploadAddMetaMd5?: boolean;
  /** In Base64, of content that goes in one piece: anything else is refused. */
  ContentMD5?: string;
  StorageClass?: string;
  CacheControl?: string;
  ContentDisposition?: string;
  ContentEncoding?: string;
  ContentType?: string;
  Expires?: string;
  ACL?: string;
  GrantRead?: string;
  GrantReadAcp?: string;
  GrantWriteAcp?: string;
  GrantFullControl?: string;
  /** `x-cos-meta-*`, `x-cos-traffic-limit` and the options above in COS's spelling. */
  Headers?: Record<string, string | number>;
  /** `x-cos-traffic-limit`, which is all that COS takes here. */
  Query?: Record<string, string | number>;
  onTaskReady?(taskId: string): void;
  onProgress?(progress: Progress): void;
  /** While a file is compared with an unfinished upload of its key, or read for its MD5. */
  onHashProgress?(progress: Progress): void;
  onFileFinish?(error: UploadError | null, data: UploadData | undefined, options: FileOptions): void;
  [name: `x-cos-meta-${string}`]: string;
}

export interface UploadFilesParams {
  files: UploadParams[];
  SliceSize?: number;
  /** Files of this call in flight, within the client's own limit. */
  FileParallelLimit?: number;
  /** Of all files together; 1 once COS has each. */
  onProgress?(progress: Progress): void;
  onFileFinish?(error: UploadError | null, data: UploadData | undefined, options: FileOptions): void;
}

/** Bytes, bytes, bytes per second, and 0 to 1, which is 1 only once COS has the whole. None of it runs backwards. */
export interface Progress {
  loaded: number;
  total: number;
  speed: number;
  percent: number;
}

/** The plain values among a call's parameters. */
export type FileOptions = { TaskId: string; Index?: number; Key: string; [name: string]: unknown };

export interface UploadData {
  statusCode: number;
  headers: Record<string, string>;
  Location: string;
  Bucket: string;
  Key: string;
  ETag: string;
  UploadId?: string;
  VersionId?: string;
}

/** `code` is COS's where COS refused, else the gateway's; `task_canceled` after `cancelTask`. */
export interface UploadError extends Error {
  code: string;
  statusCode?: number;
  headers: Record<string, string>;
  RequestId?: string;
  error: { Code: string; Message: string; RequestId?: string };
}

export type State = "waiting" | "checking" | "uploading" | "paused" | "success" | "error" | "canceled";

export interface Task extends Progress {
  id: string;
  Bucket?: string;
  Region?: string;
  Key: string;
  FilePath?: string;
  state: State;
  size: number;
  hashPercent: number;
  error: UploadError | null;
}

export type Callback<Data> = (error: UploadError | null, data: Data) => void;

export interface UploadFilesData {
  /** In the order of the parameters; each has an error or data. */
  files: { options: FileOptions; error?: UploadError | null; data?: UploadData }[];
}

export class UploadGateway {
  constructor(options: Options);
  /** Each of these gives a promise, unless it gets a callback. Both end on cancel, with an error. */
  uploadFile(params: UploadParams): Promise<UploadData>;
  uploadFile(params: UploadParams, callback: Callback<UploadData>): void;
  sliceUploadFile(params: UploadParams): Promise<UploadData>;
  sliceUploadFile(params: UploadParams, callback: Callback<UploadData>): void;
  putObject(params: UploadParams): Promise<UploadData>;
  putObject(params: UploadParams, callback: Callback<UploadData>): void;
  uploadFiles(params: UploadFilesParams): Promise<UploadFilesData>;
  uploadFiles(params: UploadFilesParams, callback: Callback<UploadFilesData>): void;
  getTaskList(): Task[];
  /** None of these rejects; what is unknown or in another state stays as it is. */
  pauseTask(id: string): Promise<void>;
  restartTask(id: string): Promise<void>;
  cancelTask(id: string): Promise<void>;
  on(name: "list-update", listener: (event: { list: Task[] }) => void): void;
  off(name: "list-update", listener: (event: { list: Task[] }) => void): void;
}

export interface Transport {
  /** Bytes of a part, when nobody says. */
  partSize?: number;
  send(
    request: {
      method: string;
      url: string;
      headers: Record<string, string>;
      body?: unknown;
      file?: Content;
      fields?: Record<string, unknown>;
      onSent?(bytes: number): void;
    },
    /** `status` is 0 when no answer came. */
    done: (status: number, text?: string, retryAfter?: string | null) => void,
  ): () => void;
  file(params: UploadParams): Content | Promise<Content>;
  /** Tells when the network or the app is back, until what it returns is called. */
  onBack(listener: () => void): () => void;
  /** The members of a task's JSON as a form's fields, where `file` may go as a form. */
  fieldsOf?(file: Content, json: Record<string, unknown>): Record<string, string> | undefined;
  /** The module resume.js, which browsers load when contents are to be compared. */
  content(): Promise<unknown>;
}

/** A Blob, or as much of one as is needed. With a `path` it can go as a form. */
export interface Content {
  size: number;
  type?: string;
  path?: string;
  slice(start?: number, end?: number): { size: number; arrayBuffer(): Promise<ArrayBuffer> };
}

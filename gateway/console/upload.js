/** Uploads through the gateway for pages: the calls of Tencent's cos-js-sdk-v5, without any key. See upload.d.ts. */

import { browser } from "./browser.js";
import { newUploads } from "./uploads.js";

export class UploadGateway {
  constructor(options) {
    Object.assign(this, newUploads({ transport: browser, ...options }));
  }
}

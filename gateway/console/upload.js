/** Uploads through the gateway for pages: the calls of Tencent's cos-js-sdk-v5, without any key. See upload.d.ts. */

import { browser } from "./browser.js";
import { Uploads } from "./uploads.js";

export class UploadGateway extends Uploads {
  constructor(options) {
    super({ transport: browser, ...options });
  }
}

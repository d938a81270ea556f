/** Uploads through the gateway for mini-programs: the calls of Tencent's cos-wx-sdk-v5, without any key. */

import { newUploads } from "./uploads.js";
import { weixin } from "./weixin.js";

export class UploadGateway {
  constructor(options) {
    Object.assign(this, newUploads({ transport: weixin, ...options }));
  }
}

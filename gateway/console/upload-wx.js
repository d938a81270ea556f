/** Uploads through the gateway for WeChat mini-programs: the calls of Tencent's cos-wx-sdk-v5, without any key. */

import { weixin } from "./weixin.js";
import { Uploads } from "./uploads.js";

export class UploadGateway extends Uploads {
  constructor(options) {
    super({ transport: weixin, ...options });
  }
}

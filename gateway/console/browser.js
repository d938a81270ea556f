/** What a browser gives: requests by XMLHttpRequest (fetch tells no upload progress), files. */

import { contentOf } from "./seed.js";

const STALL_SECONDS = 120; // a part whose bytes are sent may wait for the gateway's own retries against COS

export const browser = {
  /**
   * Start a request. `done(status, text, retryAfter)` when it is over, with a status of 0 when it was not answered: no
   * network, or nothing moved for too long. Returns the function that gives it up.
   */
  send({ method, url, headers, body, onSent }, done) {
    const xhr = new XMLHttpRequest();
    const stop = () => xhr.abort();
    const off = on("offline", stop); // it would hang until TCP gives up
    let stall;
    const moved = () => {
      clearTimeout(stall);
      stall = setTimeout(stop, STALL_SECONDS * 1000);
    };
    xhr.upload.onprogress = (event) => {
      moved();
      onSent?.(event.loaded);
    };
    xhr.onloadend = () => {
      clearTimeout(stall);
      off();
      done(xhr.status, xhr.responseText, xhr.getResponseHeader("Retry-After"));
    };
    xhr.open(method, url);
    for (const name in headers) xhr.setRequestHeader(name, headers[name]);
    moved();
    xhr.send(body);
    return stop;
  },

  /** The content of a call's parameters: {size, type, slice}, as a Blob has them. */
  file: async ({ Body }) => (Body instanceof Blob ? Body : new Blob([contentOf(Body)])),

  /** What compares contents. */
  content: () => import("./resume.js"),

  /** `listener()` is called when the network is back. Returns how to take that back. */
  onBack: (listener) => on("online", listener),
};

function on(name, listener) {
  addEventListener(name, listener);
  return () => removeEventListener(name, listener);
}

// The tus comparator: @tus/server with @tus/s3-store, uploading to the bench's sink.
//
// Usage: node server.mjs <port> <sink port>

import http from "node:http";
import { S3Store } from "@tus/s3-store";
import { Server } from "@tus/server";

const [port, sinkPort] = process.argv.slice(2).map(Number);

const datastore = new S3Store({
  partSize: 8 * 1024 * 1024,
  s3ClientConfig: {
    bucket: "bench",
    region: "us-east-1",
    endpoint: `http://127.0.0.1:${sinkPort}`,
    forcePathStyle: true,
    credentials: { accessKeyId: "bench", secretAccessKey: "bench-bench-bench" },
    // Its fastest settings: the default CRC-32 of every body is left out.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  },
});

const tus = new Server({ path: "/files", datastore });
http.createServer((request, response) => tus.handle(request, response)).listen(port, "127.0.0.1");

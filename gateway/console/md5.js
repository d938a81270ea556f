/** MD5 (RFC 1321): COS keeps that of a part as its ETag, and `UploadAddMetaMd5` writes that of a file. */

const CHUNK_BYTES = 1 << 20;
const SINES = Int32Array.from({ length: 64 }, (_, i) => 2 ** 32 * Math.abs(Math.sin(i + 1)));
const WORDS = Uint8Array.from({ length: 64 }, (_, i) => [i, 5 * i + 1, 3 * i + 5, 7 * i][i >> 4] & 15);
const SHIFTS = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];

/** The MD5 of the bytes `[start, end)` of `file` in lower-case hex. `onRead(bytes)` may throw to give up. */
export async function md5(file, start, end, onRead) {
  const state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  for (let at = start; at <= end; at += CHUNK_BYTES) {
    const next = Math.min(at + CHUNK_BYTES, end);
    const bytes = new Uint8Array(await file.slice(at, next).arrayBuffer());
    onRead(bytes.length);
    mix(state, next < at + CHUNK_BYTES ? padded(bytes, end - start) : new Int32Array(bytes.buffer));
  }
  return [...new Uint8Array(state.buffer)].map((byte) => (byte + 256).toString(16).slice(1)).join("");
}

/** The last of `size` bytes, filled up to whole blocks. */
function padded(bytes, size) {
  const blocks = new Uint8Array(((bytes.length + 72) >> 6) << 6);
  const words = new Int32Array(blocks.buffer);
  blocks.set(bytes);
  blocks[bytes.length] = 128;
  words.set([size * 8, size / 2 ** 29], words.length - 2);
  return words;
}

function mix(state, words) {
  for (let at = 0; at < words.length; at += 16) {
    let [a, b, c, d] = state;
    for (let i = 0; i < 64; i += 1) {
      const round = i >> 4;
      let mixed = c ^ (b | ~d);
      if (round < 1) mixed = (b & c) | (~b & d);
      else if (round < 2) mixed = (d & b) | (~d & c);
      else if (round < 3) mixed = b ^ c ^ d;
      mixed = (mixed + a + SINES[i] + words[at + WORDS[i]]) | 0;
      const shift = SHIFTS[(round << 2) | (i & 3)];
      a = d;
      d = c;
      c = b;
      b = (b + ((mixed << shift) | (mixed >>> (32 - shift)))) | 0;
    }
    [a, b, c, d].forEach((value, i) => (state[i] += value));
  }
}

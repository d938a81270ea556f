/** CRC-64/XZ, the checksum COS keeps of every part and object. In halves: BigInt is 50 times slower. */

const POLYNOMIAL_HIGH = 0xc96c5795;
const POLYNOMIAL_LOW = 0xd7870f42;
const HIGH = new Uint32Array(256);
const LOW = new Uint32Array(256);

for (let byte = 0; byte < 256; byte += 1) {
  let high = 0;
  let low = byte;
  for (let bit = 0; bit < 8; bit += 1) {
    const odd = low & 1;
    low = (low >>> 1) | (high << 31);
    high >>>= 1;
    if (odd) {
      high ^= POLYNOMIAL_HIGH;
      low ^= POLYNOMIAL_LOW;
    }
  }
  HIGH[byte] = high;
  LOW[byte] = low;
}

/** The CRC of all the `blobs` in a row, as an unsigned decimal string: COS's own way to write it. */
export async function crc64(...blobs) {
  let high = ~0;
  let low = ~0;
  for (const blob of blobs) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    for (let i = 0; i < bytes.length; i += 1) {
      const index = (low ^ bytes[i]) & 0xff;
      low = ((low >>> 8) | (high << 24)) ^ LOW[index];
      high = (high >>> 8) ^ HIGH[index];
    }
  }
  return decimal(~high >>> 0, ~low >>> 0);
}

/** high * 2^32 + low, four digits at a time: each step stays below 2^53. */
function decimal(high, low) {
  let digits = "";
  while (high || low) {
    const next = (high % 1e4) * 2 ** 32 + low;
    [high, low] = [Math.floor(high / 1e4), Math.floor(next / 1e4)];
    digits = String(next % 1e4).padStart(4, "0") + digits;
  }
  return digits.replace(/^0+/, "") || "0";
}

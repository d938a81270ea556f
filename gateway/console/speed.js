/** Bytes per second over the last few seconds. */
const GAP_SECONDS = 0.1;
const MARKS = 40;

/** A function of how many bytes there are by now, which tells how fast they came: 0 while nothing is known. */
export function speedometer() {
  const marks = [];
  return (bytes, now = Date.now() / 1000) => {
    if (!(now - marks[0]?.[0] < GAP_SECONDS)) marks.unshift([now, bytes]);
    const [at, before] = marks[MARKS] ? marks.pop() : marks[marks.length - 1];
    return (bytes - before) / Math.max(now - at, GAP_SECONDS);
  };
}

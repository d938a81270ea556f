/** Bytes per second over the last few seconds. */
const WINDOW_SECONDS = 4;

/** A function of how many bytes there are by now, which tells how fast they came: 0 while nothing is known. */
export function speedometer() {
  let marks = [];
  return (bytes, now = Date.now() / 1000) => {
    const [last] = marks.slice(-1);
    if (!last || (bytes > last[1] && now - last[0] > 0.1)) marks.push([now, bytes]);
    marks = marks.filter(([at], place) => at > now - WINDOW_SECONDS || marks.length - place < 2);
    const [at, before] = marks[0];
    return (bytes - before) / Math.max(now - at, 0.1);
  };
}

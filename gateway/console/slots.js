/**
 * So many at once; the others wait in the order they came.
 *
 * `take(stop)` resolves when a slot is taken, which `give()` gives back, or throws `stop`'s reason.
 */
export function newSlots(free) {
  const queue = [];

  const next = () => {
    while (free > 0 && queue.length) {
      const [resolve, stop] = queue.shift();
      if (stop.reason()) continue;
      free -= 1;
      resolve();
    }
  };

  return {
    take: (stop) =>
      new Promise((resolve, reject) => {
        queue.push([resolve, stop]);
        stop.on(reject);
        next();
      }),

    give() {
      free += 1;
      next();
    },
  };
}

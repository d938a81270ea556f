/**
 * So many at once; the others wait in the order they came.
 *
 * `run(stop, job)` calls `job()` when its turn has come, in these slots and then in those of `outer`, and returns what
 * that returns; `stop`'s reason ends the wait.
 */
export function newSlots(free, outer) {
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
    async run(stop, job) {
      await new Promise((resolve, reject) => {
        queue.push([resolve, stop]);
        stop.on(reject);
        next();
      });
      try {
        return await (outer ? outer.run(stop, job) : job());
      } finally {
        free += 1;
        next();
      }
    },
  };
}

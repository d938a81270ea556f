/** What the browser keeps for us. It may forbid that, lack it or be full: then what was kept holds until a reload. */

const here = {};

/** What `use` makes of the storage called `name`; null where there is none to be used. */
export function guarded(name, use) {
  try {
    return use(globalThis[name]);
  } catch {
    return null;
  }
}

export function keep(name, key, value) {
  here[key] = value;
  guarded(name, (storage) => {
    storage.removeItem(key); // a storage that is full would go on telling what was kept before
    storage.setItem(key, value);
  });
}

/** What was kept last; null where nothing was. */
export function kept(name, key) {
  return guarded(name, (storage) => storage.getItem(key)) ?? here[key] ?? null;
}

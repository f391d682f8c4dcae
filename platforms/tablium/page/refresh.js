// Lists that are asked for again and again while somebody looks at them.

const REFRESH_MS = 2500;

/** Asks now and every so often, and shows what has changed; gives what ends it. */
export function refreshing(load, show, failed) {
  let isShown = true;
  let last = null;
  const refresh = async () => {
    try {
      const found = await load();
      const text = JSON.stringify(found);
      // Nothing is drawn anew that has not changed: whoever is about to click keeps their button.
      if (!isShown || text === last) return;
      last = text;
      show(found);
    } catch (error) {
      if (isShown && last === null && error.status !== 401) failed(error);
    }
  };
  refresh();
  const timer = setInterval(() => document.hidden || refresh(), REFRESH_MS);
  return () => {
    isShown = false;
    clearInterval(timer);
  };
}

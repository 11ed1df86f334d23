/**
 * Time that moves only when a test says so: `Date.now`, `setTimeout` and `clearTimeout` for the length of one test.
 * (node:test's own mock has no `Date` in the Node.js that Debian 12 ships.)
 */

export function fakeClock(t, now = 1_790_000_100_000) {
  const real = { now: Date.now, setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
  const timers = new Map();
  let nextId = 1;
  Date.now = () => now;
  globalThis.setTimeout = (callback, ms = 0) => {
    timers.set(nextId, { at: now + ms, callback });
    return nextId++;
  };
  globalThis.clearTimeout = (id) => timers.delete(id);
  t.after(() => {
    Date.now = real.now;
    globalThis.setTimeout = real.setTimeout;
    globalThis.clearTimeout = real.clearTimeout;
  });

  function tick(ms) {
    const end = now + ms;
    for (let due = earliest(end); due; due = earliest(end)) {
      timers.delete(due.id);
      now = due.at;
      due.callback();
    }
    now = end;
  }

  function earliest(end) {
    const due = [...timers].map(([id, timer]) => ({ id, ...timer })).filter(({ at }) => at <= end);
    return due.sort((a, b) => a.at - b.at || a.id - b.id)[0];
  }

  return { tick };
}

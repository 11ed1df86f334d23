/** The service worker, run in a sandbox of the test's own. */

import { readFileSync } from "node:fs";
import vm from "node:vm";

const source = readFileSync(new URL("../../src/recado/web/sw.js", import.meta.url), "utf8");

/** One with these pages open; `dispatch` gives it an event and waits for its work. */
export function serviceWorker({ pages = [], kept = {} } = {}) {
  const listeners = new Map();
  const shown = [];
  const opened = [];
  const self = {
    addEventListener: (type, listener) => listeners.set(type, listener),
    skipWaiting: async () => {},
    registration: { showNotification: async (title, options) => void shown.push({ title, ...options }) },
    clients: { matchAll: async () => pages, openWindow: async (url) => void opened.push(url) },
  };
  const caches = { match: async (name) => (name in kept ? { text: async () => kept[name] } : undefined) };
  vm.runInNewContext(source, { self, caches, URLSearchParams });
  const dispatch = async (type, event) => {
    const work = [];
    listeners.get(type)({ ...event, waitUntil: (promise) => work.push(promise) });
    await Promise.all(work);
  };
  return { dispatch, shown, opened };
}

export function openPage(visibilityState) {
  const page = { visibilityState, told: [], focused: false };
  page.postMessage = (said) => page.told.push(structuredClone(said));
  page.focus = async () => void (page.focused = true);
  return page;
}

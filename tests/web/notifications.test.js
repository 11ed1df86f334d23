import assert from "node:assert/strict";
import { test } from "node:test";

import { Notifications, thisBrowser } from "../../src/recado/web/notifications.js";

const KEY = "AQID-_8"; // the bytes 1 2 3 251 255
const KEY_BYTES = [1, 2, 3, 251, 255];

/** A browser that asks its user, who answers so; `subscribed` is the key of a subscription from before. */
function browserWith({ permission = "default", answer = "granted", subscribed = null } = {}) {
  const browser = { permission: permission, asked: 0, made: [], ended: 0, keeps: null, subscription: null };
  const subscribe = (key) => {
    browser.subscription = {
      endpoint: `https://push.example/${browser.made.length}`,
      options: { applicationServerKey: Uint8Array.from(key).buffer },
      toJSON: () => ({ endpoint: browser.subscription.endpoint, keys: { p256dh: "p", auth: "a" } }),
      unsubscribe: async () => {
        browser.ended += 1;
        browser.subscription = null;
      },
    };
    return browser.subscription;
  };
  if (subscribed) subscribe(subscribed);
  const pushManager = {
    getSubscription: async () => browser.subscription,
    subscribe: async (options) => {
      browser.made.push(options);
      return browser.subscription ?? subscribe([...options.applicationServerKey]);
    },
  };
  const shown = [];
  const registration = { pushManager, getNotifications: async ({ tag }) => shown.filter((one) => one.tag === tag) };
  return Object.assign(browser, {
    shown,
    /** What it offers to a page of this user. */
    to: (user) => ({
      register: async () => registration,
      registered: async () => registration,
      permission: () => browser.permission,
      askPermission: async () => {
        browser.asked += 1;
        return (browser.permission = answer);
      },
      keepStart: async (keeps) => void (browser.keeps = keeps ? user : null),
    }),
  });
}

/** A page of this user in the browser, which does not know the server's key yet. */
function pageOf(user, browser) {
  const calls = [];
  const api = {
    putPushSubscription: async ({ endpoint }) => void calls.push(`PUT ${endpoint}`),
    deletePushSubscription: async (endpoint) => void calls.push(`DELETE ${endpoint}`),
  };
  return { notifications: new Notifications(api, browser?.to(user) ?? null, () => {}), calls };
}

/** Holds the answer of a function back: resolves when it is asked, and then answers when the test says so. */
function held(object, name) {
  let answer;
  const answered = new Promise((resolve) => (answer = resolve));
  const asked = new Promise((resolve) => (object[name] = () => (resolve(), answered)));
  return [asked, answer];
}

/** A global of a browser, for one test. */
function define(t, name, value) {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { value, configurable: true });
  t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
}

async function started(browser, { key = KEY, user = "ana" } = {}) {
  const page = pageOf(user, browser);
  await page.notifications.start(key);
  return page;
}

test("nobody is asked before a click, and a server or a browser without web push offers nothing", async () => {
  const browser = browserWith();
  const { notifications, calls } = await started(browser);
  assert.deepEqual([notifications.state, browser.asked, calls], ["off", 0, []]);
  assert.equal((await started(browserWith(), { key: null })).notifications.state, "none");
  assert.equal((await started(null)).notifications.state, "none");
});

test("a click asks, subscribes with the server's key for visible notifications, and tells the server", async () => {
  const browser = browserWith();
  const { notifications, calls } = await started(browser);
  await notifications.switchOn();
  assert.deepEqual([notifications.state, calls, browser.keeps], ["on", ["PUT https://push.example/1"], "ana"]);
  const [{ userVisibleOnly, applicationServerKey }] = browser.made;
  assert.deepEqual([userVisibleOnly, [...applicationServerKey]], [true, KEY_BYTES]);
});

for (const [answer, state] of [
  ["denied", "denied"],
  ["default", "off"],
])
  test(`a user who answers "${answer}" gets none`, async () => {
    const browser = browserWith({ answer });
    const { notifications, calls } = await started(browser);
    await notifications.switchOn();
    assert.deepEqual([notifications.state, calls, browser.made], [state, [], []]);
  });

test("a page that finds notifications switched on tells the server whose they are now", async () => {
  const browser = browserWith({ permission: "granted", subscribed: KEY_BYTES });
  const { notifications, calls } = await started(browser);
  assert.deepEqual([notifications.state, browser.asked, browser.ended], ["on", 0, 0]);
  assert.deepEqual(calls, ["PUT https://push.example/0"]);
});

test("a subscription that was made with another key is made anew", async () => {
  const browser = browserWith({ permission: "granted", subscribed: [9, 9] });
  const { calls } = await started(browser);
  assert.deepEqual([browser.ended, calls], [1, ["PUT https://push.example/1"]]);
});

test("switching off ends the subscription at the server and in the browser, whatever the server says", async () => {
  const browser = browserWith({ permission: "granted", subscribed: KEY_BYTES });
  const { notifications, calls } = await started(browser);
  notifications.api.deletePushSubscription = async (endpoint) => {
    calls.push(`DELETE ${endpoint}`);
    throw new Error("unreachable");
  };
  await notifications.switchOff();
  assert.deepEqual([notifications.state, browser.ended, browser.keeps], ["off", 1, null]);
  assert.equal(calls.at(-1), "DELETE https://push.example/0");
});

test("a click on a notification signs in whoever the notifications belong to", async () => {
  const browser = browserWith();
  await (await started(browser)).notifications.switchOn();
  assert.equal(browser.keeps, "ana");
  await started(browser, { user: "bruno" });
  assert.equal(browser.keeps, "bruno");
});

test("while the notifications pass from one user to the next, a click signs in nobody", async () => {
  const browser = browserWith({ permission: "granted", subscribed: KEY_BYTES });
  await started(browser);
  const { notifications } = pageOf("bruno", browser);
  notifications.api.putPushSubscription = async () => {
    assert.equal(browser.keeps, null);
    throw new Error("unreachable");
  };
  await assert.rejects(notifications.start(KEY), /unreachable/);
  assert.equal(browser.keeps, null);
});

test("signing out leaves nothing behind, though the permission was taken back meanwhile", async () => {
  const browser = browserWith({ permission: "granted", subscribed: KEY_BYTES });
  await started(browser);
  browser.permission = "denied";
  const { notifications, calls } = await started(browser, { user: "bruno" });
  assert.deepEqual([notifications.state, browser.keeps], ["denied", null]);
  await notifications.switchOff();
  assert.deepEqual([notifications.state, browser.ended, calls], ["denied", 1, ["DELETE https://push.example/0"]]);
});

test("signing out ends the subscription of an earlier page, though this one knows no key", async () => {
  const browser = browserWith({ permission: "granted", subscribed: KEY_BYTES });
  await started(browser);
  const { notifications, calls } = pageOf("ana", browser);
  await notifications.switchOff();
  assert.deepEqual([browser.keeps, browser.ended, calls], [null, 1, ["DELETE https://push.example/0"]]);
  assert.equal(notifications.state, "none");
});

test("signing out ends the subscription in the browser, though the server does not answer", async () => {
  const browser = browserWith({ permission: "granted", subscribed: KEY_BYTES });
  const { notifications } = await started(browser);
  const [asked, answer] = held(notifications.api, "deletePushSubscription");
  const off = notifications.switchOff();
  await asked;
  assert.deepEqual([browser.keeps, browser.subscription], [null, null]);
  answer();
  await off;
});

test("signing out while the browser still asks its user has the last word", async () => {
  const browser = browserWith();
  const { notifications } = await started(browser);
  const [asked, allow] = held(notifications.browser, "askPermission");
  const on = notifications.switchOn();
  await asked;
  const off = notifications.switchOff();
  browser.permission = "granted";
  allow("granted");
  await Promise.all([on, off]);
  assert.deepEqual([notifications.state, browser.keeps, browser.subscription], ["off", null, null]);
});

for (const [way, demoCode, expected] of [
  ["a demo link's code, and nothing else of the address", "x&y", "demo=x%26y"],
  ["nothing of a page that a token signed in", null, undefined],
])
  test(`what is kept for a click is ${way}, until it is taken back`, async (t) => {
    const kept = new Map([["start", "demo=of-somebody-else"]]);
    const cache = {
      put: async (name, response) => void kept.set(name, await response.text()),
      delete: async (name) => kept.delete(name),
    };
    const page = { caches: { open: async () => cache }, location: { hash: "#demo=x%26y&conversation=order-4711" } };
    const browserHas = { navigator: { serviceWorker: {} }, window: { PushManager: true, Notification: true } };
    for (const [name, value] of Object.entries({ ...page, ...browserHas })) define(t, name, value);
    const browser = thisBrowser("http://fake/", demoCode);
    await browser.keepStart(true);
    assert.equal(kept.get("start"), expected);
    await browser.keepStart(false);
    assert.equal(kept.size, 0);
  });

test("a server that takes no subscription leaves them off", async () => {
  const { notifications } = await started(browserWith());
  notifications.api.putPushSubscription = () => Promise.reject(new Error("too many"));
  await assert.rejects(notifications.switchOn(), /too many/);
  assert.equal(notifications.state, "off");
});

test("what was notified of a conversation goes when it is on the screen, and of no other", async () => {
  const browser = browserWith({ permission: "granted", subscribed: KEY_BYTES });
  const closed = [];
  for (const tag of ["a", "b"]) browser.shown.push({ tag, close: () => closed.push(tag) });
  const { notifications } = await started(browser);
  await notifications.clear("a");
  assert.deepEqual(closed, ["a"]);
});

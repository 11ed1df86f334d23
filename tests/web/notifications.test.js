import assert from "node:assert/strict";
import { test } from "node:test";

import { Notifications } from "../../src/recado/web/notifications.js";

const KEY = "AQID-_8"; // the bytes 1 2 3 251 255
const KEY_BYTES = [1, 2, 3, 251, 255];

/** A browser that asks its user, who answers so; `subscribed` is the key of a subscription from before. */
function browserWith({ permission = "default", answer = "granted", subscribed = null } = {}) {
  const browser = { permission: permission, asked: 0, made: [], ended: 0, keeps: false, subscription: null };
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
    offers: {
      register: async () => registration,
      permission: () => browser.permission,
      askPermission: async () => {
        browser.asked += 1;
        return (browser.permission = answer);
      },
      keepStart: async (keeps) => void (browser.keeps = keeps),
    },
  });
}

async function started(browser, key = KEY) {
  const calls = [];
  const api = {
    putPushSubscription: async ({ endpoint }) => void calls.push(`PUT ${endpoint}`),
    deletePushSubscription: async (endpoint) => void calls.push(`DELETE ${endpoint}`),
  };
  const notifications = new Notifications(api, browser?.offers ?? null, () => {});
  await notifications.start(key);
  return { notifications, calls };
}

test("nobody is asked before a click, and a server or a browser without web push offers nothing", async () => {
  const browser = browserWith();
  const { notifications, calls } = await started(browser);
  assert.deepEqual([notifications.state, browser.asked, calls], ["off", 0, []]);
  assert.equal((await started(browserWith(), null)).notifications.state, "none");
  assert.equal((await started(null)).notifications.state, "none");
});

test("a click asks, subscribes with the server's key for visible notifications, and tells the server", async () => {
  const browser = browserWith();
  const { notifications, calls } = await started(browser);
  await notifications.switchOn();
  assert.deepEqual([notifications.state, calls, browser.keeps], ["on", ["PUT https://push.example/1"], true]);
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
  assert.deepEqual([notifications.state, browser.ended, browser.keeps], ["off", 1, false]);
  assert.equal(calls.at(-1), "DELETE https://push.example/0");
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

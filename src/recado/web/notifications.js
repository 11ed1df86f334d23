// @ts-check
/**
 * Notifications of this browser: asks for them when the user says so, never before, and keeps the server and the
 * browser agreed on the subscription.
 *
 * A subscription is the browser's, not the tab's: it goes on when the page is closed, belongs to the user who signed in
 * last, and ends when the user switches it off or signs out. So does what is kept for the page that a click on a
 * notification opens: it never signs in anybody else.
 */

/** @import {HttpApi} from "./http-api.js" */

/** `none`: the server or the browser has no web push; `denied`: the user's settings forbid it. */
/** @typedef {"none" | "off" | "on" | "denied"} NotificationState */

/**
 * @typedef {object} Browser what a browser offers for it, where it does
 * @property {() => Promise<ServiceWorkerRegistration>} register the service worker; once it is active
 * @property {() => Promise<ServiceWorkerRegistration | undefined>} registered one, by this page or an earlier one
 * @property {() => NotificationPermission} permission
 * @property {() => Promise<NotificationPermission>} askPermission
 * @property {(keeps: boolean) => Promise<unknown>} keepStart whether a notification that finds no page open signs in as
 *   this page did
 */

export class Notifications {
  /**
   * @param {HttpApi} api
   * @param {Browser | null} browser
   * @param {() => void} onChange
   */
  constructor(api, browser, onChange) {
    this.api = api;
    this.browser = browser;
    this.onChange = onChange;
    /** @type {NotificationState} */
    this.state = "none";
    /** @type {string} */
    this.key = "";
    /** @type {ServiceWorkerRegistration | null} */
    this.registration = null;
    /** @type {PushManager | null} */
    this.manager = null;
    /** @type {Promise<unknown>} the last change that was asked for: a sign-out has the last word */
    this.lastTurn = Promise.resolve();
  }

  /**
   * Finds out how it stands, and tells the server of the subscription that there is.
   *
   * @param {string | null} key the server's public key, null if it does no web push
   */
  async start(key) {
    const { browser } = this;
    if (key === null || browser === null) return;
    this.key = key;
    await this.inTurn(async () => {
      this.registration = await browser.register();
      this.manager = this.registration.pushManager;
      const subscription = await this.manager.getSubscription();
      const isOn = subscription !== null && browser.permission() === "granted";
      await (isOn ? this.subscribe(browser, this.manager) : browser.keepStart(false));
      this.become(isOn ? "on" : stateWithout(browser));
    });
  }

  /** The user wants them: asks for the permission, from a click. Rejects if the browser or the server refuses. */
  async switchOn() {
    const { browser, manager } = this;
    if (browser === null || manager === null) return;
    await this.inTurn(async () => {
      const isOn = (await browser.askPermission()) === "granted";
      if (isOn) await this.subscribe(browser, manager);
      this.become(isOn ? "on" : stateWithout(browser));
    });
  }

  /** The user wants none, or signs out: whatever this page knows of a subscription, none is left in the browser. */
  async switchOff() {
    const { browser } = this;
    if (browser === null) return;
    await this.inTurn(async () => {
      await browser.keepStart(false);
      const registration = this.registration ?? (await browser.registered());
      const subscription = await registration?.pushManager.getSubscription();
      if (subscription) await this.end(subscription);
      if (this.state !== "none") this.become(stateWithout(browser));
    });
  }

  /** The browser's part of it waits for no server, and is done if the server refuses. */
  async end(/** @type {PushSubscription} */ subscription) {
    const told = this.api.deletePushSubscription(subscription.endpoint).catch(() => {});
    await Promise.all([told, subscription.unsubscribe()]);
  }

  /** The conversation is on the screen: what was notified of it is no news. @param {string} conversation */
  async clear(conversation) {
    const shown = (await this.registration?.getNotifications({ tag: conversation })) ?? [];
    for (const notification of shown) notification.close();
  }

  /**
   * With this server's key: a subscription that was made with another one is void. While it passes to this user, a
   * click signs in nobody.
   *
   * @param {Browser} browser
   * @param {PushManager} manager
   */
  async subscribe(browser, manager) {
    await browser.keepStart(false);
    const key = fromBase64Url(this.key);
    const known = await manager.getSubscription();
    if (known && !isSame(known.options.applicationServerKey, key)) await known.unsubscribe();
    const subscription = await manager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
    await this.api.putPushSubscription(subscription.toJSON());
    await browser.keepStart(true);
  }

  /** One change at a time, in the order in which they were asked for. @param {() => Promise<void>} change */
  inTurn(change) {
    const turn = this.lastTurn.then(change);
    this.lastTurn = turn.catch(() => {}); // whoever asked for it hears of it
    return turn;
  }

  /** @param {NotificationState} state */
  become(state) {
    this.state = state;
    this.onChange();
  }
}

/**
 * This browser, if it has all that it takes: over plain HTTP, and in some private windows, it has not.
 *
 * @param {string} baseUrl
 * @param {string | null} demoCode which signed in this page, null if a token did
 * @returns {Browser | null}
 */
export function thisBrowser(baseUrl, demoCode) {
  if (!("serviceWorker" in navigator && "PushManager" in window && "Notification" in window)) return null;
  return {
    async register() {
      await navigator.serviceWorker.register(new URL("sw.js", baseUrl), { scope: baseUrl });
      return navigator.serviceWorker.ready;
    },
    registered: () => navigator.serviceWorker.getRegistration(baseUrl),
    permission: () => Notification.permission,
    askPermission: () => Notification.requestPermission(),
    keepStart: (keeps) => keepStart(keeps ? demoCode : null),
  };
}

/**
 * For the service worker, which sees no page's address. The demo's code alone, which its links show anyway: without it
 * the click would open the sign-in form. A token is its tab's, and is kept nowhere else.
 *
 * @param {string | null} demoCode
 */
async function keepStart(demoCode) {
  const cache = await caches.open("recado");
  if (demoCode === null) await cache.delete("start");
  else await cache.put("start", new Response(String(new URLSearchParams({ demo: demoCode }))));
}

/** @param {Browser} browser @returns {NotificationState} */
function stateWithout(browser) {
  return browser.permission() === "denied" ? "denied" : "off";
}

/**
 * @param {string} text
 * @returns {Uint8Array<ArrayBuffer>}
 */
function fromBase64Url(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

/**
 * @param {ArrayBuffer | null} known
 * @param {Uint8Array} key
 */
function isSame(known, key) {
  const bytes = new Uint8Array(known ?? new ArrayBuffer(0));
  return bytes.length === key.length && bytes.every((byte, i) => byte === key[i]);
}

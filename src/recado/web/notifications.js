// @ts-check
/**
 * Notifications of this browser: asks for them when the user says so, never before, and keeps the server and the
 * browser agreed on the subscription.
 *
 * A subscription is the browser's, not the tab's: it goes on when the page is closed, belongs to the user who signed in
 * last, and ends when the user switches it off or signs out.
 */

/** @import {HttpApi} from "./http-api.js" */

/** `none`: the server or the browser has no web push; `denied`: the user's settings forbid it. */
/** @typedef {"none" | "off" | "on" | "denied"} NotificationState */

/**
 * @typedef {object} Browser what a browser offers for it, where it does
 * @property {() => Promise<ServiceWorkerRegistration>} register the service worker; once it is active
 * @property {() => NotificationPermission} permission
 * @property {() => Promise<NotificationPermission>} askPermission
 * @property {(start: boolean) => Promise<unknown>} keepStart whether a notification that finds no page open leads to
 *   where this one began
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
    this.isBusy = false;
  }

  /**
   * Finds out how it stands, and tells the server of the subscription that there is.
   *
   * @param {string | null} key the server's public key, null if it does no web push
   */
  async start(key) {
    if (key === null || this.browser === null) return;
    this.key = key;
    this.registration = await this.browser.register();
    this.manager = this.registration.pushManager;
    const subscription = await this.manager.getSubscription();
    const isOn = subscription !== null && this.browser.permission() === "granted";
    if (isOn) await this.subscribe(this.manager);
    this.become(isOn ? "on" : this.browser.permission() === "denied" ? "denied" : "off");
  }

  /** The user wants them: asks for the permission, from a click. Rejects if the browser or the server refuses. */
  async switchOn() {
    const { browser, manager } = this;
    if (browser === null || manager === null) return;
    await this.once(async () => {
      const permission = await browser.askPermission();
      if (permission === "granted") await Promise.all([this.subscribe(manager), browser.keepStart(true)]);
      this.become(permission === "granted" ? "on" : permission === "denied" ? "denied" : "off");
    });
  }

  /** The user wants none, or signs out. */
  async switchOff() {
    const { browser, manager } = this;
    if (browser === null || manager === null || this.state !== "on") return;
    await this.once(async () => {
      await browser.keepStart(false);
      const subscription = await manager.getSubscription();
      if (subscription) await this.api.deletePushSubscription(subscription.endpoint).catch(() => {}); // it ends below
      await subscription?.unsubscribe();
      this.become("off");
    });
  }

  /** The conversation is on the screen: what was notified of it is no news. @param {string} conversation */
  async clear(conversation) {
    const shown = (await this.registration?.getNotifications({ tag: conversation })) ?? [];
    for (const notification of shown) notification.close();
  }

  /**
   * With this server's key: a subscription that was made with another one is void.
   *
   * @param {PushManager} manager
   */
  async subscribe(manager) {
    const key = fromBase64Url(this.key);
    const known = await manager.getSubscription();
    if (known && !isSame(known.options.applicationServerKey, key)) await known.unsubscribe();
    const subscription = await manager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
    await this.api.putPushSubscription(subscription.toJSON());
  }

  /** @param {() => Promise<void>} change */
  async once(change) {
    if (this.isBusy) return;
    this.isBusy = true;
    await change().finally(() => (this.isBusy = false));
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
 * @returns {Browser | null}
 */
export function thisBrowser(baseUrl) {
  if (!("serviceWorker" in navigator && "PushManager" in window && "Notification" in window)) return null;
  return {
    async register() {
      await navigator.serviceWorker.register(new URL("sw.js", baseUrl), { scope: baseUrl });
      return navigator.serviceWorker.ready;
    },
    permission: () => Notification.permission,
    askPermission: () => Notification.requestPermission(),
    async keepStart(start) {
      const cache = await caches.open("recado");
      await (start ? cache.put("start", new Response(location.hash.slice(1))) : cache.delete("start"));
    },
  };
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

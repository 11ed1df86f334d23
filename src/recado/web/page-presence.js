// @ts-check
/**
 * Tells the server over HTTP that this page is open, and whether it is on the screen: every so often, and at once when
 * that changes. By it a user of an external broker is online, and no notification comes to who is looking.
 *
 * One report at a time, so that an older one never overtakes a newer. What fails is said again at the next turn. A page
 * that is left says so in a call that outlives it; one that comes back from the browser's cache begins anew.
 */

import { SignedOut } from "./http-api.js";

/** @import {HttpApi} from "./http-api.js" */

const RENEW_MS = 30_000;

export class PagePresence {
  /**
   * @param {HttpApi} api
   * @param {string} page an id of this page's own
   * @param {() => boolean} isVisible
   * @param {(error: SignedOut) => void} onSignedOut an external broker goes on with a token that has ended: this does not
   */
  constructor(api, page, isVisible, onSignedOut) {
    this.api = api;
    this.page = page;
    this.isVisible = isVisible;
    this.onSignedOut = onSignedOut;
    this.isStarted = false;
    this.isOpen = false;
    this.renewMs = RENEW_MS;
    /** @type {boolean | null} what was said last */
    this.said = null;
    this.isBusy = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** From now on it is reported. */
  start() {
    if (this.isStarted) return;
    this.isStarted = true;
    globalThis.document?.addEventListener("visibilitychange", this.changed);
    globalThis.addEventListener?.("pagehide", this.left);
    globalThis.addEventListener?.("pageshow", this.entered);
    this.entered();
  }

  /** The user has signed out. */
  stop() {
    this.isStarted = false;
    globalThis.document?.removeEventListener("visibilitychange", this.changed);
    globalThis.removeEventListener?.("pagehide", this.left);
    globalThis.removeEventListener?.("pageshow", this.entered);
    this.left();
  }

  entered = () => {
    if (this.isOpen) return;
    this.isOpen = true;
    void this.report();
  };

  /** @param {unknown} error */
  failed(error) {
    if (!(error instanceof SignedOut) || !this.isOpen) return null;
    this.isOpen = false; // nobody may say that it is closed, either
    this.stop();
    this.onSignedOut(error);
    return null;
  }

  /** It may have come to the screen, or gone from it. */
  changed = () => {
    if (this.isOpen && this.isVisible() !== this.said) void this.report();
  };

  left = () => {
    if (!this.isOpen) return;
    this.isOpen = false;
    clearTimeout(this.timer);
    this.api.reportPageClosed(this.page).catch(() => {}); // it is forgotten by itself a while later
  };

  async report() {
    if (this.isBusy) return; // the report that is under way is followed by another, if this is news then
    clearTimeout(this.timer);
    this.isBusy = true;
    const visible = (this.said = this.isVisible());
    const answer = await this.api.reportPage(this.page, visible).catch((error) => this.failed(error));
    this.isBusy = false;
    if (answer !== null) this.renewMs = answer.renew_s * 1000;
    if (!this.isOpen) return;
    this.timer = setTimeout(() => void this.report(), this.renewMs);
    if (answer !== null) this.changed();
  }
}

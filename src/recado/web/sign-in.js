// @ts-check
/** Where the user's token comes from: a demo code exchanged whenever a token is needed, or one that the user pasted. */

import { ApiError, SignedOut } from "./http-api.js";

/** @import {TokenSource} from "./http-api.js" */

const STORAGE_KEY = "recado.token";

/** @implements {TokenSource} */
export class DemoTokens {
  /**
   * @param {string} code
   * @param {string} baseUrl
   */
  constructor(code, baseUrl) {
    this.url = new URL("demo/token", baseUrl);
    this.code = code;
    /** @type {Promise<string> | null} */
    this.current = null;
  }

  /** @param {boolean} renew */
  token(renew) {
    if (renew || this.current === null) {
      const exchange = this.exchange();
      exchange.catch(() => this.current === exchange && (this.current = null));
      this.current = exchange;
    }
    return this.current;
  }

  /** @returns {Promise<string>} */
  async exchange() {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ code: this.code });
    const response = await fetch(this.url, { method: "POST", headers, body }).catch((error) => {
      throw new ApiError(0, "unreachable", String(error));
    });
    if (response.ok) return (await response.json()).token;
    if (response.status < 500 && response.status !== 429) throw new SignedOut("refused");
    throw new ApiError(response.status, "unavailable", "the demo gave no token");
  }
}

/** @implements {TokenSource} */
export class PastedToken {
  /** @param {Storage} storage */
  constructor(storage) {
    this.storage = storage;
  }

  get isThere() {
    return this.storage.getItem(STORAGE_KEY) !== null;
  }

  /** @param {string} token */
  keep(token) {
    this.storage.setItem(STORAGE_KEY, token);
  }

  forget() {
    this.storage.removeItem(STORAGE_KEY);
  }

  /** @param {boolean} renew */
  async token(renew) {
    const token = this.storage.getItem(STORAGE_KEY);
    if (token !== null && !renew) return token;
    this.forget();
    throw new SignedOut(token === null ? "missing" : expired(token) ? "expired" : "refused");
  }
}

/**
 * Whether a JWT says itself that its time is over; only to choose the words for the user.
 *
 * @param {string} token
 */
function expired(token) {
  try {
    const claims = JSON.parse(atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/")));
    return claims.exp * 1000 <= Date.now();
  } catch {
    return false;
  }
}

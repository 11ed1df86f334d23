// @ts-check
/**
 * What the links of the HTTP port have in common: messages and reads go up as requests of their own, and a link follows
 * everything from its opening on, so what came before is read from the log.
 *
 * A message that gets no answer, or one that says "later", ends the link: the next one sends it again, after the pause
 * that every lost connection makes. A refusal is about that message alone.
 */

import { ApiError, SignedOut } from "./http-api.js";
import { LinkClosed } from "./link.js";

/** @import {ChatEvent} from "./http-api.js" */
/** @import {Answer, LinkEnd, LinkKind, LinkOptions} from "./link.js" */
/** @import {OutboxMessage} from "./outbox.js" */

/** What says something of a message, as MQTT says it; every other status says: later. @type {Record<number, number>} */
const REASON_CODES = { 400: 0x99, 403: 0x87, 404: 0x87, 409: 0x87, 413: 0x97 };

export class HttpLink {
  /**
   * @param {LinkKind} kind
   * @param {LinkOptions} options
   */
  constructor(kind, { api, hooks, openMs }) {
    this.kind = kind;
    this.api = api;
    this.hooks = hooks;
    this.openMs = openMs;
    this.carriesSignals = true;
    this.isOver = false;
    this.onEnded = (/** @type {LinkEnd} */ _end) => {};
    /** @type {Promise<LinkEnd>} */
    this.ended = new Promise((resolve) => (this.onEnded = resolve));
  }

  /** Rejects with `LinkClosed`. */
  async open() {
    const timer = setTimeout(() => this.end({ why: "lost", reason: "it did not open in time" }), this.openMs);
    const begun = this.begin().catch((error) => this.failed(error));
    await this.unlessEnded(begun).finally(() => clearTimeout(timer));
  }

  /**
   * Waits for something that only a link that lives brings.
   *
   * @param {Promise<unknown>} awaited
   */
  async unlessEnded(awaited) {
    const end = await Promise.race([awaited.then(() => null), this.ended]);
    if (end !== null) throw new LinkClosed(end);
    if (this.isOver) throw new LinkClosed(await this.ended);
  }

  /**
   * Opens what events come over, and resolves once it has brought a first sign of life.
   *
   * @abstract
   * @returns {Promise<void>}
   */
  async begin() {}

  /** Lets go of it. @abstract */
  release() {}

  /** @returns {Promise<string[]>} */
  async resume() {
    return [];
  }

  /**
   * @param {OutboxMessage} message
   * @returns {Promise<Answer>} rejects with `LinkClosed`
   */
  async send(message) {
    try {
      this.sent(message, await this.api.sendMessage(message));
      return { reasonCode: 0, reason: "" };
    } catch (error) {
      const reasonCode = error instanceof ApiError && error.isTheServers && REASON_CODES[error.status];
      if (reasonCode) return { reasonCode, reason: /** @type {ApiError} */ (error).message };
      /** @type {LinkEnd} */
      const end = error instanceof SignedOut ? endBy(error) : { why: "server", reason: String(error) };
      this.end(end);
      throw new LinkClosed(end);
    }
  }

  /**
   * @param {OutboxMessage} _message
   * @param {ChatEvent} _event
   */
  sent(_message, _event) {}

  /** @param {string} id */
  typing(id) {
    this.api.signalTyping(id).catch(() => {}); // it would be too old when it is sent again
  }

  /**
   * @param {string} id
   * @param {number} seq
   * @returns {Promise<unknown>}
   */
  read(id, seq) {
    return this.api.markRead(id, seq);
  }

  /**
   * @param {string} _id
   * @param {number} _seq
   */
  acknowledge(_id, _seq) {}

  probe() {}

  close() {
    this.end({ why: "closed", reason: "closed" });
  }

  /** @param {unknown} error */
  failed(error) {
    this.end(endBy(error));
  }

  /** @param {LinkEnd} end */
  end(end) {
    if (this.isOver) return;
    this.isOver = true;
    this.release();
    this.onEnded(end);
  }
}

/**
 * What an error says of the link on which it happened.
 *
 * @param {unknown} error
 * @returns {LinkEnd}
 */
function endBy(error) {
  if (error instanceof SignedOut) return { why: "token", reason: error.message };
  return { why: error instanceof ApiError && error.isTheServers ? "server" : "lost", reason: String(error) };
}

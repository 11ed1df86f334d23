// @ts-check
/**
 * Takes what the user writes into the outbox, and sends it: per conversation in order, one message at a time, so that a lost link never lets a later message
 * overtake an earlier one. What a link's end leaves unanswered stays and is sent again, with its id, over the next.
 */

import { LinkClosed } from "./link.js";
import { Outbox } from "./outbox.js";

/** @import {Link} from "./link.js" */
/** @import {OutboxMessage} from "./outbox.js" */

/**
 * @typedef {object} SenderHooks
 * @property {() => Link | null} link the one in use
 * @property {(conversation: string) => void} onChange
 * @property {(message: OutboxMessage) => void} onAcknowledgedRetry the server has it, perhaps since an earlier try
 */

export class OutboxSender {
  /**
   * @param {Storage | null} storage
   * @param {SenderHooks} hooks
   */
  constructor(storage, hooks) {
    this.storage = storage;
    this.hooks = hooks;
    this.outbox = new Outbox("", null);
    /** @type {Set<string>} */
    this.busy = new Set();
  }

  /** It is known now whose messages these are, and those of an earlier page. @param {string} user */
  signedIn(user) {
    const early = this.outbox.messages.values();
    this.outbox = new Outbox(user, this.storage);
    for (const { conversation, body } of early) this.outbox.add(conversation, body);
  }

  /**
   * @param {string} conversation
   * @param {string} body
   */
  write(conversation, body) {
    const message = this.outbox.add(conversation, body);
    this.hooks.onChange(conversation);
    void this.flush(conversation);
    return message;
  }

  /** @param {string} messageId */
  retry(messageId) {
    const message = this.outbox.messages.get(messageId);
    if (!message) return;
    this.outbox.retry(messageId);
    this.hooks.onChange(message.conversation);
    void this.flush(message.conversation);
  }

  /** @param {string} messageId */
  discard(messageId) {
    const message = this.outbox.messages.get(messageId);
    this.outbox.remove(messageId);
    if (message) this.hooks.onChange(message.conversation);
  }

  flushAll() {
    for (const conversation of this.outbox.waiting()) void this.flush(conversation);
  }

  /** @param {string} conversation */
  async flush(conversation) {
    if (this.busy.has(conversation)) return;
    this.busy.add(conversation);
    for (let goOn = true; goOn;) {
      const link = this.hooks.link();
      const message = this.outbox.next(conversation);
      goOn = link !== null && message !== undefined && (await this.sendOne(link, message));
    }
    this.busy.delete(conversation);
  }

  /**
   * @param {Link} link
   * @param {OutboxMessage} message
   * @returns {Promise<boolean>} whether to go on: over this link, or over one that has taken over
   */
  async sendOne(link, message) {
    const { id, conversation } = message;
    try {
      const { reasonCode, reason } = await link.send(message);
      if (reasonCode >= 0x80) this.outbox.fail(id, reasonCode, reason);
      else this.acknowledged(message);
      return true;
    } catch (error) {
      if (!(error instanceof LinkClosed)) throw error;
      message.resent = true;
      return this.hooks.link() !== link;
    } finally {
      this.hooks.onChange(conversation);
    }
  }

  /** @param {OutboxMessage} message */
  acknowledged(message) {
    const eventIsHere = !this.outbox.messages.has(message.id);
    this.outbox.acknowledge(message.id);
    if (message.resent && !eventIsHere) this.hooks.onAcknowledgedRetry(message);
  }
}

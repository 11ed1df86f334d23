// @ts-check
/**
 * Sends the outbox: per conversation in order, one message at a time, so that a lost link never lets a later message
 * overtake an earlier one. What a link's end leaves unanswered stays and is sent again, with its id, over the next.
 */

import { LinkClosed } from "./link.js";

/** @import {Link} from "./link.js" */
/** @import {Outbox, OutboxMessage} from "./outbox.js" */

/**
 * @typedef {object} SenderHooks
 * @property {() => Link | null} link the one in use
 * @property {(conversation: string) => void} onChange
 * @property {(message: OutboxMessage) => void} onAcknowledgedRetry the server has it, perhaps since an earlier try
 */

export class OutboxSender {
  /**
   * @param {Outbox} outbox
   * @param {SenderHooks} hooks
   */
  constructor(outbox, hooks) {
    this.outbox = outbox;
    this.hooks = hooks;
    /** @type {Set<string>} */
    this.busy = new Set();
  }

  flushAll() {
    for (const conversation of this.outbox.waiting()) this.flush(conversation);
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

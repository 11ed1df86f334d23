// @ts-check
/**
 * Sends the outbox: per conversation in order, one message at a time, so that a lost connection never lets a later
 * message overtake an earlier one. What the connection's end leaves unanswered stays and is sent again with its id.
 */

import { MqttError } from "./mqtt-codec.js";
import { MqttClosed } from "./mqtt.js";

/** @import {MqttConnection} from "./mqtt.js" */
/** @import {Outbox, OutboxMessage} from "./outbox.js" */

/** A server that hangs up for one of these would do so again: the message is at fault, not the connection. */
const FATAL_TO_A_MESSAGE = [0x81, 0x82, 0x90, 0x95, 0x99];

/**
 * @typedef {object} SenderHooks
 * @property {() => MqttConnection | null} connection
 * @property {(conversation: string) => string} topicName
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
      const connection = this.hooks.connection();
      const message = this.outbox.next(conversation);
      goOn = connection !== null && message !== undefined && (await this.sendOne(connection, message));
    }
    this.busy.delete(conversation);
  }

  /**
   * @param {MqttConnection} connection
   * @param {OutboxMessage} message
   * @returns {Promise<boolean>} whether the next one may follow on this connection
   */
  async sendOne(connection, message) {
    const { id, conversation, body } = message;
    try {
      const payload = JSON.stringify({ id, body });
      const { reasonCode, reason } = await connection.publish(this.hooks.topicName(conversation), payload, 1);
      if (reasonCode >= 0x80) this.outbox.fail(id, reasonCode, reason);
      else this.acknowledged(message);
      return true;
    } catch (error) {
      return this.interrupted(message, error);
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

  /**
   * @param {OutboxMessage} message
   * @param {unknown} error
   */
  interrupted(message, error) {
    message.resent = true;
    if (error instanceof MqttError) this.outbox.fail(message.id, error.reasonCode, error.message);
    else if (!(error instanceof MqttClosed)) throw error;
    else if (FATAL_TO_A_MESSAGE.includes(error.reasonCode))
      this.outbox.fail(message.id, error.reasonCode, error.message);
    return error instanceof MqttError;
  }
}

// @ts-check
/**
 * The messages that the user has written and the server has not acknowledged yet.
 *
 * A message gets its id when it is written and keeps it for every further try, so the server can tell a retry from a
 * new message. It stays in the browser's storage, one entry per message so that tabs do not overwrite each other,
 * until it was acknowledged or discarded. Storage that refuses (private window, quota) costs only the reload.
 */

/**
 * @typedef {"sending" | "sent" | "failed"} OutboxStatus
 *
 * @typedef {object} OutboxMessage
 * @property {string} id
 * @property {string} conversation
 * @property {string} body
 * @property {number} at when it was written, ms since the epoch
 * @property {number} order what keeps messages of the same ms in order
 * @property {OutboxStatus} status `sent` from the acknowledgement until the event itself is here
 * @property {string} [reason] why it failed, in the server's words
 * @property {number} [reasonCode] why it failed, as MQTT says it
 * @property {boolean} [resent] whether an earlier try may have arrived
 */

const PREFIX = "recado.outbox";

/** 96 random bits in the characters that ids may have. */
export function randomId() {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => alphabet[byte & 63]).join("");
}

export class Outbox {
  /**
   * @param {string} user whose messages
   * @param {Storage | null} storage
   */
  constructor(user, storage) {
    this.prefix = `${PREFIX}/${user}/`;
    this.storage = storage;
    /** @type {Map<string, OutboxMessage>} by id, in the order of writing */
    this.messages = new Map(this.stored().map((message) => [message.id, message]));
    this.nextOrder = Math.max(0, ...[...this.messages.values()].map(({ order }) => order + 1));
  }

  /**
   * @param {string} conversation
   * @param {string} body
   * @returns {OutboxMessage}
   */
  add(conversation, body) {
    const order = this.nextOrder++;
    /** @type {OutboxMessage} */
    const message = { id: randomId(), conversation, body, at: Date.now(), order, status: "sending" };
    this.messages.set(message.id, message);
    this.store(message);
    return message;
  }

  /**
   * @param {string} conversation
   * @returns {OutboxMessage[]}
   */
  of(conversation) {
    return [...this.messages.values()].filter((message) => message.conversation === conversation);
  }

  /** The conversations with something to send. */
  waiting() {
    const sending = [...this.messages.values()].filter(({ status }) => status === "sending");
    return [...new Set(sending.map(({ conversation }) => conversation))];
  }

  /**
   * The message to send next in a conversation.
   *
   * @param {string} conversation
   */
  next(conversation) {
    return this.of(conversation).find(({ status }) => status === "sending");
  }

  /**
   * The server has it: it need not survive a reload any more.
   *
   * @param {string} id
   */
  acknowledge(id) {
    const message = this.messages.get(id);
    if (message) message.status = "sent";
    this.unstore(id);
  }

  /**
   * @param {string} id
   * @param {number} reasonCode
   * @param {string} reason
   */
  fail(id, reasonCode, reason) {
    const message = this.messages.get(id);
    if (!message) return;
    Object.assign(message, { status: "failed", reasonCode, reason });
    this.store(message);
  }

  /** @param {string} id */
  retry(id) {
    const message = this.messages.get(id);
    if (!message) return;
    Object.assign(message, { status: "sending", reason: undefined, reasonCode: undefined });
    this.store(message);
  }

  /**
   * Forgets a message: discarded by the user, or its event is here.
   *
   * @param {string} id
   */
  remove(id) {
    this.unstore(id);
    return this.messages.delete(id);
  }

  /** @returns {OutboxMessage[]} */
  stored() {
    const found = [];
    for (let i = 0; i < (this.storage?.length ?? 0); i++) {
      const key = this.storage?.key(i);
      if (!key?.startsWith(this.prefix)) continue;
      const message = parsed(this.storage?.getItem(key));
      if (message) found.push({ ...message, resent: true });
    }
    return found.sort((a, b) => a.order - b.order || a.at - b.at);
  }

  /** @param {OutboxMessage} message */
  store(message) {
    try {
      this.storage?.setItem(this.prefix + message.id, JSON.stringify(message));
    } catch {
      // Full or forbidden: the message is still sent from memory.
    }
  }

  /** @param {string} id */
  unstore(id) {
    this.storage?.removeItem(this.prefix + id);
  }
}

/**
 * @param {string | null | undefined} text
 * @returns {OutboxMessage | null}
 */
function parsed(text) {
  try {
    const message = JSON.parse(text ?? "null");
    return typeof message?.id === "string" && typeof message.body === "string" ? message : null;
  } catch {
    return null;
  }
}

// @ts-check
/**
 * How far each member of a conversation has received and read it. Pure.
 *
 * Invariants: a cursor only moves forward, and what was read was delivered; so signals and answers may come in any
 * order.
 */

/**
 * @typedef {"stored" | "delivered" | "read"} ReceiptState
 *
 * @typedef {object} Receipt as `GET …/events` answers it
 * @property {string} user
 * @property {number} [delivered_up_to]
 * @property {number} [read_up_to]
 */

export class Receipts {
  constructor() {
    /** @type {Map<string, {deliveredUpTo: number, readUpTo: number}>} */
    this.cursors = new Map();
  }

  /** @param {Receipt} receipt */
  take({ user, delivered_up_to = 0, read_up_to = 0 }) {
    const known = this.cursors.get(user);
    const readUpTo = Math.max(read_up_to, known?.readUpTo ?? 0);
    this.cursors.set(user, { readUpTo, deliveredUpTo: Math.max(delivered_up_to, readUpTo, known?.deliveredUpTo ?? 0) });
  }

  /**
   * The least that all of these members have done with an entry.
   *
   * @param {number} seq
   * @param {string[]} readers
   * @returns {ReceiptState}
   */
  stateOf(seq, readers) {
    if (readers.length === 0) return "stored";
    if (readers.every((user) => this.hasRead(user, seq))) return "read";
    return readers.every((user) => (this.cursors.get(user)?.deliveredUpTo ?? 0) >= seq) ? "delivered" : "stored";
  }

  /**
   * @param {string} user
   * @param {number} seq
   */
  hasRead(user, seq) {
    return (this.cursors.get(user)?.readUpTo ?? 0) >= seq;
  }
}

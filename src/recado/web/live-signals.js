// @ts-check
/**
 * What the user's own page signals: that it types, and how far it has read.
 *
 * Reads are sent once for a burst, and again on the next connection if this one does not acknowledge them. A sign of
 * typing is lost with its connection: it would be too old.
 */

const TYPING_EVERY_MS = 3_000;
const READ_AFTER_MS = 300;

/** @import {Link} from "./link.js" */

export class LiveSignals {
  /** @param {() => Link | null} link the one in use */
  constructor(link) {
    this.link = link;
    /** @type {Map<string, number>} */
    this.typingSentAt = new Map();
    /** @type {Map<string, number>} */
    this.unsentReads = new Map();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.readTimer = undefined;
  }

  /** Tells the others that the user is typing; at most every 3 s. @param {string} id */
  typing(id) {
    const now = Date.now();
    if (now - (this.typingSentAt.get(id) ?? 0) < TYPING_EVERY_MS) return;
    this.typingSentAt.set(id, now);
    this.link()?.typing(id);
  }

  /** The message was sent: a next one is a new sign of typing. @param {string} id */
  typingEnded(id) {
    this.typingSentAt.delete(id);
  }

  /**
   * @param {string} id
   * @param {number} seq
   */
  read(id, seq) {
    this.unsentReads.set(id, seq);
    this.readTimer ??= setTimeout(() => this.sendReads(), READ_AFTER_MS);
  }

  sendReads() {
    this.stop();
    for (const [id, seq] of this.unsentReads) {
      const settled = () => this.unsentReads.get(id) === seq && this.unsentReads.delete(id);
      this.link()?.read(id, seq).then(settled, () => {});
    }
  }

  stop() {
    clearTimeout(this.readTimer);
    this.readTimer = undefined;
  }
}

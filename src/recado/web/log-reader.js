// @ts-check
/**
 * Reads a conversation over HTTP into its `ConversationLog`: older pages, what a gap lacks, the receipts, and the view
 * when its members have changed, for nobody signals who of the new ones is there.
 *
 * One read of a kind per conversation at a time. No answer makes it ask the same again: it goes on only where the last
 * page brought the cursor on, and what the server does not have is taken as not there.
 */

/** @import {ConversationLog} from "./conversation-log.js" */
/** @import {ChatEvent, Conversation, HttpApi} from "./http-api.js" */
/** @import {Receipt} from "./receipts.js" */

export const HISTORY_PAGE = 50;
const GAP_PAGE = 200;
const VIEW_AFTER_MS = 500; // members are often added one after another

/**
 * @typedef {object} ReaderHooks
 * @property {(events: ChatEvent[]) => void} onEvents
 * @property {(id: string) => void} onChange
 * @property {(summary: Conversation) => void} onView
 * @property {(error: unknown, log: ConversationLog) => void} onGapFailed
 */

export class LogReader {
  /**
   * @param {HttpApi} api
   * @param {ReaderHooks} hooks
   */
  constructor(api, hooks) {
    this.api = api;
    this.hooks = hooks;
    /** @type {Map<string, Promise<void>>} what is being read */
    this.reading = new Map();
    /** @type {Set<string>} conversations whose gap is to be read (once more) */
    this.wanted = new Set();
    /** @type {Set<string>} conversations whose receipts were read on this connection: signals keep them up */
    this.receiptsKnown = new Set();
    /** @type {Map<string, ReturnType<typeof setTimeout>>} */
    this.viewTimers = new Map();
  }

  stop() {
    for (const timer of this.viewTimers.values()) clearTimeout(timer);
    this.viewTimers.clear();
  }

  /** Signals were missed. */
  receiptsMayDiffer() {
    this.receiptsKnown.clear();
  }

  /**
   * @param {ConversationLog} log
   * @returns {Promise<void>} rejects with `ApiError` if the history cannot be read now
   */
  async loadOlder(log) {
    if (!log.hasOlder) return;
    await this.once(`older/${log.id}`, async () => {
      const page = await this.api.events(log.id, { before: log.firstSeq, limit: HISTORY_PAGE });
      log.prepend(page.events);
      this.took(log, page);
    }).finally(() => this.hooks.onChange(log.id));
  }

  /**
   * Reads what lies between the cursor and the server's newest event.
   *
   * @param {ConversationLog} log
   */
  async fillGap(log) {
    this.wanted.add(log.id);
    try {
      while (this.wanted.has(log.id)) await this.once(`gap/${log.id}`, () => this.readToTheEnd(log));
    } catch (error) {
      this.hooks.onGapFailed(error, log);
    } finally {
      this.hooks.onChange(log.id);
    }
  }

  /**
   * Reads how far the others are, unless this connection's signals have kept that up to date.
   *
   * @param {ConversationLog} log
   */
  async readReceipts(log) {
    if (this.receiptsKnown.has(log.id) || !log.presence.isShown || log.removed) return;
    await this.once(`receipts/${log.id}`, async () => {
      const page = await this.api.events(log.id, { after: log.cursor, limit: 1 });
      this.took(log, { events: [], receipts: page.receipts });
    })
      .catch(() => {}) // the next answer or signal has them
      .finally(() => this.hooks.onChange(log.id));
  }

  /** @param {ConversationLog} log */
  membersChanged(log) {
    if (this.viewTimers.has(log.id)) return;
    this.viewTimers.set(log.id, setTimeout(() => void this.readView(log), VIEW_AFTER_MS));
  }

  /** @param {ConversationLog} log */
  async readView(log) {
    this.viewTimers.delete(log.id);
    const summary = await this.api.conversation(log.id).catch(() => null); // without it the next list says it
    if (summary) this.hooks.onView(summary);
    if (summary && !log.removed) log.update(summary);
    this.hooks.onChange(log.id);
  }

  /** @param {ConversationLog} log */
  async readToTheEnd(log) {
    this.wanted.delete(log.id); // who asks from here on may know of more
    let more = true;
    while (more) more = await this.readAfterCursor(log);
    if (!this.wanted.has(log.id)) log.acceptHole();
  }

  /**
   * @param {ConversationLog} log
   * @returns {Promise<boolean>} whether there is more to read
   */
  async readAfterCursor(log) {
    const before = log.cursor;
    const page = await this.api.events(log.id, { after: before, limit: GAP_PAGE });
    log.receivePage(page.events);
    this.took(log, page);
    return log.cursor > before && (log.cursor < page.last_seq || log.hasGap);
  }

  /**
   * @param {ConversationLog} log
   * @param {{events: ChatEvent[], receipts?: Receipt[]}} page
   */
  took(log, { events, receipts }) {
    for (const receipt of receipts ?? []) log.receipts.take(receipt);
    this.receiptsKnown.add(log.id);
    this.hooks.onEvents(events);
  }

  /**
   * Reads, or waits for the read that is under way.
   *
   * @param {string} key
   * @param {() => Promise<void>} read
   */
  once(key, read) {
    const reading = this.reading.get(key) ?? read().finally(() => this.reading.delete(key));
    this.reading.set(key, reading);
    return reading;
  }
}

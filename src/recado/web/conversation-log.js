// @ts-check
/**
 * What the page knows of one conversation: its summary, a stretch of its log without a hole, how far the others have
 * read it, and who is there or typing.
 *
 * Invariants: `events` ascend and end at `cursor`, the seq up to which everything that the server has is known; each
 * stands as it is now, with its edits and deletes applied; an event that comes too early waits in `ahead` until the gap
 * before it is filled; an event at or below the cursor is a duplicate.
 * Pure but for `Date.now()`: the network is the conversation client's business.
 */

import { applyChange, isMessage } from "./log-changes.js";
import { Presence } from "./presence.js";
import { Receipts } from "./receipts.js";

/** @import {ChatEvent, Conversation} from "./http-api.js" */
/** @import {ReceiptState} from "./receipts.js" */

const TYPING_MS = 5_000;
const TYPING_MS_MAX = 30_000;
const CHANGES = ["edited", "deleted", "user_erased"];

/**
 * @typedef {object} Signal what members are told of each other outside the log
 * @property {string} type
 * @property {string} from
 * @property {number} [seq] of `delivered` and `read`: up to which
 * @property {number} [for_ms] of `typing`
 * @property {boolean} [online] of `presence`
 * @property {number} [last_seen] of `presence`
 */

export class ConversationLog {
  /**
   * @param {Conversation} summary
   * @param {string} me
   */
  constructor(summary, me) {
    this.me = me;
    this.summary = summary;
    this.cursor = summary.last_seq;
    this.countedUpTo = summary.last_seq;
    /** @type {ChatEvent[]} */
    this.events = [];
    /** @type {Map<number, ChatEvent>} */
    this.ahead = new Map();
    /** whether the user was removed from it */
    this.removed = false;
    /** whether the host erased it, for everybody */
    this.erased = false;
    /** whether the server has said that nothing lies before `events` */
    this.startReached = false;
    /** @type {Map<string, number>} user → when the sign of typing expires */
    this.typing = new Map();
    this.receipts = new Receipts();
    this.presence = new Presence(summary.online);
    /** @type {Map<string, number>} user → the seq of its `member_added`, where that is among the events */
    this.joinedAt = new Map();
  }

  get id() {
    return this.summary.id;
  }

  get firstSeq() {
    return this.events[0]?.seq ?? this.cursor + 1;
  }

  get hasOlder() {
    return this.firstSeq > 1 && !this.startReached;
  }

  get hasGap() {
    return this.ahead.size > 0;
  }

  /**
   * Takes an event that arrived live or from a resume.
   *
   * @param {ChatEvent} event
   * @returns {ChatEvent[]} the events that became part of the log: none for a duplicate or behind a gap
   */
  receive(event) {
    if (event.seq <= this.cursor) return [];
    if (event.type === "conversation_erased") return this.erase(event);
    this.ahead.set(event.seq, event);
    return this.applyAhead();
  }

  /**
   * Takes what the server's history has after the cursor. Nothing lies between its entries, or between the cursor and
   * the first: a log that begins late must not be asked for its beginning for ever.
   *
   * @param {ChatEvent[]} page ascending
   */
  receivePage(page) {
    for (const event of page) {
      if (event.seq <= this.cursor) continue;
      this.cursor = event.seq - 1;
      this.receive(event);
    }
    for (const seq of this.ahead.keys()) if (seq <= this.cursor) this.ahead.delete(seq);
  }

  /** The server has nothing of what is missing before the events that came too early: goes on with those. */
  acceptHole() {
    this.receivePage([...this.ahead.values()].sort((a, b) => a.seq - b.seq));
  }

  /** @returns {ChatEvent[]} */
  applyAhead() {
    const applied = [];
    for (let next = this.ahead.get(this.cursor + 1); next; next = this.ahead.get(this.cursor + 1)) {
      this.ahead.delete(next.seq);
      this.append(next);
      applied.push(next);
    }
    return applied;
  }

  /**
   * Takes a page of history that ends just before `firstSeq`.
   *
   * @param {ChatEvent[]} page ascending
   */
  prepend(page) {
    const older = page.filter(({ seq }) => seq < this.firstSeq);
    if (older.length === 0) this.startReached = true;
    for (const change of this.events) if (CHANGES.includes(change.type ?? "")) applyChange(older, change);
    for (const event of older) this.noteJoining(event);
    this.events.unshift(...older);
  }

  /**
   * Takes an entry that the server says reads differently now, with no event about it.
   *
   * @param {ChatEvent} entry
   */
  replace(entry) {
    const at = this.events.findIndex(({ seq }) => seq === entry.seq);
    if (at >= 0) this.events[at] = entry;
  }

  /** @param {ChatEvent} event */
  append(event) {
    const { summary } = this;
    const isNew = event.seq > this.countedUpTo;
    if (isNew && this.takesBackUnread(event)) summary.unread_count = Math.max(0, summary.unread_count - 1);
    applyChange(this.events, event);
    this.events.push(event);
    this.cursor = event.seq;
    if (event.seq >= summary.last_seq) {
      summary.last_event = event;
      summary.last_seq = event.seq;
      summary.active_at = event.at;
    }
    if (event.from !== null) this.typing.delete(event.from);
    if (isNew) {
      this.countedUpTo = event.seq;
      if (this.countsAsUnread(event)) summary.unread_count += 1;
    }
    this.applyToMembers(event);
    this.noteJoining(event);
  }

  /**
   * The host has erased the conversation: nothing of it stays, and nothing comes after.
   *
   * @param {ChatEvent} event
   */
  erase(event) {
    this.jumpTo(event.seq);
    this.removed = this.erased = this.startReached = true;
    this.summary.unread_count = 0;
    return [event];
  }

  /** @param {ChatEvent} event */
  noteJoining({ type, user = "", seq }) {
    if (type === "member_added") this.joinedAt.set(user, Math.max(seq, this.joinedAt.get(user) ?? 0));
  }

  /** @param {ChatEvent} event */
  applyToMembers({ type, user = "", subject, metadata }) {
    const { summary } = this;
    if (type === "conversation_changed") {
      if (subject !== undefined) summary.subject = subject;
      if (metadata !== undefined) summary.metadata = metadata;
    } else if (type === "member_added" || type === "member_removed") {
      this.typing.delete(user);
      const others = summary.members.filter((member) => member !== user);
      summary.members = type === "member_added" ? [...others, user] : others;
      if (user === this.me) this.removed = type === "member_removed";
    }
  }

  /**
   * Takes a newer summary from the server, and counts on from where it was made.
   *
   * @param {Conversation} summary
   */
  update(summary) {
    const readUpTo = Math.max(summary.read_up_to, this.summary.read_up_to);
    const since = this.events.filter(({ seq }) => seq > summary.last_seq);
    const known = this.summary;
    if (since.length > 0) {
      const { subject, metadata, members, last_event, last_seq, active_at } = known;
      this.summary = { ...summary, subject, metadata, members, last_event, last_seq, active_at };
    } else {
      this.summary = summary;
    }
    this.removed = false;
    this.presence.reset(summary.online);
    this.countedUpTo = Math.max(summary.last_seq, this.cursor);
    this.summary.unread_count += since.filter((event) => this.countsAsUnread(event)).length;
    if (readUpTo > summary.read_up_to) this.markRead(readUpTo);
  }

  /**
   * Nothing is known of what lies between: the log goes on from the server's newest event.
   *
   * @param {number} seq
   */
  jumpTo(seq) {
    this.events = [];
    this.ahead.clear();
    this.cursor = seq;
    this.startReached = false;
  }

  /**
   * @param {number} seq
   * @returns {boolean} whether that was news
   */
  markRead(seq) {
    const { summary } = this;
    if (seq <= summary.read_up_to) return false;
    summary.read_up_to = seq;
    const counted = this.events.filter((event) => this.countsAsUnread(event)).length;
    const complete = this.firstSeq <= seq + 1;
    summary.unread_count = complete ? counted : Math.min(summary.unread_count, Math.max(0, this.cursor - seq));
    return true;
  }

  /** @param {ChatEvent} event */
  countsAsUnread(event) {
    return isMessage(event) && event.from !== this.me && event.seq > this.summary.read_up_to;
  }

  /** Whether an event deletes a message that was counted as unread. @param {ChatEvent} event */
  takesBackUnread({ type, target = 0, from }) {
    if (type !== "deleted" || target <= this.summary.read_up_to) return false;
    const message = this.events.find(({ seq }) => seq === target);
    return message ? this.countsAsUnread(message) : from !== this.me;
  }

  /**
   * How far an own message has come, and who has read it where only some have; empty where receipts are not told.
   *
   * @param {number} seq
   * @returns {{receipt?: ReceiptState, seenBy?: string[]}}
   */
  receiptOf(seq) {
    if (!this.presence.isShown) return {};
    const readers = this.readersOf(seq);
    const seenBy = readers.filter((user) => this.receipts.hasRead(user, seq));
    const receipt = this.receipts.stateOf(seq, readers);
    return seenBy.length < readers.length ? { receipt, seenBy } : { receipt };
  }

  /** The others whom a message was for: not who joined after it. @param {number} seq */
  readersOf(seq) {
    return this.summary.members.filter((user) => user !== this.me && (this.joinedAt.get(user) ?? 0) < seq);
  }

  /** The others who are there now. */
  online() {
    return this.summary.members.filter((user) => user !== this.me && this.presence.online.has(user));
  }

  /**
   * @param {Signal} signal
   * @returns {number} for how many ms it is to be shown, if it ends by itself, else 0
   */
  receiveSignal({ type, from, seq, for_ms, online, last_seen }) {
    if (type === "typing" && from !== this.me) return this.markTyping(from, for_ms);
    if (type === "presence" && typeof online === "boolean") this.presence.take({ from, online, last_seen });
    if (typeof seq !== "number") return 0;
    if (type === "read") this.receipts.take({ user: from, read_up_to: seq });
    if (type === "read" && from === this.me) this.markRead(seq);
    if (type === "delivered") this.receipts.take({ user: from, delivered_up_to: seq });
    return 0;
  }

  /**
   * @param {string} user
   * @param {number} [forMs] how long it holds unless it is renewed
   * @returns {number} the same, within bounds
   */
  markTyping(user, forMs = TYPING_MS) {
    const ms = Math.min(Math.max(forMs, 0), TYPING_MS_MAX);
    this.typing.set(user, Date.now() + ms);
    return ms;
  }

  /** Who is typing now, in the order of starting. */
  typists() {
    const now = Date.now();
    for (const [user, expiresAt] of this.typing) if (expiresAt <= now) this.typing.delete(user);
    return [...this.typing.keys()];
  }
}

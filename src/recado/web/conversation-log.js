// @ts-check
/**
 * What the page knows of one conversation: its summary, a gapless stretch of its log, and who is typing.
 *
 * Invariants: `events` are consecutive and end at `cursor`, the seq up to which everything is known; an event that
 * comes too early waits in `ahead` until the gap before it is filled; an event at or below the cursor is a duplicate.
 * Pure but for `Date.now()`: the network is the conversation client's business.
 */

/** @import {ChatEvent, Conversation} from "./http-api.js" */

const TYPING_MS = 5_000;

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
    /** whether the server has said that nothing lies before `events` */
    this.startReached = false;
    /** @type {Map<string, number>} user → when the sign of typing expires */
    this.typing = new Map();
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
    this.ahead.set(event.seq, event);
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
    this.events.unshift(...older);
  }

  /** @param {ChatEvent} event */
  append(event) {
    this.events.push(event);
    this.cursor = event.seq;
    const { summary } = this;
    if (event.seq >= summary.last_seq) {
      summary.last_event = event;
      summary.last_seq = event.seq;
      summary.active_at = event.at;
    }
    if (event.from !== null) this.typing.delete(event.from);
    if (event.seq > this.countedUpTo) {
      this.countedUpTo = event.seq;
      if (this.countsAsUnread(event)) summary.unread_count += 1;
    }
    this.applyToMembers(event);
  }

  /** @param {ChatEvent} event */
  applyToMembers({ type, user = "", subject, metadata }) {
    const { summary } = this;
    if (type === "conversation_changed") {
      if (subject !== undefined) summary.subject = subject;
      if (metadata !== undefined) summary.metadata = metadata;
    } else if (type === "member_added" || type === "member_removed") {
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
    return event.type === undefined && event.from !== this.me && event.seq > this.summary.read_up_to;
  }

  /** @param {string} user */
  markTyping(user) {
    this.typing.set(user, Date.now() + TYPING_MS);
    return TYPING_MS;
  }

  /** Who is typing now, in the order of starting. */
  typists() {
    const now = Date.now();
    for (const [user, expiresAt] of this.typing) if (expiresAt <= now) this.typing.delete(user);
    return [...this.typing.keys()];
  }
}

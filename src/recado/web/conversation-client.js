// @ts-check
/**
 * Recado in the browser: the user's conversations, live, and sending that survives anything but the user's own "no".
 *
 * Events come over a link (`LinkKeeper`), MQTT where it gets through; a resume tells it the seqs that the page has,
 * and what the link does not bring is read from the log. HTTP is asked at the start, for the list and the open
 * conversation's receipts after a (re)connect, to fill a gap, and for older history; by no timer of the page. The list
 * is read after the link follows, so a conversation made in between is in one of the two. An edit or a delete goes up
 * over HTTP, and shows when its event is back.
 */

import { ConversationFinder } from "./conversation-finder.js";
import { ConversationLog } from "./conversation-log.js";
import { ApiError, HttpApi, SignedOut } from "./http-api.js";
import { LinkKeeper } from "./link-keeper.js";
import { ListReader } from "./list-reader.js";
import { LiveSignals } from "./live-signals.js";
import { HISTORY_PAGE, LogReader } from "./log-reader.js";
import { MessageChanges } from "./message-changes.js";
import { randomId } from "./outbox.js";
import { OutboxSender } from "./outbox-sender.js";
import { PagePresence } from "./page-presence.js";
import { People } from "./people.js";

export { ApiError, SignedOut };

/** @import {ChatEvent, Conversation, Session, TokenSource} from "./http-api.js" */
/** @import {ConnectionState} from "./link-keeper.js" */
/** @import {ListPage} from "./list-reader.js" */
/** @import {Link, LinkKind} from "./link.js" */
/** @import {Signal} from "./conversation-log.js" */

/**
 * @typedef {object} ClientOptions
 * @property {string} baseUrl where `v1/` is, with a slash at the end
 * @property {TokenSource} tokens
 * @property {Storage | null} storage where unacknowledged messages survive a reload
 * @property {Storage | null} [tabStorage] where it is remembered which kind of link got through, for a reload
 * @property {(url: string, protocol?: string) => WebSocket} [openSocket]
 * @property {typeof fetch} [fetchFunction]
 * @property {() => boolean} [hasNetwork]
 * @property {() => boolean} [isVisible] whether the page is on the screen
 * @property {() => number} [random]
 *
 * @typedef {{kind: "state", state: ConnectionState, link: LinkKind | null} | {kind: "list"}
 *   | {kind: "conversation", id: string} | {kind: "signed-out", why: SignedOut["why"]}} Change
 */

export class ConversationClient {
  /** @param {ClientOptions} options */
  constructor(options) {
    this.options = options;
    this.api = new HttpApi(options.baseUrl, options.tokens, options.fetchFunction);
    /** @type {Session | null} */
    this.session = null;
    this.people = new People();
    /** @type {Map<string, ConversationLog>} */
    this.conversations = new Map();
    this.listLoaded = false;
    this.listIsHere = () => {};
    /** @type {Promise<void>} the user and the list's first page are known */
    this.listed = new Promise((resolve) => (this.listIsHere = resolve));
    /** @type {Set<(change: Change) => void>} */
    this.listeners = new Set();
    /** @type {Set<string>} conversations that the current connection brings without a hole */
    this.following = new Set();
    /** @type {Set<string>} conversations that were known when it was made */
    this.knownBefore = new Set();
    /** @type {Set<string>} conversations whose view was read on the current connection */
    this.viewed = new Set();
    /** @type {string | null} the conversation on the screen */
    this.opened = null;
    this.listReader = new ListReader(this.api, (page) => this.absorbPage(page));
    this.finder = new ConversationFinder(this.api, {
      isKnown: (id) => this.conversations.has(id),
      listRead: async () => void (await this.listReader.reading?.catch(() => {})),
      onFound: (summary) => this.found(summary),
      onFailed: (error) => (error instanceof SignedOut ? this.keeper.signOut(error) : this.keeper.drop()),
    });
    this.reader = new LogReader(this.api, {
      onEvents: (events) => this.confirm(events),
      onChange: (id) => this.changed(id),
      onView: (summary) => this.people.learn(summary.names),
      onGapFailed: (error, log) => this.readFailed(error, log),
    });
    this.changes = new MessageChanges(this.api, {
      onEntry: (id, entry) => this.replaceEntry(id, entry),
      onSignedOut: (error) => this.keeper.signOut(error),
    });
    this.signals = new LiveSignals(() => this.keeper.link);
    const isVisible = options.isVisible ?? (() => globalThis.document?.visibilityState === "visible");
    this.presence = new PagePresence(this.api, randomId(), isVisible, (error) => this.keeper.signOut(error));
    this.pushIsKnown = (/** @type {string | null} */ _key) => {};
    /** @type {Promise<string | null>} the server's key for web push, null if it does none */
    this.pushKey = new Promise((resolve) => (this.pushIsKnown = resolve));
    this.sender = new OutboxSender(options.storage, {
      link: () => this.keeper.link,
      onChange: (id) => this.emit({ kind: "conversation", id }),
      onAcknowledgedRetry: (message) => this.confirmRetry(message.conversation, message.id),
    });
    this.keeper = new LinkKeeper({
      ...options,
      api: this.api,
      clientId: `web-${randomId()}`,
      hooks: {
        onEvent: (id, event) => this.receive(id, event),
        onSignal: (id, signal) => this.receiveSignal(id, signal),
        onTurn: () => {
          this.reader.receiptsMayDiffer();
          this.readReceipts();
        },
      },
      onSession: (session) => this.sessionKnown(session),
      onOpened: (link) => this.resume(link),
      onConnected: () => this.connected(),
      onState: () => this.emit({ kind: "state", state: this.state, link: this.linkKind }),
      onSignedOut: (why) => this.emit({ kind: "signed-out", why }),
    });
  }

  /** @returns {ConnectionState} */
  get state() {
    return this.keeper.state;
  }

  /** What the page is connected by, null while it is not. @returns {LinkKind | null} */
  get linkKind() {
    return this.keeper.link?.kind ?? null;
  }

  /** Whether the page is told who types and who is there. */
  get hasSignals() {
    return this.state === "online" && this.keeper.link?.carriesSignals === true;
  }

  /** What was written and is not among the events yet. */
  get outbox() {
    return this.sender.outbox;
  }

  get me() {
    return this.people.me;
  }

  /** The conversations, newest activity first. */
  list() {
    const logs = [...this.conversations.values()].filter((log) => !log.removed);
    return logs.sort((a, b) => b.summary.active_at - a.summary.active_at || a.id.localeCompare(b.id));
  }

  unreadTotal() {
    return this.list().reduce((sum, log) => sum + log.summary.unread_count, 0);
  }

  /**
   * @param {(change: Change) => void} listener
   * @returns {() => void} stops listening
   */
  onChange(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  start() {
    void this.keeper.run();
  }

  stop() {
    this.presence.stop();
    this.signals.stop();
    this.reader.stop();
    this.keeper.stop();
  }

  /** The network or the user is back. */
  wake() {
    this.keeper.networkChanged();
  }

  /**
   * Makes sure that a conversation is known as it is now and has its newest page of history; waits until the list is
   * here.
   *
   * @param {string} id
   * @returns {Promise<boolean>} false if the user is not in such a conversation
   */
  async open(id) {
    this.opened = id;
    await this.listed;
    const known = this.conversations.get(id);
    const isUpToDate = known !== undefined && (known.removed || this.viewed.has(id));
    if (!isUpToDate && !(await this.finder.find(id))) {
      if (known) this.markRemoved(known);
      return known !== undefined;
    }
    const log = this.conversations.get(id);
    if (log && log.events.length < HISTORY_PAGE) await this.reader.loadOlder(log);
    if (log) void this.reader.readReceipts(log); // the messages do not wait for their ticks
    return true;
  }

  /** No conversation is on the screen any more. */
  close() {
    this.opened = null;
  }

  /**
   * @param {string} id
   * @returns {Promise<void>} rejects with `ApiError` if the history cannot be read now
   */
  async loadOlder(id) {
    const log = this.conversations.get(id);
    if (log) await this.reader.loadOlder(log);
  }

  /** The next page of the list. */
  async loadMoreConversations() {
    await this.listReader.readMore();
  }

  /**
   * Sends a message now or as soon as there is a connection.
   *
   * @param {string} id
   * @param {string} body
   */
  send(id, body) {
    this.signals.typingEnded(id);
    return this.sender.write(id, body);
  }

  /** @param {string} messageId */
  retry(messageId) {
    this.sender.retry(messageId);
  }

  /** @param {string} messageId */
  discard(messageId) {
    this.sender.discard(messageId);
  }

  /**
   * Tells the others that the user is typing.
   *
   * @param {string} id
   */
  typing(id) {
    if (this.state === "online") this.signals.typing(id);
  }

  /**
   * The user has seen everything up to this seq.
   *
   * @param {string} id
   * @param {number} seq
   */
  markRead(id, seq) {
    const log = this.conversations.get(id);
    if (!log || log.removed || !log.markRead(seq)) return;
    this.signals.read(id, seq);
    this.emit({ kind: "conversation", id });
  }

  /**
   * Whether the user is to be notified of this conversation.
   *
   * @param {string} id
   * @param {boolean} muted
   * @returns {Promise<void>} rejects with `ApiError` if the server refuses
   */
  async setMuted(id, muted) {
    await this.api.setMuted(id, muted);
    const log = this.conversations.get(id);
    if (log) log.summary.muted = muted;
    this.emit({ kind: "conversation", id });
  }

  /** @param {Session} session */
  async sessionKnown(session) {
    if (!this.session) {
      this.sender.signedIn(session.user);
      void this.askForPush();
    }
    this.session = session;
    this.people.me = session.user;
    if (session.mqtt.topics.send === null) this.presence.start(); // that broker does not tell who is there
    if (!this.listLoaded) await this.listReader.read(null);
  }

  /** Where there is web push, it depends on who is looking. */
  async askForPush() {
    const { public_key } = await this.api.push().catch(() => ({ public_key: null }));
    if (public_key !== null && !this.keeper.stopped) this.presence.start();
    this.pushIsKnown(public_key);
  }

  /**
   * From here on the link brings everything new. Events may come over the one before as well: they are taken once.
   *
   * @param {Link} link
   */
  async resume(link) {
    const held = this.list();
    this.knownBefore = new Set(held.map(({ id }) => id));
    this.following = new Set(await link.resume(held.map((log) => [log.id, log.cursor])));
  }

  /** The link is the one in use: sends what waits, and reads what the link does not bring. */
  async connected() {
    this.sender.flushAll();
    this.signals.sendReads();
    this.reader.receiptsMayDiffer();
    this.viewed.clear();
    await this.listReader.readNews();
    this.readReceipts();
  }

  /** Of the conversation on the screen, if signals were missed. */
  readReceipts() {
    const shown = this.conversations.get(this.opened ?? "");
    if (shown) void this.reader.readReceipts(shown);
  }

  /**
   * @param {ListPage} page
   * @returns {boolean} whether there was news of the last one on it that was known before
   */
  absorbPage({ conversations, next_cursor, isFirst }) {
    if (isFirst) this.forgetMissing(conversations, next_cursor === null);
    const lastKnown = conversations.findLast(({ id }) => this.conversations.has(id));
    const hadNews = lastKnown !== undefined && this.isBehind(lastKnown);
    for (const summary of conversations) this.absorb(summary);
    for (const [id, signal] of this.listReader.presenceMeanwhile) this.conversations.get(id)?.receiveSignal(signal);
    this.listLoaded = true;
    this.listIsHere();
    this.emit({ kind: "list" });
    return hadNews;
  }

  /** @param {Conversation} summary */
  isBehind({ id, last_seq }) {
    return !this.following.has(id) && last_seq > (this.conversations.get(id)?.cursor ?? 0);
  }

  /**
   * A conversation that should be on the list's first page and is not: the user was removed while away.
   *
   * @param {Conversation[]} page
   * @param {boolean} complete
   */
  forgetMissing(page, complete) {
    const listed = new Set(page.map(({ id }) => id));
    const oldest = complete ? -Infinity : (page.at(-1)?.active_at ?? Infinity);
    for (const log of this.conversations.values()) {
      const learntMeanwhile = !this.knownBefore.has(log.id);
      if (!listed.has(log.id) && log.summary.active_at > oldest && !learntMeanwhile) this.markRemoved(log);
    }
  }

  /** @param {Conversation} summary */
  absorb(summary) {
    this.viewed.add(summary.id);
    this.people.learn(summary.names);
    const known = this.conversations.get(summary.id);
    if (known) {
      known.update(summary);
      if (this.isBehind(summary)) this.catchUp(known, summary.last_seq);
      return known;
    }
    const log = new ConversationLog(summary, this.me);
    this.conversations.set(log.id, log);
    for (const event of this.finder.takeEarly(log.id)) this.take(log, event);
    return log;
  }

  /**
   * @param {ConversationLog} log
   * @param {number} lastSeq
   */
  catchUp(log, lastSeq) {
    this.following.add(log.id);
    if (log.events.length === 0 && log.id !== this.opened) log.jumpTo(lastSeq);
    else void this.reader.fillGap(log);
  }

  /**
   * @param {string} id
   * @param {ChatEvent} event
   */
  receive(id, event) {
    if (typeof event.seq !== "number") return;
    const log = this.conversations.get(id);
    if (log) this.take(log, event);
    else void this.finder.receive(id, event);
  }

  /**
   * @param {string} id
   * @param {Signal} signal
   */
  receiveSignal(id, signal) {
    const log = this.conversations.get(id);
    if (!log || typeof signal.from !== "string") return;
    const typingMs = log.receiveSignal(signal);
    if (typingMs > 0) setTimeout(() => this.emit({ kind: "conversation", id }), typingMs + 20);
    if (signal.type === "presence" && this.listReader.reading) this.listReader.presenceMeanwhile.push([id, signal]);
    this.emit({ kind: "conversation", id });
  }

  /**
   * @param {string} id
   * @param {ChatEvent} entry
   */
  replaceEntry(id, entry) {
    this.conversations.get(id)?.replace(entry);
    this.emit({ kind: "conversation", id });
  }

  /**
   * @param {ConversationLog} log
   * @param {ChatEvent} event
   */
  take(log, event) {
    const applied = log.receive(event);
    this.confirm([event, ...applied]);
    if (applied.some(isMembership) && !log.removed) this.reader.membersChanged(log);
    if (log.hasGap) void this.reader.fillGap(log);
    this.changed(log.id);
  }

  /** @param {string} id */
  changed(id) {
    const log = this.conversations.get(id);
    if (log && !log.removed) this.keeper.link?.acknowledge(id, log.cursor);
    this.emit({ kind: "conversation", id });
  }

  /**
   * The user's own messages among these need not be sent any more.
   *
   * @param {ChatEvent[]} events
   */
  confirm(events) {
    for (const { from, id } of events) if (from === this.me && id !== undefined) this.outbox.remove(id);
  }

  /**
   * An acknowledged retry whose event is not to be seen: it may lie in history that is not loaded. Reads what is newer
   * than the cursor once; if it is not there either, the log has it further back.
   *
   * @param {string} id
   * @param {string} messageId
   */
  async confirmRetry(id, messageId) {
    const log = this.conversations.get(id);
    if (log) await this.reader.fillGap(log);
    if (this.outbox.remove(messageId)) this.emit({ kind: "conversation", id });
  }

  /**
   * @param {unknown} error
   * @param {ConversationLog} log
   */
  readFailed(error, log) {
    if (error instanceof SignedOut) this.keeper.signOut(error);
    else if (error instanceof ApiError && error.status === 404) this.markRemoved(log);
    else this.keeper.drop(); // the next connection resumes from the cursor
  }

  /** @param {ConversationLog} log */
  markRemoved(log) {
    log.removed = true;
    this.emit({ kind: "list" });
  }

  /** @param {Conversation} summary */
  found(summary) {
    this.absorb(summary);
    this.following.add(summary.id);
    this.emit({ kind: "list" });
  }

  /** @param {Change} change */
  emit(change) {
    for (const listener of this.listeners) listener(change);
  }
}

/** @param {ChatEvent} event */
const isMembership = ({ type }) => type === "member_added" || type === "member_removed";

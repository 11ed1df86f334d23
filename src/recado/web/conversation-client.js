// @ts-check
/**
 * Recado in the browser: the user's conversations, live, and sending that survives anything but the user's own "no".
 *
 * Events come over MQTT; a resume says for each conversation what it has (`after=<conversation>=<seq>`). HTTP is asked
 * at the start, for the list and the open conversation's receipts after a (re)connect, to fill a gap, and for older
 * history; never on a timer. The list is read after the subscription is in force, so a conversation made in between is
 * in one of the two. An edit or a delete goes up over HTTP, and shows when its event is back.
 */

import { ConversationLog } from "./conversation-log.js";
import { ApiError, HttpApi, SignedOut } from "./http-api.js";
import { LiveSignals } from "./live-signals.js";
import { HISTORY_PAGE, LogReader } from "./log-reader.js";
import { MessageChanges } from "./message-changes.js";
import { MqttLink } from "./mqtt-link.js";
import { Outbox, randomId } from "./outbox.js";
import { OutboxSender } from "./outbox-sender.js";
import { TopicTemplates } from "./topic-templates.js";

export { ApiError, SignedOut };

/** @import {ChatEvent, Conversation, Session, TokenSource} from "./http-api.js" */
/** @import {ConnectionState} from "./mqtt-link.js" */
/** @import {MqttConnection} from "./mqtt.js" */
/** @import {Signal} from "./conversation-log.js" */

const RESUMED_MAX = 200;

/**
 * @typedef {object} ClientOptions
 * @property {string} baseUrl where `v1/` is, with a slash at the end
 * @property {TokenSource} tokens
 * @property {Storage | null} storage where unacknowledged messages survive a reload
 * @property {(url: string, protocol: string) => WebSocket} [openSocket]
 * @property {typeof fetch} [fetchFunction]
 * @property {() => boolean} [hasNetwork]
 * @property {() => number} [random]
 *
 * @typedef {{kind: "state", state: ConnectionState} | {kind: "list"} | {kind: "conversation", id: string}
 *   | {kind: "signed-out", why: SignedOut["why"]}} Change
 */

export class ConversationClient {
  /** @param {ClientOptions} options */
  constructor(options) {
    this.options = options;
    this.api = new HttpApi(options.baseUrl, options.tokens, options.fetchFunction);
    /** @type {Session | null} */
    this.session = null;
    /** @type {Map<string, ConversationLog>} */
    this.conversations = new Map();
    this.listLoaded = false;
    this.listIsHere = () => {};
    /** @type {Promise<void>} the user and the list's first page are known */
    this.listed = new Promise((resolve) => (this.listIsHere = resolve));
    /** @type {string | null} */
    this.nextListCursor = null;
    /** @type {Set<(change: Change) => void>} */
    this.listeners = new Set();
    /** @type {Map<string, ChatEvent[]>} events of conversations that are still being looked up */
    this.early = new Map();
    /** @type {Set<string>} conversations that the current connection brings without a hole */
    this.following = new Set();
    /** @type {Set<string>} conversations whose view was read on the current connection */
    this.viewed = new Set();
    /** @type {string | null} the conversation on the screen */
    this.opened = null;
    /** @type {Promise<void> | null} */
    this.listing = null;
    /** @type {Array<[string, Signal]>} what came while the list was being read: it may be newer than the list */
    this.presenceMeanwhile = [];
    this.reader = new LogReader(this.api, {
      onEvents: (events) => this.confirm(events),
      onChange: (id) => this.emit({ kind: "conversation", id }),
      onGapFailed: (error, log) => this.readFailed(error, log),
    });
    this.changes = new MessageChanges(this.api, {
      onEntry: (id, entry) => this.replaceEntry(id, entry),
      onSignedOut: (error) => this.link.signOut(error),
    });
    this.signals = new LiveSignals((id, payload, qos) =>
      this.link.connection?.publish(this.topics.live(id), payload, qos),
    );
    this.topics = new TopicTemplates("c/{conversation}", "c/{conversation}/live", "c/{conversation}");
    this.outbox = new Outbox("", null);
    this.sender = new OutboxSender(this.outbox, this.senderHooks());
    this.link = new MqttLink({
      ...options,
      api: this.api,
      clientId: `web-${randomId()}`,
      onSession: (session) => this.sessionKnown(session),
      onConnected: (connection) => this.connected(connection),
      onPublish: (topicName, payload) => this.receive(topicName, payload),
      onState: (state) => this.emit({ kind: "state", state }),
      onSignedOut: (why) => this.emit({ kind: "signed-out", why }),
    });
  }

  /** @returns {ConnectionState} */
  get state() {
    return this.link.state;
  }

  get me() {
    return this.session?.user ?? "";
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
    void this.link.run();
  }

  stop() {
    this.signals.stop();
    this.reader.stop();
    this.link.stop();
  }

  /** The network or the user is back. */
  wake() {
    this.link.networkChanged();
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
    if (!isUpToDate && !(await this.lookUp(id))) {
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
    if (this.nextListCursor === null || this.listing) return;
    await this.readList(this.nextListCursor);
  }

  /**
   * Sends a message now or as soon as there is a connection.
   *
   * @param {string} id
   * @param {string} body
   */
  send(id, body) {
    const message = this.outbox.add(id, body);
    this.signals.typingEnded(id);
    this.emit({ kind: "conversation", id });
    this.sender.flush(id);
    return message;
  }

  /** @param {string} messageId */
  retry(messageId) {
    const message = this.outbox.messages.get(messageId);
    if (!message) return;
    this.outbox.retry(messageId);
    this.emit({ kind: "conversation", id: message.conversation });
    this.sender.flush(message.conversation);
  }

  /** @param {string} messageId */
  discard(messageId) {
    const message = this.outbox.messages.get(messageId);
    this.outbox.remove(messageId);
    if (message) this.emit({ kind: "conversation", id: message.conversation });
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

  /** @param {Session} session */
  async sessionKnown(session) {
    const { events, live, send } = session.mqtt.topics;
    this.topics = new TopicTemplates(events, live, send);
    if (!this.session) {
      const early = this.outbox.messages.values(); // written before it was known whose they are
      this.outbox = new Outbox(session.user, this.options.storage);
      for (const { conversation, body } of early) this.outbox.add(conversation, body);
      this.sender = new OutboxSender(this.outbox, this.senderHooks());
    }
    this.session = session;
    if (!this.listLoaded) await this.readList(null);
  }

  /** @returns {import("./outbox-sender.js").SenderHooks} */
  senderHooks() {
    return {
      connection: () => this.link.connection,
      topicName: (id) => this.topics.send(id),
      onChange: (id) => this.emit({ kind: "conversation", id }),
      onAcknowledgedRetry: (message) => this.confirmRetry(message.conversation, message.id),
    };
  }

  /**
   * Resumes: subscribes with every cursor held, sends what waits, reads the list.
   *
   * @param {MqttConnection} connection
   */
  async connected(connection) {
    const held = this.list().slice(0, RESUMED_MAX);
    this.following = new Set(held.map(({ id }) => id));
    const filters = this.session?.mqtt.topics.subscribe ?? [];
    const subscriptions = filters.map((topicFilter) => ({ topicFilter, qos: topicFilter.endsWith("/live") ? 0 : 1 }));
    const after = held.map((log) => /** @type {[string, string]} */ (["after", `${log.id}=${log.cursor}`]));
    const reasonCodes = await connection.subscribe(subscriptions, after);
    const refused = reasonCodes.find((code) => code >= 0x80);
    if (refused !== undefined) throw new ApiError(0, "refused", `subscription refused: 0x${refused.toString(16)}`);
    this.sender.flushAll();
    this.signals.sendReads();
    this.reader.reconnected();
    this.viewed.clear();
    await this.readList(null);
    const shown = this.conversations.get(this.opened ?? "");
    if (shown) void this.reader.readReceipts(shown);
  }

  /**
   * @param {string | null} cursor
   * @returns {Promise<void>}
   */
  readList(cursor) {
    if (this.listing) return this.listing;
    this.presenceMeanwhile = [];
    this.listing = this.api
      .conversations(cursor)
      .then((page) => this.absorbPage(page, cursor))
      .finally(() => (this.listing = null));
    return this.listing;
  }

  /**
   * @param {{conversations: Conversation[], next_cursor: string | null}} page
   * @param {string | null} cursor
   */
  absorbPage({ conversations, next_cursor }, cursor) {
    if (cursor === null) this.forgetMissing(conversations, next_cursor === null);
    for (const summary of conversations) this.absorb(summary);
    for (const [id, signal] of this.presenceMeanwhile) this.conversations.get(id)?.receiveSignal(signal);
    this.nextListCursor = next_cursor;
    this.listLoaded = true;
    this.listIsHere();
    this.emit({ kind: "list" });
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
      const learntMeanwhile = !this.following.has(log.id);
      if (!listed.has(log.id) && log.summary.active_at > oldest && !learntMeanwhile) this.markRemoved(log);
    }
  }

  /** @param {Conversation} summary */
  absorb(summary) {
    this.viewed.add(summary.id);
    const known = this.conversations.get(summary.id);
    if (known) {
      known.update(summary);
      if (summary.last_seq > known.cursor && !this.following.has(summary.id)) this.catchUp(known, summary.last_seq);
      return known;
    }
    const log = new ConversationLog(summary, this.me);
    this.conversations.set(log.id, log);
    for (const event of this.early.get(log.id) ?? []) this.take(log, event);
    this.early.delete(log.id);
    return log;
  }

  /**
   * @param {ConversationLog} log
   * @param {number} lastSeq
   */
  catchUp(log, lastSeq) {
    this.following.add(log.id);
    if (log.events.length === 0) log.jumpTo(lastSeq);
    else void this.reader.fillGap(log);
  }

  /**
   * @param {string} topicName
   * @param {Uint8Array} payload
   */
  receive(topicName, payload) {
    const { id, live } = this.topics.match(topicName) ?? {};
    const content = id === undefined ? null : parsed(payload);
    if (id === undefined || content === null) return;
    if (live) return this.receiveSignal(id, content);
    if (typeof content.seq !== "number") return;
    const log = this.conversations.get(id);
    if (log) this.take(log, content);
    else void this.learn(id, content);
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
    if (signal.type === "presence" && this.listing) this.presenceMeanwhile.push([id, signal]);
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
    this.emit({ kind: "conversation", id: log.id });
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
    if (error instanceof SignedOut) this.link.signOut(error);
    else if (error instanceof ApiError && error.status === 404) this.markRemoved(log);
    else this.link.drop(); // the next connection resumes from the cursor
  }

  /** @param {ConversationLog} log */
  markRemoved(log) {
    log.removed = true;
    this.emit({ kind: "list" });
  }

  /**
   * An event of a conversation that the page has not heard of: the user was added to it.
   *
   * @param {string} id
   * @param {ChatEvent} event
   */
  async learn(id, event) {
    const waiting = this.early.get(id);
    if (waiting) return void waiting.push(event);
    this.early.set(id, [event]);
    await this.listing?.catch(() => {});
    if (this.conversations.has(id)) return;
    try {
      await this.lookUp(id);
    } catch (error) {
      if (error instanceof SignedOut) this.link.signOut(error);
      else this.link.drop();
    }
    this.early.delete(id);
  }

  /**
   * @param {string} id
   * @returns {Promise<boolean>}
   */
  async lookUp(id) {
    try {
      this.absorb(await this.api.conversation(id));
      this.following.add(id);
    } catch (error) {
      if (error instanceof ApiError && [400, 404].includes(error.status)) return false;
      throw error;
    }
    this.emit({ kind: "list" });
    return true;
  }

  /** @param {Change} change */
  emit(change) {
    for (const listener of this.listeners) listener(change);
  }
}

/** @param {ChatEvent} event */
const isMembership = ({ type }) => type === "member_added" || type === "member_removed";

/** @param {Uint8Array} payload */
function parsed(payload) {
  try {
    const value = JSON.parse(new TextDecoder().decode(payload));
    return typeof value === "object" && value !== null ? value : null;
  } catch {
    return null;
  }
}

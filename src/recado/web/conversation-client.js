// @ts-check
/**
 * Recado in the browser: the user's conversations, live, and sending that survives anything but the user's own "no".
 *
 * Events come over MQTT; a resume says for each conversation what it has (`after=<conversation>=<seq>`). HTTP is asked
 * at the start, for the list after a (re)connect, to fill a gap, and for older history; never on a timer. The list is
 * read after the subscription is in force, so a conversation made in between is in one of the two.
 */

import { ConversationLog } from "./conversation-log.js";
import { ApiError, HttpApi, SignedOut } from "./http-api.js";
import { MqttLink } from "./mqtt-link.js";
import { Outbox, randomId } from "./outbox.js";
import { OutboxSender } from "./outbox-sender.js";
import { TopicTemplates } from "./topic-templates.js";

export { ApiError, SignedOut };

/** @import {ChatEvent, Conversation, Session, TokenSource} from "./http-api.js" */
/** @import {ConnectionState} from "./mqtt-link.js" */
/** @import {MqttConnection} from "./mqtt.js" */

const HISTORY_PAGE = 50;
const GAP_PAGE = 200;
const RESUMED_MAX = 200;
const TYPING_EVERY_MS = 3_000;
const READ_AFTER_MS = 300;

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
    /** @type {Set<string>} conversations whose gap or history is being read */
    this.reading = new Set();
    /** @type {Set<string>} conversations that the current connection brings without a hole */
    this.following = new Set();
    /** @type {Map<string, number>} */
    this.unsentReads = new Map();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.readTimer = undefined;
    /** @type {Map<string, number>} */
    this.typingSentAt = new Map();
    /** @type {Promise<void> | null} */
    this.listing = null;
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
    clearTimeout(this.readTimer);
    this.link.stop();
  }

  /** The network or the user is back. */
  wake() {
    this.link.networkChanged();
  }

  /**
   * Makes sure that a conversation is known and has its newest page of history; waits until the list is here.
   *
   * @param {string} id
   * @returns {Promise<boolean>} false if the user is not in such a conversation
   */
  async open(id) {
    await this.listed;
    if (!this.conversations.has(id) && !(await this.lookUp(id))) return false;
    const log = this.conversations.get(id);
    if (log && log.hasOlder && log.events.length < HISTORY_PAGE) await this.loadOlder(id);
    return true;
  }

  /**
   * @param {string} id
   * @returns {Promise<void>} rejects with `ApiError` if the history cannot be read now
   */
  async loadOlder(id) {
    const log = this.conversations.get(id);
    if (!log || !log.hasOlder || this.reading.has(id)) return;
    this.reading.add(id);
    try {
      const page = await this.api.events(id, { before: log.firstSeq, limit: HISTORY_PAGE });
      log.prepend(page.events);
      this.confirm(page.events);
    } finally {
      this.reading.delete(id);
      this.emit({ kind: "conversation", id });
    }
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
    this.typingSentAt.delete(id);
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
   * Tells the others that the user is typing; at most every 3 s.
   *
   * @param {string} id
   */
  typing(id) {
    const now = Date.now();
    if (this.state !== "online" || now - (this.typingSentAt.get(id) ?? 0) < TYPING_EVERY_MS) return;
    this.typingSentAt.set(id, now);
    this.link.connection?.publish(this.topics.live(id), '{"type":"typing"}', 0).catch(() => {});
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
    this.unsentReads.set(id, seq);
    this.readTimer ??= setTimeout(() => this.sendReads(), READ_AFTER_MS);
    this.emit({ kind: "conversation", id });
  }

  sendReads() {
    clearTimeout(this.readTimer);
    this.readTimer = undefined;
    for (const [id, seq] of this.unsentReads) {
      const sent = this.link.connection?.publish(this.topics.live(id), JSON.stringify({ type: "read", seq }), 1);
      const settled = () => this.unsentReads.get(id) === seq && this.unsentReads.delete(id);
      sent?.then(settled, () => {}); // a lost connection leaves it for the next one
    }
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
    this.sendReads();
    await this.readList(null);
  }

  /**
   * @param {string | null} cursor
   * @returns {Promise<void>}
   */
  readList(cursor) {
    this.listing ??= this.api
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
    else void this.fillGap(log);
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
   * @param {{type?: string, from?: string, seq?: number}} signal
   */
  receiveSignal(id, { type, from, seq }) {
    const log = this.conversations.get(id);
    if (!log || from === undefined) return;
    if (type === "typing" && from !== this.me) {
      setTimeout(() => this.emit({ kind: "conversation", id }), log.markTyping(from) + 20);
    } else if (type === "read" && from === this.me && typeof seq === "number") {
      log.markRead(seq);
    }
    this.emit({ kind: "conversation", id });
  }

  /**
   * @param {ConversationLog} log
   * @param {ChatEvent} event
   */
  take(log, event) {
    const applied = log.receive(event);
    this.confirm([event, ...applied]);
    if (log.hasGap) void this.fillGap(log);
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
    if (log) await this.fillGap(log);
    if (this.outbox.remove(messageId)) this.emit({ kind: "conversation", id });
  }

  /**
   * Reads what lies between the cursor and the server's newest event.
   *
   * @param {ConversationLog} log
   */
  async fillGap(log) {
    const key = `gap/${log.id}`;
    if (this.reading.has(key)) return;
    this.reading.add(key);
    try {
      let more = true;
      while (more) more = await this.readAfterCursor(log);
      if (log.hasGap) log.jumpTo(Math.min(...log.ahead.keys()) - 1);
    } catch (error) {
      this.readFailed(error, log);
    } finally {
      this.reading.delete(key);
      this.emit({ kind: "conversation", id: log.id });
    }
  }

  /**
   * @param {ConversationLog} log
   * @returns {Promise<boolean>} whether there is more to read
   */
  async readAfterCursor(log) {
    const page = await this.api.events(log.id, { after: log.cursor, limit: GAP_PAGE });
    for (const event of page.events) log.receive(event);
    this.confirm(page.events);
    return page.events.length > 0 && log.cursor < page.last_seq;
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

/** @param {Uint8Array} payload */
function parsed(payload) {
  try {
    const value = JSON.parse(new TextDecoder().decode(payload));
    return typeof value === "object" && value !== null ? value : null;
  } catch {
    return null;
  }
}

/**
 * A Recado for the tests, in memory: HTTP by a function instead of fetch, MQTT by objects instead of WebSockets, with
 * the same log behind both. It does what the contract says and what a test scripts; nothing here has a timer.
 */

import { webcrypto } from "node:crypto";

import { PacketReader, encode } from "../../src/recado/web/mqtt-codec.js";

globalThis.crypto ??= webcrypto; // Node.js 18 has it under another name only

const text = new TextDecoder();

/** A WebSocket whose other end is `server`. */
export class FakeSocket {
  constructor(server) {
    this.server = server;
    this.readyState = 0;
    this.reader = new PacketReader(server.version);
    /** every packet that came from the page */
    this.received = [];
    queueMicrotask(() => this.open());
  }

  open() {
    if (this.server.unreachable) return this.drop();
    this.readyState = 1;
    this.onopen?.();
  }

  send(bytes) {
    for (const packet of this.understood(bytes)) {
      this.received.push(packet);
      queueMicrotask(() => this.readyState === 1 && this.server.handle(this, packet));
    }
  }

  /** A server breaks off at what it does not know. */
  understood(bytes) {
    try {
      return this.reader.push(bytes);
    } catch {
      queueMicrotask(() => this.drop());
      return [];
    }
  }

  /** From the server to the page. */
  push(packet) {
    this.pushBytes(encode(packet, this.server.version));
  }

  pushBytes(bytes) {
    this.onmessage?.({ data: bytes.slice().buffer });
  }

  pushEvent(conversation, event) {
    const payload = new TextEncoder().encode(JSON.stringify(event));
    const topicName = this.server.topicOf(conversation);
    this.push({ type: "publish", qos: 1, packetId: 1 + (event.seq ?? 0), topicName, payload });
  }

  /** The network is gone. */
  drop() {
    this.readyState = 3;
    this.onclose?.();
  }

  close() {
    this.readyState = 3;
  }
}

export class FakeRecado {
  /** the protocol level that its MQTT speaks */
  version = 5;

  constructor(user = "ana") {
    this.user = user;
    this.logs = new Map();
    this.readUpTo = new Map();
    this.sockets = [];
    this.requests = [];
    this.token = "token-1";
    this.tokensGiven = 1;
    this.unreachable = false;
    /** what a chat PUBLISH is answered with: "acknowledge", "commit-and-drop", "drop", or a reason code */
    this.answers = [];
    /** who is there and how far each has read, as the server says it; undefined: too many members */
    this.online = [];
    this.receipts = [];
  }

  topicOf(conversation) {
    return `c/${conversation}`;
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** All packets of a type, over all connections. */
  sent(type) {
    return this.sockets.flatMap(({ received }) => received).filter((packet) => packet.type === type);
  }

  /** The bodies of the chat messages that were published, tries included. */
  bodiesSent() {
    const payloads = this.sent("publish").map(({ payload }) => JSON.parse(text.decode(payload)));
    return payloads.map(({ body }) => body).filter((body) => body !== undefined);
  }

  conversation(id, members = ["ana", "bruno"]) {
    this.logs.set(id, { members, events: [] });
    return this;
  }

  /** Appends to a log without telling anybody. */
  commit(id, from, fields) {
    const { events } = this.logs.get(id);
    const seq = events.length + 1;
    const event = { seq, from, at: 1_790_000_000_000 + seq, id: `m${seq}`, ...fields };
    if (event.type !== undefined) delete event.id;
    events.push(event);
    return event;
  }

  /** Appends and delivers. */
  say(id, from, body) {
    const event = this.commit(id, from, { body });
    this.deliver(id, event);
    return event;
  }

  deliver(id, event) {
    this.socket?.pushEvent(id, event);
  }

  openSocket = () => {
    const socket = new FakeSocket(this);
    this.sockets.push(socket);
    return socket;
  };

  tokens = {
    token: async (renew) => {
      if (renew) this.token = `token-${++this.tokensGiven}`;
      return this.token;
    },
  };

  /** To the page, as a signal of that conversation. */
  signal(id, content) {
    const payload = new TextEncoder().encode(JSON.stringify(content));
    this.socket.push({ type: "publish", qos: 0, topicName: `${this.topicOf(id)}/live`, payload });
  }

  handle(socket, packet) {
    if (packet.type === "connect")
      socket.push({ type: "connack", sessionPresent: false, reasonCode: this.connackCode ?? 0 });
    else if (packet.type === "pingreq") socket.push({ type: "pingresp" });
    else if (packet.type === "subscribe") this.handleSubscribe(socket, packet);
    else if (packet.type === "publish" && packet.qos === 1) this.handlePublish(socket, packet);
  }

  handleSubscribe(socket, { packetId, subscriptions, properties }) {
    socket.push({ type: "suback", packetId, reasonCodes: subscriptions.map(({ qos }) => qos) });
    for (const [name, value] of properties.userProperties ?? []) {
      const [id, seq] = value.split("=");
      if (name !== "after") continue;
      for (const event of this.logs.get(id).events.slice(Number(seq))) socket.pushEvent(id, event);
    }
  }

  handlePublish(socket, { packetId, topicName, payload }) {
    const { id, body, type, seq } = JSON.parse(text.decode(payload));
    const conversation = topicName.split("/")[1];
    if (type === "read") this.readUpTo.set(conversation, seq);
    const answer = type === undefined ? (this.answers.shift() ?? "acknowledge") : "acknowledge";
    if (answer === "drop") return socket.drop();
    if (typeof answer === "number") return socket.push({ type: "puback", packetId, reasonCode: answer });
    const known = this.logs.get(conversation)?.events.some((event) => event.id === id && event.from === this.user);
    const event = type === undefined && !known ? this.commit(conversation, this.user, { id, body }) : null;
    if (answer === "commit-and-drop") return socket.drop();
    socket.push({ type: "puback", packetId, reasonCode: 0 });
    if (event) this.deliver(conversation, event);
  }

  fetch = async (url, { headers, method, body }) => {
    const path = url.pathname + url.search;
    this.requests.push(method === "GET" ? path : `${method} ${path}`);
    if (this.unreachable) throw new TypeError("unreachable");
    if (headers.Authorization !== `Bearer ${this.token}` || this.refuseTokens)
      return answer(401, { error: { code: "unauthenticated" } });
    if (url.pathname === "/v1/session") return answer(200, this.session());
    if (url.pathname === "/v1/conversations") return answer(200, { conversations: this.list(), next_cursor: null });
    const [, , , id, what, seq] = url.pathname.split("/");
    if (!this.logs.get(id)?.members.includes(this.user)) return answer(404, { error: { code: "not_found" } });
    if (what === "mute") return this.mute(id, method === "PUT");
    if (what === "messages") return this.change(id, Number(seq), JSON.parse(body ?? "{}"));
    return answer(200, what === "events" ? this.events(id, url.searchParams) : this.summary(id));
  };

  mute(id, muted) {
    if (this.refuseChanges) return answer(this.refuseChanges, { error: { code: "refused", message: "no" } });
    this.logs.get(id).muted = muted;
    return { status: 204, ok: true };
  }

  /** What PATCH (with a body) and DELETE do: the entry reads differently, and an event says so. */
  change(id, target, { body }) {
    if (this.refuseChanges) return answer(this.refuseChanges, { error: { code: "refused", message: "no" } });
    const { events } = this.logs.get(id);
    const message = events[target - 1];
    if (message.type === "deleted") return answer(body === undefined ? 200 : 409, message);
    const at = message.at + 60_000;
    if (body !== undefined) Object.assign(message, { body, edited_at: at });
    else events[target - 1] = { seq: target, from: message.from, at: message.at, id: message.id, type: "deleted" };
    const event = this.commit(id, this.user, { at, type: body === undefined ? "deleted" : "edited", target, body });
    if (!this.holdEvents) this.deliver(id, event);
    return answer(200, event);
  }

  session() {
    const topics = {
      subscribe: ["c/+", "c/+/live"],
      events: "c/{conversation}",
      live: "c/{conversation}/live",
      send: "c/{conversation}",
    };
    return {
      user: this.user,
      expires_at: 0,
      mqtt: { ws_url: "ws://fake/mqtt", username: this.user, password: this.token, topics },
    };
  }

  list() {
    return [...this.logs.keys()]
      .filter((id) => this.logs.get(id).members.includes(this.user))
      .map((id) => this.summary(id));
  }

  summary(id) {
    const { members, events, names, muted } = this.logs.get(id);
    const read = this.readUpTo.get(id) ?? 0;
    const unread = events.filter(({ seq, from, type }) => seq > read && from !== this.user && type === undefined);
    const last = events.at(-1) ?? null;
    const at = last?.at ?? 1_790_000_000_000;
    return {
      id,
      subject: null,
      metadata: {},
      members: [...members],
      created_at: at,
      active_at: at,
      last_seq: events.length,
      last_event: last,
      read_up_to: read,
      unread_count: unread.length,
      online: this.online,
      names,
      muted,
    };
  }

  events(id, query) {
    const { events } = this.logs.get(id);
    const limit = Number(query.get("limit"));
    const after = query.get("after");
    const before = Number(query.get("before") ?? Infinity);
    const page =
      after === null
        ? events.filter(({ seq }) => seq < before).slice(-limit)
        : events.filter(({ seq }) => seq > Number(after)).slice(0, limit);
    return { events: page, last_seq: events.at(-1)?.seq ?? 0, receipts: this.receipts };
  }
}

/** Browser storage that survives the "reload" of a test. */
export class FakeStorage {
  entries = new Map();
  get length() {
    return this.entries.size;
  }
  key(index) {
    return [...this.entries.keys()][index] ?? null;
  }
  getItem(key) {
    return this.entries.get(key) ?? null;
  }
  setItem(key, value) {
    this.entries.set(key, value);
  }
  removeItem(key) {
    this.entries.delete(key);
  }
}

/** Lets everything run that waits for nothing but the event loop. */
export async function settled() {
  for (let turn = 0; turn < 30; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export function answer(status, body) {
  return { status, ok: status < 300, json: async () => JSON.parse(JSON.stringify(body)) };
}

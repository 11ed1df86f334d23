/**
 * A Recado for the tests that offers every kind of link, and a network that blocks some: `GET v1/ws` by objects instead
 * of WebSockets, event streams and held requests by a function instead of fetch.
 */

import { FakeRecado, answer } from "./fake-recado.js";

const encoder = new TextEncoder();

/** A WebSocket of the HTTP port whose other end is `server`. */
class FakeJsonSocket {
  constructor(server) {
    this.server = server;
    this.readyState = 0;
    /** every frame that came from the page */
    this.received = [];
    this.follows = false;
    queueMicrotask(() => (server.blocked.has("websocket") ? this.drop() : this.open()));
  }

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  send(text) {
    const frame = JSON.parse(text);
    this.received.push(frame);
    if (this.server.isMute) return;
    if (frame.type === "auth" && frame.token !== this.server.token) queueMicrotask(() => this.drop(4401));
    else if (frame.type === "auth") this.push({ type: "ready", user: this.server.user });
    else if (frame.type === "subscribe") this.push({ type: "subscribed", conversations: frame.conversations });
    this.follows ||= frame.type === "subscribe";
  }

  push(frame) {
    queueMicrotask(() => this.onmessage?.({ data: JSON.stringify(frame) }));
  }

  drop(code = 1006) {
    this.close();
    this.onclose?.({ code, reason: "" });
  }

  close() {
    this.readyState = 3;
  }
}

export class FakeRecadoOfAllLinks extends FakeRecado {
  /** the kinds that do not get through */
  blocked = new Set();
  jsonSockets = [];
  streams = [];
  /** the held requests, as functions that answer them */
  held = [];
  feed = [];
  /** what the next POSTs of messages are answered with, in place of a commit: a status, or "commit-and-drop" */
  postAnswers = [];

  get jsonSocket() {
    return this.jsonSockets.at(-1);
  }

  mqttSocket = this.openSocket;

  openSocket = (url, protocol) => {
    if (protocol === "mqtt") {
      const socket = this.mqttSocket();
      if (this.blocked.has("mqtt")) socket.open = () => socket.drop();
      return socket;
    }
    const socket = new FakeJsonSocket(this);
    this.jsonSockets.push(socket);
    return socket;
  };

  /** Over every link that is open, as the server does it. */
  deliver(id, event) {
    const placed = { conversation: id, event };
    if (this.socket?.readyState === 1) this.socket.pushEvent(id, event);
    for (const socket of this.jsonSockets) if (socket.follows) socket.push({ type: "event", ...placed });
    for (const stream of this.streams) stream.enqueue(encoder.encode(`data: ${JSON.stringify(placed)}\n\n`));
    this.feed.push(placed);
    for (const release of this.held.splice(0)) release();
  }

  callApi = this.fetch;

  fetch = async (url, init) => {
    const { headers, method, body, signal } = init;
    if (headers.Authorization !== `Bearer ${this.token}`) return this.callApi(url, init);
    if (url.pathname === "/v1/events") {
      this.requests.push(url.pathname + url.search);
      return headers.Accept === "text/event-stream" ? this.stream(signal) : this.poll(url.searchParams, signal);
    }
    if (method === "POST" && url.pathname.endsWith("/messages")) return this.post(url, JSON.parse(body));
    if (method === "PUT" && url.pathname.endsWith("/read")) {
      this.readUpTo.set(url.pathname.split("/")[3], JSON.parse(body).seq);
      return answer(200, {});
    }
    if (method === "POST") return { status: 204, ok: true };
    return this.callApi(url, init);
  };

  stream(signal) {
    if (this.blocked.has("event-stream")) return { status: 403, ok: false, headers: new Headers(), json: notJson };
    const body = new ReadableStream({
      start: (stream) => {
        this.streams.push(stream);
        stream.enqueue(encoder.encode("retry: 2000\nid: 0\n\n"));
        signal.addEventListener("abort", () => this.streams.splice(this.streams.indexOf(stream), 1));
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }

  async poll(query, signal) {
    const cursor = query.get("cursor");
    if (cursor === null) return answer(200, { events: [], cursor: String(this.feed.length) });
    if (Number(cursor) === this.feed.length && !this.isHurried)
      await new Promise((resolve, reject) => {
        this.held.push(resolve);
        signal.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
      });
    const events = this.feed.slice(Number(cursor));
    if (events.length === 0) return { status: 204, ok: true };
    return answer(200, { events, cursor: String(this.feed.length) });
  }

  post(url, { id, body }) {
    const conversation = url.pathname.split("/")[3];
    this.requests.push(`POST ${id} ${body}`);
    const scripted = this.postAnswers.shift();
    if (typeof scripted === "number") return answer(scripted, { error: { code: "scripted", message: "as told" } });
    const known = this.logs.get(conversation).events.find((event) => event.id === id);
    const event = known ?? this.commit(conversation, this.user, { id, body });
    if (scripted === "commit-and-drop") throw new TypeError("the network is gone");
    if (!known) this.deliver(conversation, event);
    return answer(known ? 200 : 201, event);
  }
}

async function notJson() {
  throw new SyntaxError("not JSON");
}

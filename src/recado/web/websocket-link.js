// @ts-check
/**
 * Where MQTT's port is closed: a WebSocket on the HTTP port, `GET v1/ws`. The token is in its first frame.
 *
 * A browser does not show a page the server's pings, so after a silence the link asks for an answer: a subscription to
 * nothing more has one.
 */

import { HttpLink } from "./http-link.js";

/** @import {Link, LinkEnd, LinkOptions} from "./link.js" */

const SILENCE_MS_MAX = 45_000;
const ANSWER_MS_MAX = 10_000;
const PROBE_MS_MAX = 3_000;
const ACK_AFTER_MS = 200;
const CONNECTING = 0; // of WebSocket.readyState
const OPEN = 1;
const TOKEN_REFUSED = 4401;
/** What the server closes with when it says why: its own codes, and that it stops, has failed or is full. */
const SERVERS_CODES = [1001, 1009, 1011, 1013, 4400, TOKEN_REFUSED, 4403, 4429];

/** @typedef {ReturnType<typeof setTimeout> | undefined} Timer */

/** @implements {Link} */
class WebSocketLink extends HttpLink {
  /** @param {LinkOptions} options */
  constructor(options) {
    super("websocket", options);
    const url = new URL("v1/ws", options.api.baseUrl);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.socket = options.openSocket(url.href);
    this.onReady = () => {};
    this.onSubscribed = () => {};
    /** @type {Timer} */
    this.silence = undefined;
    /** @type {Timer} */
    this.answer = undefined;
    /** @type {Timer} */
    this.ackTimer = undefined;
    /** @type {Map<string, number>} */
    this.unsentAcks = new Map();
    /** @type {Map<string, number>} */
    this.acknowledged = new Map();
  }

  /** @override */
  async begin() {
    const ready = new Promise((resolve) => (this.onReady = () => resolve(undefined)));
    this.socket.onmessage = (frame) => this.receive(frame.data);
    this.socket.onclose = (closing) => this.end(endOfSocket(closing));
    const token = await this.api.tokens.token(false);
    if (this.socket.readyState === CONNECTING) await new Promise((resolve) => (this.socket.onopen = resolve));
    this.tell({ type: "auth", token });
    await ready;
  }

  /** @override */
  async resume() {
    const subscribed = new Promise((resolve) => (this.onSubscribed = () => resolve(undefined)));
    this.tell({ type: "subscribe", conversations: "*" });
    this.expectAnswer(ANSWER_MS_MAX);
    await this.unlessEnded(subscribed);
    return super.resume();
  }

  /** @override @param {string} id */
  typing(id) {
    this.tell({ type: "typing", conversation: id });
  }

  /**
   * @override
   * @param {string} id
   * @param {number} seq
   */
  acknowledge(id, seq) {
    if (seq <= (this.acknowledged.get(id) ?? 0)) return;
    this.acknowledged.set(id, seq);
    this.unsentAcks.set(id, seq);
    this.ackTimer ??= setTimeout(() => this.sendAcks(), ACK_AFTER_MS);
  }

  sendAcks() {
    this.ackTimer = undefined;
    for (const [conversation, seq] of this.unsentAcks) this.tell({ type: "ack", conversation, seq });
    this.unsentAcks.clear();
  }

  /** @override */
  probe() {
    this.ask(PROBE_MS_MAX);
  }

  /** @param {number} answerMs */
  ask(answerMs) {
    this.tell({ type: "subscribe", conversations: {} });
    this.expectAnswer(answerMs);
  }

  /** @param {number} answerMs */
  expectAnswer(answerMs) {
    clearTimeout(this.answer);
    this.answer = setTimeout(() => this.end({ why: "lost", reason: "the server stopped answering" }), answerMs);
  }

  /** @param {object} frame */
  tell(frame) {
    if (this.socket.readyState === OPEN) this.socket.send(JSON.stringify(frame));
  }

  /** @param {string} text */
  receive(text) {
    if (this.isOver) return;
    this.heard();
    const frame = JSON.parse(text);
    if (frame.type === "ready") this.onReady();
    else if (frame.type === "subscribed") this.onSubscribed();
    else if (frame.type === "event") this.hooks.onEvent(frame.conversation, frame.event);
    else if (frame.type === "signal") this.hooks.onSignal(frame.conversation, frame.signal);
  }

  heard() {
    clearTimeout(this.answer);
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.ask(ANSWER_MS_MAX), SILENCE_MS_MAX);
  }

  /** @override */
  release() {
    for (const timer of [this.silence, this.answer, this.ackTimer]) clearTimeout(timer);
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}

/**
 * @param {LinkOptions} options
 * @returns {Promise<Link>} rejects with `LinkClosed`
 */
export async function openWebSocket(options) {
  const link = new WebSocketLink(options);
  await link.open();
  return link;
}

/**
 * @param {CloseEvent} closing
 * @returns {LinkEnd}
 */
function endOfSocket({ code, reason }) {
  if (code === TOKEN_REFUSED) return { why: "token", reason };
  return { why: SERVERS_CODES.includes(code) ? "server" : "lost", reason: reason || `closed with ${code}` };
}

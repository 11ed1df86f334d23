// @ts-check
/**
 * Where no WebSocket gets through: an event stream, one answer that goes on. It is read with `fetch`, so that the token
 * is in a header and never in a URL.
 *
 * It is open with its first bytes, and over after a silence that the server's comments (one each 15 s) would have
 * ended: a proxy that collects answers holds back the ones or the others.
 */

import { ApiError } from "./http-api.js";
import { EventStreamReader } from "./event-stream.js";
import { HttpLink } from "./http-link.js";

/** @import {Link, LinkOptions} from "./link.js" */
/** @import {StreamedEvent} from "./event-stream.js" */

const SILENCE_MS_MAX = 40_000;
const PROBED_SILENCE_MS_MAX = 20_000;

/** @implements {Link} */
class EventStreamLink extends HttpLink {
  /** @param {LinkOptions} options */
  constructor(options) {
    super("event-stream", options);
    this.controller = new AbortController();
    this.stream = new EventStreamReader();
    this.decoder = new TextDecoder();
    this.heardAt = 0;
    this.piecesHeard = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.silence = undefined;
  }

  /** @override */
  async begin() {
    const response = await this.api.feedStream(this.controller.signal);
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    await this.readOne(reader);
    void this.readOn(reader);
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
  async readOn(reader) {
    try {
      while (!this.isOver) await this.readOne(reader);
    } catch (error) {
      this.failed(error);
    }
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
  async readOne(reader) {
    const { done, value } = await reader.read();
    if (this.isOver) return;
    if (done) throw new ApiError(0, "unreachable", "the stream broke off");
    this.heard();
    for (const event of this.stream.push(this.decoder.decode(value, { stream: true }))) this.receive(event);
  }

  /** @param {StreamedEvent} streamed */
  receive({ event, data }) {
    const content = JSON.parse(data);
    if (event === "end") this.finish(content);
    else if (event === "signal") this.hooks.onSignal(content.conversation, content.signal);
    else if (event === "message") this.hooks.onEvent(content.conversation, content.event);
  }

  /** The server says why it goes on no more. @param {{code: string, message: string}} said */
  finish({ code, message: reason }) {
    this.end({ why: code === "unauthenticated" ? "token" : "server", reason });
  }

  heard() {
    this.heardAt = Date.now();
    this.piecesHeard += 1;
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.fellSilent(), SILENCE_MS_MAX);
  }

  fellSilent() {
    this.end({ why: "lost", reason: "the stream fell silent", wasUseless: this.piecesHeard === 1 });
  }

  /** @override */
  probe() {
    if (Date.now() - this.heardAt > PROBED_SILENCE_MS_MAX) this.fellSilent();
  }

  /** @override */
  release() {
    clearTimeout(this.silence);
    this.controller.abort();
  }
}

/**
 * @param {LinkOptions} options
 * @returns {Promise<Link>} rejects with `LinkClosed`
 */
export async function openEventStream(options) {
  const link = new EventStreamLink(options);
  await link.open();
  return link;
}

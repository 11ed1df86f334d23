// @ts-check
/**
 * Recado's HTTP calls that the pages need, with the user's token.
 *
 * A 401 makes one renewed token and one more try; what is still refused then is `SignedOut`. Everything else that is
 * not a success is an `ApiError` with the server's code, or `code` "unreachable" if there was no answer, "unreadable"
 * if it was not Recado's, as that of a proxy.
 */

const ANSWER_MS_MAX = 15_000;
const EVENT_STREAM = "text/event-stream";
const NOT_THE_SERVERS = ["unreachable", "unreadable"];

/**
 * @typedef {object} ChatEvent an entry of a conversation's log; without `type` it is a message
 * @property {number} seq
 * @property {string | null} from null is the host application itself
 * @property {number} at ms since the epoch
 * @property {string} [type]
 * @property {string} [id]
 * @property {string} [body]
 * @property {string} [user]
 * @property {string | null} [subject]
 * @property {Record<string, unknown>} [metadata]
 * @property {number} [target] the seq of the message that was edited or deleted
 * @property {number} [edited_at] of a message: when it got the body that it has
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {string | null} [subject]
 * @property {Record<string, unknown>} [metadata]
 * @property {string[]} members
 * @property {number} created_at
 * @property {number} last_seq
 * @property {ChatEvent | null} last_event
 * @property {number} read_up_to
 * @property {number} unread_count
 * @property {number} active_at
 * @property {string[]} [online] the members who are there now; absent above the server's `receipt_members_max`
 * @property {Record<string, string>} [names] the display names that the host has given members
 * @property {boolean} [muted] whether the user is not to be notified of it
 *
 * @typedef {object} Session
 * @property {string} user
 * @property {number} expires_at
 * @property {string} http_url
 * @property {{ws_url: string | null, username: string, password: string,
 *   topics: {subscribe: string[], events: string, live: string, send: string | null}}} mqtt `send` is null where MQTT
 *   comes from an external broker, which clients only read
 *
 * @typedef {object} TokenSource where the user's token comes from
 * @property {(renew: boolean) => Promise<string>} token `renew` if the last one was refused; rejects with `SignedOut`
 */

/** No token can be had: the user has to sign in (again). */
export class SignedOut extends Error {
  /** @param {"missing" | "expired" | "refused"} why */
  constructor(why) {
    super(`signed out: ${why}`);
    this.name = "SignedOut";
    this.why = why;
  }
}

/** An HTTP call that was not answered with a success. */
export class ApiError extends Error {
  /**
   * @param {number} status 0 if there was no answer
   * @param {string} code
   * @param {string} message
   */
  constructor(status, code, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }

  /** Whether it is Recado that refused, and not something on the way there. */
  get isTheServers() {
    return !NOT_THE_SERVERS.includes(this.code);
  }
}

export class HttpApi {
  /**
   * @param {string} baseUrl where `v1/` is, with a slash at the end
   * @param {TokenSource} tokens
   * @param {typeof fetch} [fetchFunction]
   */
  constructor(baseUrl, tokens, fetchFunction = (input, init) => fetch(input, init)) {
    this.baseUrl = baseUrl;
    this.tokens = tokens;
    this.fetchFunction = fetchFunction;
  }

  /** @returns {Promise<Session>} */
  session() {
    return this.get("v1/session");
  }

  /**
   * @param {string | null} cursor
   * @returns {Promise<{conversations: Conversation[], next_cursor: string | null}>}
   */
  conversations(cursor) {
    return this.get(`v1/conversations?limit=50${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
  }

  /**
   * @param {string} id
   * @returns {Promise<Conversation>}
   */
  conversation(id) {
    return this.get(`v1/conversations/${encodeURIComponent(id)}`);
  }

  /**
   * @param {string} id
   * @param {{after?: number, before?: number, limit: number}} range
   * @returns {Promise<{events: ChatEvent[], last_seq: number, receipts?: import("./receipts.js").Receipt[]}>}
   */
  events(id, range) {
    const query = Object.entries(range).map(([name, value]) => `${name}=${value}`);
    return this.get(`v1/conversations/${encodeURIComponent(id)}/events?${query.join("&")}`);
  }

  /**
   * @param {string} id
   * @param {number} seq
   * @param {string} body
   * @returns {Promise<ChatEvent>} the `edited` event, or the message itself if that is its body already
   */
  editMessage(id, seq, body) {
    return this.call("PATCH", `v1/conversations/${encodeURIComponent(id)}/messages/${seq}`, { body });
  }

  /**
   * @param {string} id
   * @param {number} seq
   * @returns {Promise<ChatEvent>} the `deleted` event, or the entry itself if it was deleted already
   */
  deleteMessage(id, seq) {
    return this.call("DELETE", `v1/conversations/${encodeURIComponent(id)}/messages/${seq}`);
  }

  /**
   * @param {{id: string, conversation: string, body: string}} message
   * @returns {Promise<ChatEvent>} the event, which is the first one if this id was sent before
   */
  sendMessage({ id, conversation, body }) {
    return this.call("POST", `v1/conversations/${encodeURIComponent(conversation)}/messages`, { id, body });
  }

  /**
   * @param {string} id
   * @param {number} seq
   * @returns {Promise<{read_up_to: number, unread_count: number}>}
   */
  markRead(id, seq) {
    return this.call("PUT", `v1/conversations/${encodeURIComponent(id)}/read`, { seq });
  }

  /**
   * @param {string} id
   * @returns {Promise<void>}
   */
  signalTyping(id) {
    return this.call("POST", `v1/conversations/${encodeURIComponent(id)}/typing`);
  }

  /**
   * Everything up to this seq has arrived.
   *
   * @param {string} id
   * @param {number} seq
   * @returns {Promise<void>}
   */
  reportDelivered(id, seq) {
    return this.call("PUT", `v1/conversations/${encodeURIComponent(id)}/delivered`, { seq });
  }

  /**
   * This page is open, on the screen or hidden.
   *
   * @param {string} page
   * @param {boolean} visible
   * @returns {Promise<{renew_s: number}>} within how many seconds to say it again
   */
  reportPage(page, visible) {
    return this.call("PUT", "v1/presence", { page, visible }, { keepalive: true });
  }

  /**
   * It is open no more. The call outlives the page.
   *
   * @param {string} page
   * @returns {Promise<void>}
   */
  reportPageClosed(page) {
    return this.call("DELETE", `v1/presence/${encodeURIComponent(page)}`, undefined, { keepalive: true });
  }

  /**
   * @param {string} id
   * @param {boolean} muted
   * @returns {Promise<unknown>}
   */
  setMuted(id, muted) {
    return this.call(muted ? "PUT" : "DELETE", `v1/conversations/${encodeURIComponent(id)}/mute`);
  }

  /** @returns {Promise<{public_key: string | null}>} what to subscribe to web push with; null where there is none */
  push() {
    return this.get("v1/push");
  }

  /**
   * @param {PushSubscriptionJSON} subscription
   * @returns {Promise<unknown>}
   */
  putPushSubscription({ endpoint, keys }) {
    return this.call("PUT", "v1/push/subscriptions", { endpoint, keys });
  }

  /**
   * @param {string} endpoint
   * @returns {Promise<void>}
   */
  deletePushSubscription(endpoint) {
    return this.call("DELETE", `v1/push/subscriptions?endpoint=${encodeURIComponent(endpoint)}`);
  }

  /**
   * What happens in all conversations, past a cursor.
   *
   * @param {string | null} cursor null asks where it is now
   * @param {number} waitS how long to hold the request while there is nothing
   * @param {AbortSignal} [signal] what ends it in place of the usual time limit
   * @returns {Promise<{events: Array<{conversation: string, event: ChatEvent}>, cursor: string} | null>} null: nothing
   */
  feed(cursor, waitS, signal) {
    const query = cursor === null ? "" : `?cursor=${encodeURIComponent(cursor)}&wait=${waitS}`;
    return this.call("GET", `v1/events${query}`, undefined, { signal });
  }

  /**
   * The same as an event stream, from now on.
   *
   * @param {AbortSignal} signal
   * @returns {Promise<Response>}
   */
  async feedStream(signal) {
    const headers = { Accept: EVENT_STREAM };
    const response = await this.authorized("v1/events", { method: "GET", headers, signal });
    const isStream = response.headers.get("Content-Type")?.startsWith(EVENT_STREAM);
    if (response.ok && isStream) return response;
    throw await refusal(response);
  }

  /**
   * @param {string} path
   * @returns {Promise<any>}
   */
  get(path) {
    return this.call("GET", path);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [content] sent as JSON
   * @param {RequestInit} [init]
   * @returns {Promise<any>} null for an answer without content
   */
  async call(method, path, content, init) {
    const body = content && JSON.stringify(content);
    const response = await this.authorized(path, { ...init, method, body });
    if (response.status === 204) return null;
    const answer = response.ok ? await response.json().catch(() => null) : null;
    if (answer === null) throw await refusal(response);
    return answer;
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   * @returns {Promise<Response>} never one with status 401
   */
  async authorized(path, init) {
    let response = await this.request(path, init, false);
    if (response.status === 401) response = await this.request(path, init, true);
    if (response.status === 401) throw new SignedOut("refused");
    return response;
  }

  /**
   * @param {string} path
   * @param {RequestInit} init
   * @param {boolean} renew
   */
  async request(path, init, renew) {
    const token = await this.tokens.token(renew);
    /** @type {Record<string, string>} */
    const headers = { Authorization: `Bearer ${token}`, Accept: "application/json" };
    if (init.body !== undefined) headers["Content-Type"] = "application/json";
    Object.assign(headers, init.headers);
    const signal = init.signal ?? AbortSignal.timeout(ANSWER_MS_MAX);
    try {
      return await this.fetchFunction(new URL(path, this.baseUrl), { ...init, headers, signal, cache: "no-store" });
    } catch (error) {
      throw new ApiError(0, "unreachable", String(error));
    }
  }
}

/** @param {Response} response one that is no success, or is not what was asked for */
async function refusal(response) {
  const answer = response.bodyUsed ? null : await response.json().catch(() => null);
  const error = answer?.error ?? {};
  return new ApiError(response.status, error.code ?? "unreadable", error.message ?? `HTTP ${response.status}`);
}

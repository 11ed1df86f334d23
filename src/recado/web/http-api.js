// @ts-check
/**
 * Recado's HTTP calls that the pages need, with the user's token.
 *
 * A 401 makes one renewed token and one more try; what is still refused then is `SignedOut`. Everything else that is
 * not a success is an `ApiError` with the server's code, or `code` "unreachable" if there was no answer.
 */

const ANSWER_MS_MAX = 15_000;

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
 *
 * @typedef {object} Session
 * @property {string} user
 * @property {number} expires_at
 * @property {string} http_url
 * @property {{ws_url: string, username: string, password: string,
 *   topics: {subscribe: string[], events: string, live: string, send: string}}} mqtt
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
   * @returns {Promise<any>}
   */
  async call(method, path, content) {
    const body = content && JSON.stringify(content);
    let response = await this.request(path, { method, body }, false);
    if (response.status === 401) response = await this.request(path, { method, body }, true);
    if (response.status === 401) throw new SignedOut("refused");
    const answer = await response.json().catch(() => null);
    if (response.ok && answer !== null) return answer;
    const error = answer?.error ?? {};
    throw new ApiError(response.status, error.code ?? "unavailable", error.message ?? `HTTP ${response.status}`);
  }

  /**
   * @param {string} path
   * @param {{method: string, body?: string}} init
   * @param {boolean} renew
   */
  async request(path, init, renew) {
    const token = await this.tokens.token(renew);
    /** @type {Record<string, string>} */
    const headers = { Authorization: `Bearer ${token}`, Accept: "application/json" };
    if (init.body !== undefined) headers["Content-Type"] = "application/json";
    const signal = AbortSignal.timeout(ANSWER_MS_MAX);
    try {
      return await this.fetchFunction(new URL(path, this.baseUrl), { ...init, headers, signal, cache: "no-store" });
    } catch (error) {
      throw new ApiError(0, "unreachable", String(error));
    }
  }
}

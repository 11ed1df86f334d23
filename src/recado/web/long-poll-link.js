// @ts-check
/**
 * What gets through everywhere: a request that the server holds until there is something, and then the next one. The
 * cursor of each answer is where the next goes on, so nothing is missed in between.
 *
 * No signals come this way: nobody is shown as typing or as there, and how far the others have read is asked for.
 */

import { ApiError } from "./http-api.js";
import { HttpLink } from "./http-link.js";

/** @import {Link, LinkOptions} from "./link.js" */

const WAIT_S = 25; // proxies cut what is silent for 30 s and more
const ANSWER_MS_MAX = 15_000; // past the wait
const EARLY_MS = 1_000; // an answer of nothing that comes sooner was not held: some cache or proxy gave it

/** @implements {Link} */
class LongPollLink extends HttpLink {
  /** @param {LinkOptions} options */
  constructor(options) {
    super("long-poll", options);
    this.carriesSignals = false;
    this.controller = new AbortController();
    this.wasProbed = false;
    this.endPause = () => {};
  }

  /** @override */
  async begin() {
    const now = await this.api.feed(null, 0, this.controller.signal);
    if (now === null) throw new ApiError(204, "unreadable", "the feed has no cursor");
    void this.pollOn(now.cursor);
  }

  /** @param {string} cursor */
  async pollOn(cursor) {
    while (!this.isOver) {
      try {
        cursor = await this.poll(cursor);
        this.wasProbed = false;
      } catch (error) {
        if (!this.wasProbed) return this.failed(error);
        this.wasProbed = false;
      }
    }
  }

  /**
   * @param {string} cursor
   * @returns {Promise<string>} where the next one goes on
   */
  async poll(cursor) {
    const askedAt = Date.now();
    const controller = (this.controller = new AbortController());
    const timer = setTimeout(() => controller.abort(), WAIT_S * 1000 + ANSWER_MS_MAX);
    const answer = await this.api.feed(cursor, WAIT_S, controller.signal).finally(() => clearTimeout(timer));
    if (this.isOver) return cursor;
    for (const { conversation, event } of answer?.events ?? []) this.hooks.onEvent(conversation, event);
    this.hooks.onTurn();
    if (answer === null && Date.now() - askedAt < EARLY_MS) await this.pause();
    return answer?.cursor ?? cursor;
  }

  /** @returns {Promise<void>} */
  pause() {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, EARLY_MS);
      this.endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Asks anew: a held request may be one that nobody holds any more. @override */
  probe() {
    this.wasProbed = true;
    this.controller.abort();
  }

  /** @override */
  release() {
    this.endPause();
    this.controller.abort();
  }
}

/**
 * @param {LinkOptions} options
 * @returns {Promise<Link>} rejects with `LinkClosed`
 */
export async function openLongPoll(options) {
  const link = new LongPollLink(options);
  await link.open();
  return link;
}

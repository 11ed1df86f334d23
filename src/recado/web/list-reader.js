// @ts-check
/**
 * Reads the list of conversations over HTTP, page by page, in the order of activity; one page at a time.
 *
 * After a (re)connect it reads on for as long as the pages have news of what the page knew, within bounds: what is
 * further down is read when it is opened or scrolled to.
 */

/** @import {Conversation, HttpApi} from "./http-api.js" */
/** @import {Signal} from "./conversation-log.js" */

const NEWS_PAGES_MAX = 4;

/**
 * @typedef {object} ListPage
 * @property {Conversation[]} conversations
 * @property {string | null} next_cursor
 * @property {boolean} isFirst
 */

export class ListReader {
  /**
   * @param {HttpApi} api
   * @param {(page: ListPage) => boolean} onPage whether there was news down to its end
   */
  constructor(api, onPage) {
    this.api = api;
    this.onPage = onPage;
    /** @type {string | null} */
    this.nextCursor = null;
    /** @type {Promise<boolean> | null} */
    this.reading = null;
    /** @type {Array<[string, Signal]>} what came while it was being read: it may be newer than the page */
    this.presenceMeanwhile = [];
    /** whether news was being looked for when the last try of it failed */
    this.wasCutShort = false;
  }

  /** Reads what is news since now: a page that was asked for before does not tell it. */
  async readNews() {
    await this.reading?.catch(() => {});
    const readsOn = this.wasCutShort;
    this.wasCutShort = true;
    let hadNews = await this.read(null);
    for (let pages = 1; (hadNews || readsOn) && this.nextCursor !== null && pages < NEWS_PAGES_MAX; pages++)
      hadNews = await this.read(this.nextCursor);
    this.wasCutShort = false;
  }

  async readMore() {
    if (this.nextCursor !== null && !this.reading) await this.read(this.nextCursor);
  }

  /**
   * @param {string | null} cursor
   * @returns {Promise<boolean>} what `onPage` said
   */
  read(cursor) {
    this.reading ??= this.readPage(cursor).finally(() => (this.reading = null));
    return this.reading;
  }

  /** @param {string | null} cursor */
  async readPage(cursor) {
    this.presenceMeanwhile = [];
    const page = await this.api.conversations(cursor);
    this.nextCursor = page.next_cursor;
    return this.onPage({ ...page, isFirst: cursor === null });
  }
}

// @ts-check
/**
 * Looks up the conversations that the page does not know: one that the user opens by its address, and one that an event
 * comes of, because the user was added to it. The events of such a one wait until it is known.
 */

import { ApiError } from "./http-api.js";

/** @import {ChatEvent, Conversation, HttpApi} from "./http-api.js" */

/**
 * @typedef {object} FinderHooks
 * @property {(id: string) => boolean} isKnown
 * @property {() => Promise<void>} listRead once no page of the list is being read: it may bring the conversation
 * @property {(summary: Conversation) => void} onFound takes the events that wait for it
 * @property {(error: unknown) => void} onFailed it could not be looked up for an event
 */

export class ConversationFinder {
  /**
   * @param {HttpApi} api
   * @param {FinderHooks} hooks
   */
  constructor(api, hooks) {
    this.api = api;
    this.hooks = hooks;
    /** @type {Map<string, ChatEvent[]>} events of conversations that are still being looked up */
    this.early = new Map();
  }

  /**
   * @param {string} id
   * @returns {Promise<boolean>} false if the user is not in such a conversation; rejects if that cannot be told now
   */
  async find(id) {
    try {
      this.hooks.onFound(await this.api.conversation(id));
    } catch (error) {
      if (error instanceof ApiError && [400, 404].includes(error.status)) return false;
      throw error;
    }
    return true;
  }

  /**
   * An event of a conversation that the page has not heard of.
   *
   * @param {string} id
   * @param {ChatEvent} event
   */
  async receive(id, event) {
    const waiting = this.early.get(id);
    if (waiting) return void waiting.push(event);
    this.early.set(id, [event]);
    await this.hooks.listRead();
    if (this.hooks.isKnown(id)) return;
    try {
      await this.find(id);
    } catch (error) {
      this.hooks.onFailed(error);
    }
    this.early.delete(id);
  }

  /** The events that came before the conversation was known: they wait no more. @param {string} id */
  takeEarly(id) {
    const events = this.early.get(id) ?? [];
    this.early.delete(id);
    return events;
  }
}

// @ts-check
/**
 * Edits and deletes of the user's own messages. They go up over HTTP; what changes the screen is the event that comes
 * back, here as in every other tab, so a refused change never shows.
 */

import { SignedOut } from "./http-api.js";

/** @import {ChatEvent, HttpApi} from "./http-api.js" */

/**
 * @typedef {object} ChangeHooks
 * @property {(id: string, entry: ChatEvent) => void} onEntry an entry as it is already, of which no event will tell
 * @property {(error: SignedOut) => void} onSignedOut
 */

export class MessageChanges {
  /**
   * @param {HttpApi} api
   * @param {ChangeHooks} hooks
   */
  constructor(api, hooks) {
    this.api = api;
    this.hooks = hooks;
  }

  /**
   * Gives a message another body.
   *
   * @param {string} id the conversation's
   * @param {number} seq
   * @param {string} body
   * @returns {Promise<void>} rejects with `ApiError` if the server refuses
   */
  edit(id, seq, body) {
    return this.settle(id, this.api.editMessage(id, seq, body));
  }

  /**
   * Deletes a message for everybody.
   *
   * @param {string} id the conversation's
   * @param {number} seq
   * @returns {Promise<void>} rejects with `ApiError` if the server refuses
   */
  delete(id, seq) {
    return this.settle(id, this.api.deleteMessage(id, seq));
  }

  /**
   * @param {string} id
   * @param {Promise<ChatEvent>} asked
   */
  async settle(id, asked) {
    const answer = await asked.catch((error) => {
      if (error instanceof SignedOut) this.hooks.onSignedOut(error);
      throw error;
    });
    if (answer.target === undefined) this.hooks.onEntry(id, answer);
  }
}

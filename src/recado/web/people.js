// @ts-check
/** What people are called on the page: by their display name, which the host gives, else by their id. Pure. */

import { TEXTS } from "./texts.js";

export class People {
  constructor() {
    /** the user's own id, empty while nobody is signed in */
    this.me = "";
    /** @type {Map<string, string>} */
    this.names = new Map();
  }

  /** @param {Record<string, string>} [names] by user */
  learn(names = {}) {
    for (const [user, name] of Object.entries(names)) this.names.set(user, name);
  }

  /** @param {string} user */
  nameOf(user) {
    return this.names.get(user) ?? nameFromId(user);
  }

  /** As it is said to the user, who is "You". @param {string | null} user null is the host */
  called(user) {
    if (user === null) return TEXTS.host;
    return user === this.me ? TEXTS.you : this.nameOf(user);
  }
}

/**
 * A user id as a name: plain lower-case words get their capitals, anything else stays as it is.
 *
 * @param {string} user
 */
export function nameFromId(user) {
  if (!/^[a-z]+([_-][a-z]+)*$/.test(user)) return user;
  return user
    .split(/[_-]/)
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join(" ");
}

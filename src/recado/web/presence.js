// @ts-check
/** Who of a conversation's members is there now, and since when somebody is not. Pure. */

/**
 * @typedef {object} PresenceSignal
 * @property {string} from
 * @property {boolean} online
 * @property {number} [last_seen] ms since the epoch
 */

export class Presence {
  /** @param {string[] | undefined} online undefined: this conversation has too many members to say */
  constructor(online) {
    this.isShown = online !== undefined;
    this.online = new Set(online);
    /** @type {Map<string, number>} */
    this.lastSeen = new Map();
  }

  /**
   * Starts anew from what the server says; when somebody was last seen stays known.
   *
   * @param {string[] | undefined} online
   */
  reset(online) {
    this.isShown = online !== undefined;
    this.online = new Set(online);
    for (const user of this.online) this.lastSeen.delete(user);
  }

  /** @param {PresenceSignal} signal */
  take({ from, online, last_seen }) {
    if (online) {
      this.online.add(from);
      this.lastSeen.delete(from);
    } else {
      this.online.delete(from);
      if (last_seen !== undefined) this.lastSeen.set(from, last_seen);
    }
  }
}

// @ts-check
/**
 * Which kind of link to try next. It has no timer and asks nobody: it is told what happened.
 *
 * A kind counts as blocked once it has failed without a word from the server, and the server has answered over HTTP
 * since: then the next worse kind is tried. While the server answers nobody, it is the server that is away, and nothing
 * is concluded. A link that opens and dies at once, several times in a row, has failed. Below the last kind comes the
 * first again. What worked is remembered for the tab, so that a reload does not find it out anew.
 */

import { LINK_KINDS } from "./link.js";

/** @import {LinkEnd, LinkKind} from "./link.js" */

export const SHORT_LIFE_MS = 15_000;
export const SHORT_LIVES_MAX = 3;
const KEY = "recado.link";

export class LinkChoice {
  /** @param {Storage | null} storage of the tab */
  constructor(storage) {
    this.storage = storage;
    this.kind = this.remembered();
    this.shortLives = 0;
    /** whether the last try speaks for a block, if only the server answers now */
    this.isDoubtful = false;
  }

  get isBest() {
    return this.kind === LINK_KINDS[0];
  }

  get isLast() {
    return this.kind === LINK_KINDS.at(-1);
  }

  /** The kinds to climb to, the best first. */
  better() {
    return LINK_KINDS.slice(0, LINK_KINDS.indexOf(this.kind));
  }

  /** The server has answered over HTTP. */
  serverAnswered() {
    if (!this.isDoubtful) return;
    this.isDoubtful = false;
    this.shortLives = 0;
    this.kind = LINK_KINDS[(LINK_KINDS.indexOf(this.kind) + 1) % LINK_KINDS.length] ?? this.kind;
  }

  /** The server does not answer over HTTP either. */
  serverAway() {
    this.isDoubtful = false;
    this.shortLives = 0;
  }

  opened() {
    this.remember();
  }

  /**
   * A link of a better kind has opened beside the one in use. It is on probation: one short life ends it.
   *
   * @param {LinkKind} kind
   */
  climbed(kind) {
    this.kind = kind;
    this.shortLives = SHORT_LIVES_MAX - 1;
    this.remember();
  }

  /**
   * @param {LinkEnd} end
   * @param {number | null} livedMs null if it never opened
   */
  ended({ why, wasUseless }, livedMs) {
    const wasShort = livedMs !== null && livedMs < SHORT_LIFE_MS;
    if (!wasShort) this.shortLives = 0;
    if (why !== "lost") return;
    if (wasShort) this.shortLives += 1;
    this.isDoubtful = livedMs === null || wasUseless === true || this.shortLives >= SHORT_LIVES_MAX;
  }

  remembered() {
    return LINK_KINDS.find((kind) => kind === this.storage?.getItem(KEY)) ?? "mqtt";
  }

  remember() {
    try {
      if (this.isBest) this.storage?.removeItem(KEY);
      else this.storage?.setItem(KEY, this.kind);
    } catch {
      // Full or forbidden: a reload finds it out anew.
    }
  }
}

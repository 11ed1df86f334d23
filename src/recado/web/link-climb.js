// @ts-check
/**
 * When to try a better kind of link while a worse one works: ever more rarely, for what is blocked mostly stays so, and
 * at a random moment, so that the pages behind one proxy do not try together. The network's or the user's return is a
 * reason to try now.
 */

const CLIMB_MS_MIN = 30_000;
const CLIMB_MS_MAX = 600_000;
const TRY_AGAIN_MS = 10_000;

/**
 * @param {number} tries how often it was tried in vain
 * @param {() => number} [random]
 */
export function climbDelayMs(tries, random = Math.random) {
  return Math.min(CLIMB_MS_MAX, CLIMB_MS_MIN * 2 ** tries) * (0.75 + random() / 2);
}

export class LinkClimb {
  /**
   * @param {() => boolean} isNeeded
   * @param {() => Promise<void>} tryBetter may reject, by a listener that throws: the next try comes all the same
   * @param {() => number} [random]
   */
  constructor(isNeeded, tryBetter, random) {
    this.isNeeded = isNeeded;
    this.tryBetter = tryBetter;
    this.random = random;
    this.tries = 0;
    this.triedAt = -Infinity;
    this.isTrying = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** A link is in use. */
  schedule() {
    this.stop();
    if (this.isNeeded()) this.timer = setTimeout(() => void this.climb(), climbDelayMs(this.tries, this.random));
  }

  stop() {
    clearTimeout(this.timer);
  }

  /** The network or the user is back. */
  tryNow() {
    if (!this.isNeeded() || Date.now() - this.triedAt < TRY_AGAIN_MS) return;
    this.tries = 0;
    void this.climb();
  }

  async climb() {
    if (this.isTrying) return;
    this.stop();
    this.isTrying = true;
    this.triedAt = Date.now();
    this.tries += 1;
    try {
      await this.tryBetter();
    } finally {
      this.isTrying = false;
      this.schedule();
    }
  }
}

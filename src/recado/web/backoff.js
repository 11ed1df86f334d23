// @ts-check
/**
 * How long to wait before the next attempt to connect, and what cuts that wait short.
 *
 * The wait is random between 0.5 s and a ceiling that doubles up to 15 s, so that a server's restart does not bring
 * everybody back in the same instant. The network's return and a page becoming visible end it at once.
 */

const WAIT_MS_MIN = 500;
const WAIT_MS_MAX = 15_000;

/**
 * @param {number} attempt 0 for the first retry
 * @param {() => number} [random]
 */
export function retryDelayMs(attempt, random = Math.random) {
  const ceiling = Math.min(WAIT_MS_MAX, WAIT_MS_MIN * 2 ** (attempt + 1));
  return WAIT_MS_MIN + random() * (ceiling - WAIT_MS_MIN);
}

/** A wait that can be ended early by `wake`. */
export class WakeableWait {
  constructor() {
    /** @type {(() => void) | null} */
    this.wake = null;
  }

  /**
   * @param {number} ms
   * @returns {Promise<void>}
   */
  for(ms) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.wake = null;
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.wake = done;
    });
  }
}

// @ts-check
/**
 * Tells the server over HTTP how far each conversation has reached the page: the newest seq of each, one call at a time,
 * and a pause between two. A burst of messages is one call.
 */

const FIRST_AFTER_MS = 100;
const EVERY_MS = 400;
const RETRY_MS = 5_000;

export class DeliveryReports {
  /** @param {(id: string, seq: number) => Promise<unknown>} report */
  constructor(report) {
    this.report = report;
    /** @type {Map<string, number>} */
    this.reported = new Map();
    /** @type {Map<string, number>} */
    this.waiting = new Map();
    this.isBusy = false;
    this.isStopped = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /**
   * @param {string} id
   * @param {number} seq everything up to it is here
   */
  add(id, seq) {
    if (seq <= (this.reported.get(id) ?? 0)) return;
    this.reported.set(id, seq);
    this.waiting.set(id, seq);
    if (!this.isBusy) this.next(FIRST_AFTER_MS);
  }

  /** @param {number} ms */
  next(ms) {
    this.isBusy = this.waiting.size > 0 && !this.isStopped;
    if (this.isBusy) this.timer = setTimeout(() => void this.sendOne(), ms);
  }

  async sendOne() {
    const [first] = this.waiting;
    if (!first) return;
    const [id, seq] = first;
    this.waiting.delete(id);
    const isDone = await this.report(id, seq).then(
      () => true,
      (error) => !isPassing(error),
    );
    if (!isDone && !this.waiting.has(id)) this.waiting.set(id, seq);
    this.next(isDone ? EVERY_MS : RETRY_MS);
  }

  stop() {
    this.isStopped = true;
    clearTimeout(this.timer);
  }
}

/**
 * Whether it may go better later: no answer, or one that is not about this conversation.
 *
 * @param {unknown} error
 */
function isPassing(error) {
  const status = error instanceof Error && "status" in error ? error.status : 0;
  return typeof status === "number" && (status === 0 || status === 429 || status >= 500);
}

// @ts-check
/**
 * Keeps one link to Recado alive for as long as the page wants it, of the best kind that gets through.
 *
 * Each round asks for the session anew (URLs and a valid token), opens a link, lets the owner resume on it, and waits
 * for the end. Between rounds it waits with backoff, but not after the token's own end, which is routine, nor before
 * the next kind is tried. While a link works, better kinds are tried beside it; one that opens is resumed on, and takes
 * over before the other is closed. Only a missing token ends the loop.
 */

import { WakeableWait, retryDelayMs } from "./backoff.js";
import { openBroker } from "./broker-link.js";
import { openEventStream } from "./event-stream-link.js";
import { SignedOut } from "./http-api.js";
import { LinkChoice } from "./link-choice.js";
import { LinkClimb } from "./link-climb.js";
import { LinkClosed } from "./link.js";
import { openLongPoll } from "./long-poll-link.js";
import { openMqtt } from "./mqtt-link.js";
import { openWebSocket } from "./websocket-link.js";

/** @import {HttpApi, Session} from "./http-api.js" */
/** @import {Link, LinkEnd, LinkHooks, LinkKind, LinkOptions} from "./link.js" */

const STABLE_MS = 5_000;
const OPEN_MS_MAX = 4_000; // somebody waits
const CLIMB_OPEN_MS_MAX = 10_000; // nobody does

/** @type {Record<LinkKind, (options: LinkOptions) => Promise<Link>>} */
const OPEN = {
  mqtt: (options) => (options.session.mqtt.topics.send === null ? openBroker : openMqtt)(options),
  websocket: openWebSocket,
  "event-stream": openEventStream,
  "long-poll": openLongPoll,
};

/**
 * @typedef {"connecting" | "online" | "reconnecting" | "offline"} ConnectionState
 *
 * @typedef {object} KeeperOptions
 * @property {HttpApi} api
 * @property {string} clientId
 * @property {LinkHooks} hooks
 * @property {(session: Session) => Promise<void>} onSession before connecting
 * @property {(link: Link) => Promise<void>} onOpened resumes on it, while another may still be in use
 * @property {() => Promise<void>} onConnected the link is the one in use; the page is online once this resolved
 * @property {() => void} onState the state, or the kind of link, is another
 * @property {(why: SignedOut["why"]) => void} onSignedOut
 * @property {Storage | null} [tabStorage]
 * @property {(url: string, protocol?: string) => WebSocket} [openSocket]
 * @property {() => boolean} [hasNetwork]
 * @property {() => number} [random]
 */

export class LinkKeeper {
  /** @param {KeeperOptions} options */
  constructor(options) {
    this.options = options;
    /** @type {ConnectionState} */
    this.state = "connecting";
    /** @type {Link | null} the one in use */
    this.link = null;
    this.choice = new LinkChoice(options.tabStorage ?? null);
    const isBelowTheBest = () => this.link !== null && !this.choice.isBest;
    this.climb = new LinkClimb(isBelowTheBest, () => this.tryBetter(), options.random);
    this.pause = new WakeableWait();
    this.stopped = false;
    this.attempt = 0;
    this.openedAt = 0;
    this.renewToken = false;
  }

  async run() {
    while (!this.stopped) {
      const end = await this.round().catch((error) => this.failed(error));
      this.climb.stop();
      this.link?.close();
      this.link = null;
      if (this.stopped) return;
      this.renewToken = end.why === "token";
      const isFirstDescent = this.state === "connecting" && this.goesDown;
      if (!isFirstDescent) this.setState(this.hasNetwork() ? "reconnecting" : "offline");
      if (this.goesDown) continue; // the next round finds out whether it is blocked
      const isRoutine = end.why === "token" && this.attempt === 0;
      if (!isRoutine) await this.pause.for(retryDelayMs(this.attempt, this.options.random));
      this.attempt += 1;
    }
  }

  /**
   * From the token to the end of the link, or of the last one that took over from it.
   *
   * @returns {Promise<LinkEnd>}
   */
  async round() {
    const session = await this.session();
    this.choice.serverAnswered();
    await this.options.onSession(session);
    const link = await this.open(this.choice.kind, session, OPEN_MS_MAX).catch((error) => this.neverOpened(error));
    this.openedAt = Date.now();
    try {
      await this.options.onOpened(link);
      this.link = link;
      this.choice.opened();
      await this.options.onConnected();
    } catch (error) {
      link.close();
      if (error instanceof LinkClosed) this.choice.ended(error.end, Date.now() - this.openedAt);
      throw error;
    }
    this.setState("online");
    this.climb.schedule();
    return this.lastEnd(link);
  }

  get goesDown() {
    return this.choice.isDoubtful && !this.choice.isLast;
  }

  /** @returns {Promise<Session>} */
  async session() {
    const { api } = this.options;
    try {
      if (this.renewToken) await api.tokens.token(true);
      return await api.session();
    } catch (error) {
      this.choice.serverAway();
      throw error;
    }
  }

  /**
   * @param {LinkKind} kind
   * @param {Session} session
   * @param {number} openMs
   * @returns {Promise<Link>} rejects with `LinkClosed`
   */
  async open(kind, session, openMs) {
    const { api, hooks, clientId } = this.options;
    const openSocket = this.options.openSocket ?? ((url, protocol) => new WebSocket(url, protocol));
    try {
      const link = await OPEN[kind]({ api, session, hooks, clientId, openMs, openSocket });
      if (this.stopped) link.close();
      return link;
    } catch (error) {
      if (error instanceof LinkClosed) throw error;
      throw new LinkClosed({ why: "lost", reason: String(error) }); // the browser does not even let it try
    }
  }

  /**
   * @param {LinkClosed} error
   * @returns {never}
   */
  neverOpened(error) {
    this.choice.ended(error.end, null);
    throw error;
  }

  /**
   * @param {Link} link
   * @returns {Promise<LinkEnd>} of the one that is in use then
   */
  async lastEnd(link) {
    const end = await link.ended;
    if (this.link !== null && this.link !== link) return this.lastEnd(this.link);
    const livedMs = Date.now() - this.openedAt;
    if (livedMs > STABLE_MS) this.attempt = 0;
    this.choice.ended(end, livedMs);
    return end;
  }

  /** Opens a link of a better kind beside the one in use, and goes over to it. */
  async tryBetter() {
    for (const kind of this.choice.better()) {
      const inUse = this.link;
      if (inUse === null) return;
      const session = await this.options.api.session().catch(() => null);
      const link = session && (await this.open(kind, session, CLIMB_OPEN_MS_MAX).catch(() => null));
      if (link && (await this.takeOver(link, inUse))) return;
    }
  }

  /**
   * @param {Link} link
   * @param {Link} inUse
   * @returns {Promise<boolean>} whether it has
   */
  async takeOver(link, inUse) {
    const resumed = await this.options.onOpened(link).then(
      () => true,
      () => false,
    );
    if (!resumed || this.link !== inUse) {
      link.close();
      return false;
    }
    this.link = link;
    this.openedAt = Date.now();
    this.choice.climbed(link.kind);
    inUse.close();
    this.options.onState();
    await this.options.onConnected().catch(() => link.close());
    return true;
  }

  /**
   * @param {unknown} error
   * @returns {LinkEnd}
   */
  failed(error) {
    if (error instanceof SignedOut) this.signOut(error);
    return error instanceof LinkClosed ? error.end : { why: "server", reason: String(error) };
  }

  /** @param {SignedOut} error */
  signOut(error) {
    if (this.stopped) return;
    this.stop();
    this.options.onSignedOut(error.why);
  }

  /** The network or the user is back: connect now, or find out whether the link still lives and a better one does. */
  wake() {
    this.pause.wake?.();
    this.link?.probe();
    this.climb.tryNow();
  }

  /** The network's state changed: shows it while there is no link. */
  networkChanged() {
    if (this.state === "reconnecting" || this.state === "offline")
      this.setState(this.hasNetwork() ? "reconnecting" : "offline");
    this.wake();
  }

  /** Ends the link; the next round resumes. */
  drop() {
    this.link?.close();
  }

  stop() {
    this.stopped = true;
    this.climb.stop();
    this.pause.wake?.();
    this.drop();
  }

  hasNetwork() {
    return (this.options.hasNetwork ?? (() => navigator.onLine))();
  }

  /** @param {ConnectionState} state */
  setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.options.onState();
  }
}

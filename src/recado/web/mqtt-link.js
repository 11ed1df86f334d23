// @ts-check
/**
 * Keeps one MQTT connection to Recado alive for as long as the page wants it.
 *
 * Each round asks for the session anew (URLs and a valid token), connects, lets the owner resume in `onConnected`, and
 * waits for the end. Between rounds it waits with backoff, but not after the token's own end: that is routine, and the
 * next round has a new token. Only a missing token ends the loop.
 */

import { WakeableWait, retryDelayMs } from "./backoff.js";
import { SignedOut } from "./http-api.js";
import { MqttClosed, connectMqtt } from "./mqtt.js";

/** @import {MqttConnection, MqttEnd} from "./mqtt.js" */
/** @import {HttpApi, Session} from "./http-api.js" */

const STABLE_MS = 5_000;
const BAD_USER_NAME_OR_PASSWORD = 0x86;
const NOT_AUTHORIZED = 0x87;
const MAXIMUM_CONNECT_TIME = 0xa0;

/**
 * @typedef {"connecting" | "online" | "reconnecting" | "offline"} ConnectionState
 *
 * @typedef {object} LinkOptions
 * @property {HttpApi} api
 * @property {string} clientId
 * @property {(session: Session) => Promise<void>} onSession before connecting
 * @property {(connection: MqttConnection) => Promise<void>} onConnected the link is online once this resolved
 * @property {(topicName: string, payload: Uint8Array) => void} onPublish
 * @property {(state: ConnectionState) => void} onState
 * @property {(why: SignedOut["why"]) => void} onSignedOut
 * @property {(url: string, protocol: string) => WebSocket} [openSocket]
 * @property {() => boolean} [hasNetwork]
 * @property {() => number} [random]
 */

export class MqttLink {
  /** @param {LinkOptions} options */
  constructor(options) {
    this.options = options;
    /** @type {ConnectionState} */
    this.state = "connecting";
    /** @type {MqttConnection | null} */
    this.connection = null;
    this.pause = new WakeableWait();
    this.stopped = false;
    this.attempt = 0;
    this.renewToken = false;
  }

  async run() {
    while (!this.stopped) {
      const startedAt = Date.now();
      const end = await this.round().catch((error) => this.failed(error));
      this.connection?.close();
      this.connection = null;
      if (this.stopped) return;
      this.attempt = Date.now() - startedAt > STABLE_MS && this.state === "online" ? 0 : this.attempt;
      this.renewToken = [BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED, MAXIMUM_CONNECT_TIME].includes(end.reasonCode);
      this.setState(this.hasNetwork() ? "reconnecting" : "offline");
      const routine = end.reasonCode === MAXIMUM_CONNECT_TIME && this.attempt === 0;
      if (!routine) await this.pause.for(retryDelayMs(this.attempt, this.options.random));
      this.attempt += 1;
    }
  }

  /**
   * One connection, from the token to its end.
   *
   * @returns {Promise<MqttEnd>}
   */
  async round() {
    const { api, clientId, onSession, onConnected, onPublish, openSocket } = this.options;
    if (this.renewToken) await api.tokens.token(true);
    const session = await api.session();
    await onSession(session);
    const { ws_url: url, username, password } = session.mqtt;
    /** @type {(end: MqttEnd) => void} */
    let onClose = () => {};
    const ended = new Promise((/** @type {(end: MqttEnd) => void} */ resolve) => (onClose = resolve));
    this.connection = await connectMqtt({ url, clientId, username, password, onPublish, onClose, openSocket });
    if (this.stopped) this.connection.close();
    await onConnected(this.connection);
    if (!this.connection.ended) this.setState("online");
    return ended;
  }

  /**
   * @param {unknown} error
   * @returns {MqttEnd}
   */
  failed(error) {
    if (error instanceof SignedOut) this.signOut(error);
    else if (error instanceof MqttClosed) return { reasonCode: error.reasonCode, reason: error.message };
    return { reasonCode: 0, reason: String(error) };
  }

  /** @param {SignedOut} error */
  signOut(error) {
    if (this.stopped) return;
    this.stop();
    this.options.onSignedOut(error.why);
  }

  /** The network or the user is back: connect now, or find out whether the connection still lives. */
  wake() {
    this.pause.wake?.();
    this.connection?.probe();
  }

  /** The network's state changed: shows it while there is no connection. */
  networkChanged() {
    if (this.state === "reconnecting" || this.state === "offline")
      this.setState(this.hasNetwork() ? "reconnecting" : "offline");
    this.wake();
  }

  /** Ends the connection; the next round resumes. */
  drop() {
    this.connection?.close();
  }

  stop() {
    this.stopped = true;
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
    this.options.onState(state);
  }
}

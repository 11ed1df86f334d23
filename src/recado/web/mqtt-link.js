// @ts-check
/**
 * The best link: MQTT 5 over a WebSocket, with Recado itself. Everything goes over it, up and down, and its SUBSCRIBE
 * resumes each conversation from the seq that the page has (`after=<conversation>=<seq>`).
 */

import { LinkClosed } from "./link.js";
import { MqttError } from "./mqtt-codec.js";
import { MqttClosed, connectMqtt } from "./mqtt.js";
import { TopicTemplates } from "./topic-templates.js";

/** @import {Answer, Link, LinkEnd, LinkHooks, LinkOptions} from "./link.js" */
/** @import {MqttConnection, MqttEnd} from "./mqtt.js" */
/** @import {OutboxMessage} from "./outbox.js" */

const RESUMED_MAX = 200;
const ABOUT_THE_TOKEN = [0x86, 0x87, 0xa0]; // bad user name or password, not authorized, maximum connect time
/** A server that hangs up for one of these would do so again: the message is at fault, not the connection. */
const FATAL_TO_A_MESSAGE = [0x81, 0x82, 0x90, 0x95, 0x99];

/** @implements {Link} */
export class MqttLink {
  /** @param {LinkOptions} options */
  constructor(options) {
    const { subscribe, events, live, send } = options.session.mqtt.topics;
    this.options = options;
    this.kind = /** @type {const} */ ("mqtt");
    this.carriesSignals = true;
    this.filters = subscribe;
    this.topics = new TopicTemplates(events, live, send ?? "");
    this.onEnded = (/** @type {LinkEnd} */ _end) => {};
    /** @type {Promise<LinkEnd>} */
    this.ended = new Promise((resolve) => (this.onEnded = resolve));
    /** @type {MqttConnection | null} */
    this.connection = null;
  }

  /** Rejects with `LinkClosed`. */
  async open() {
    const { session, clientId, openMs, openSocket } = this.options;
    const { ws_url, username, password } = session.mqtt;
    this.connection = await connectMqtt({
      ...{ url: webSocketUrl(ws_url), clientId, username, password, openMs, openSocket },
      onPublish: (topicName, payload) => handOver(this.topics, topicName, payload, this.options.hooks),
      onClose: (end) => this.onEnded(linkEnd(end)),
    }).catch(rethrow);
  }

  /** @param {Array<[string, number]>} positions */
  async resume(positions) {
    const held = positions.slice(0, RESUMED_MAX);
    const after = held.map(([id, seq]) => /** @type {[string, string]} */ (["after", `${id}=${seq}`]));
    await subscribe(this.connected, this.filters, after).catch(rethrow);
    return held.map(([id]) => id);
  }

  /**
   * @param {OutboxMessage} message
   * @returns {Promise<Answer>} rejects with `LinkClosed`
   */
  async send({ id, conversation, body }) {
    try {
      return await this.connected.publish(this.topics.send(conversation), JSON.stringify({ id, body }), 1);
    } catch (error) {
      const isAtFault = error instanceof MqttClosed && FATAL_TO_A_MESSAGE.includes(error.reasonCode);
      if (error instanceof MqttError || isAtFault) return { reasonCode: error.reasonCode, reason: error.message };
      return rethrow(error);
    }
  }

  /** @param {string} id */
  typing(id) {
    this.connected.publish(this.topics.live(id), '{"type":"typing"}', 0).catch(() => {}); // it is lost with its link
  }

  /**
   * @param {string} id
   * @param {number} seq
   */
  read(id, seq) {
    return this.connected.publish(this.topics.live(id), JSON.stringify({ type: "read", seq }), 1);
  }

  acknowledge() {} // every PUBACK does

  probe() {
    this.connection?.probe();
  }

  close() {
    this.onEnded({ why: "closed", reason: "closed" });
    this.connection?.close();
  }

  get connected() {
    if (!this.connection) throw new LinkClosed({ why: "closed", reason: "the link is not open" });
    return this.connection;
  }
}

/**
 * @param {LinkOptions} options
 * @returns {Promise<Link>} rejects with `LinkClosed`
 */
export async function openMqtt(options) {
  const link = new MqttLink(options);
  await link.open();
  return link;
}

/**
 * Where MQTT is; rejects with `LinkClosed` where it is off.
 *
 * @param {string | null} url
 */
export function webSocketUrl(url) {
  if (url === null) throw new LinkClosed({ why: "lost", reason: "MQTT is not offered over a WebSocket" });
  return url;
}

/**
 * @param {MqttConnection} connection
 * @param {string[]} filters
 * @param {Array<[string, string]>} [userProperties]
 * @returns {Promise<void>} rejects with `LinkClosed` if one of them is refused
 */
export async function subscribe(connection, filters, userProperties) {
  const subscriptions = filters.map((topicFilter) => {
    return { topicFilter, qos: /** @type {0 | 1} */ (topicFilter.endsWith("/live") ? 0 : 1) };
  });
  const reasonCodes = await connection.subscribe(subscriptions, userProperties);
  const refused = reasonCodes.find((code) => code >= 0x80);
  const reason = `subscription refused: 0x${refused?.toString(16)}`;
  if (refused !== undefined) throw new LinkClosed({ why: "server", reason });
}

/**
 * What was published, to whom it may concern; what is nobody's is passed over.
 *
 * @param {TopicTemplates} topics
 * @param {string} topicName
 * @param {Uint8Array} payload
 * @param {LinkHooks} hooks
 */
export function handOver(topics, topicName, payload, { onEvent, onSignal }) {
  const { id, live } = topics.match(topicName) ?? {};
  const content = id === undefined ? null : parsed(payload);
  if (id === undefined || content === null) return;
  if (live) onSignal(id, content);
  else onEvent(id, content);
}

/**
 * @param {MqttEnd} end
 * @returns {LinkEnd}
 */
function linkEnd({ reasonCode, reason }) {
  if (ABOUT_THE_TOKEN.includes(reasonCode)) return { why: "token", reason };
  return { why: reasonCode === 0 ? "lost" : "server", reason };
}

/**
 * @param {unknown} error
 * @returns {never}
 */
function rethrow(error) {
  if (error instanceof MqttClosed)
    throw new LinkClosed(linkEnd({ reasonCode: error.reasonCode, reason: error.message }));
  throw error;
}

/** @param {Uint8Array} payload */
function parsed(payload) {
  try {
    const value = JSON.parse(new TextDecoder().decode(payload));
    return typeof value === "object" && value !== null ? value : null;
  } catch {
    return null;
  }
}

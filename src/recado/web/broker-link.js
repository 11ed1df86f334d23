// @ts-check
/**
 * The best link where MQTT comes from an external broker: what happens comes over MQTT, under topics that only this
 * user reads, and everything goes up over HTTP.
 *
 * That broker keeps nothing for the page and knows no `after`: what came before the subscription, or was lost on the
 * way, is read from the log. Nor does it tell Recado what has arrived: the link says so, a few times a second at most.
 * A broker that does not let the user in counts as one that is out of reach, for Recado itself just did.
 */

import { DeliveryReports } from "./delivery-reports.js";
import { HttpLink } from "./http-link.js";
import { UNSUPPORTED_VERSION } from "./mqtt-codec.js";
import { MqttClosed, connectMqtt } from "./mqtt.js";
import { handOver, subscribe, webSocketUrl } from "./mqtt-link.js";
import { randomId } from "./outbox.js";
import { TopicTemplates } from "./topic-templates.js";

/** @import {ChatEvent} from "./http-api.js" */
/** @import {Link, LinkEnd, LinkOptions} from "./link.js" */
/** @import {Version} from "./mqtt-fields.js" */
/** @import {MqttConnection, MqttEnd} from "./mqtt.js" */
/** @import {OutboxMessage} from "./outbox.js" */

/** Brokers that hung up on MQTT 5 and took 3.1.1, for as long as the page lives. @type {Set<string>} */
const olderBrokers = new Set();

/** @implements {Link} */
class BrokerLink extends HttpLink {
  /** @param {LinkOptions} options */
  constructor(options) {
    super("mqtt", options);
    const { subscribe: filters, events, live } = options.session.mqtt.topics;
    this.options = options;
    this.filters = filters;
    this.topics = new TopicTemplates(events, live, "");
    this.reports = new DeliveryReports((id, seq) => this.api.reportDelivered(id, seq));
    /** @type {MqttConnection | null} */
    this.connection = null;
  }

  /** @override */
  async begin() {
    const url = webSocketUrl(this.options.session.mqtt.ws_url);
    const isOlder = olderBrokers.has(url);
    const connection = await this.connect(url, isOlder ? 4 : 5).catch((error) => {
      if (isOlder || !mayBeOlder(error)) throw error;
      return this.connect(url, 4);
    });
    if (connection.version === 4) olderBrokers.add(url);
    if (this.isOver) connection.close();
    this.connection = connection;
  }

  /**
   * @param {string} url
   * @param {Version} version
   */
  connect(url, version) {
    const { session, openMs, openSocket, hooks } = this.options;
    const { username, password } = session.mqtt;
    // The user's name, or RabbitMQ's users could take over each other's; then another one for each connection, so that
    // a cluster need not agree on who follows a connection that has gone.
    const clientId = `${username}.${randomId()}`;
    return connectMqtt({
      ...{ url, version, clientId, username, password, openMs, openSocket },
      onPublish: (topicName, payload) => this.isOver || handOver(this.topics, topicName, payload, hooks),
      onClose: (end) => this.end(endOfConnection(end)),
    });
  }

  /** @override */
  async resume() {
    const { connection } = this;
    if (connection) await this.unlessEnded(subscribe(connection, this.filters).catch((error) => this.failed(error)));
    return super.resume();
  }

  /**
   * The answer has the event: it is here even if the broker never brings it.
   *
   * @override
   * @param {OutboxMessage} message
   * @param {ChatEvent} event
   */
  sent({ conversation }, event) {
    this.options.hooks.onEvent(conversation, event);
  }

  /**
   * @override
   * @param {string} id
   * @param {number} seq
   */
  acknowledge(id, seq) {
    this.reports.add(id, seq);
  }

  /** @override */
  probe() {
    this.connection?.probe();
  }

  /** @override @param {unknown} error */
  failed(error) {
    if (error instanceof MqttClosed) this.end({ why: "lost", reason: error.message });
    else super.failed(error);
  }

  /** @override */
  release() {
    this.reports.stop();
    this.connection?.close();
  }
}

/**
 * @param {LinkOptions} options
 * @returns {Promise<Link>} rejects with `LinkClosed`
 */
export async function openBroker(options) {
  const link = new BrokerLink(options);
  await link.open();
  return link;
}

/**
 * Whether it may be MQTT 5 that the other end does not know: some say so, some break off in the middle of a CONNECT.
 *
 * @param {unknown} error
 */
function mayBeOlder(error) {
  return error instanceof MqttClosed && (error.unanswered || error.reasonCode === UNSUPPORTED_VERSION);
}

/**
 * @param {MqttEnd} end
 * @returns {LinkEnd}
 */
function endOfConnection({ reasonCode, reason }) {
  return { why: reasonCode === 0 ? "lost" : "server", reason };
}

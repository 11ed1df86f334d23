// @ts-check
/**
 * One MQTT connection over one WebSocket, from CONNECT to its end: of MQTT 5, or of 3.1.1 for who knows no better.
 *
 * `connectMqtt` resolves once the server accepted, and `onClose` is then called exactly once, whatever ended the
 * connection. Nothing outlives it: what still waits for an acknowledgement is rejected with `MqttClosed`, and whoever
 * reconnects decides what to send again. Every wait has a time limit, so a dead network shows as a closed connection.
 */

import { MALFORMED_PACKET, MqttError, PACKET_TOO_LARGE, PacketReader, PROTOCOL_ERROR, encode } from "./mqtt-codec.js";

/** @import {ConnackPacket, Packet, PublishPacket, Subscription} from "./mqtt-codec.js" */
/** @import {Properties, Version} from "./mqtt-fields.js" */

const ANSWER_MS_MAX = 10_000;
const PROBE_MS_MAX = 3_000;
const TOPIC_ALIAS_MAX = 64;
const RECEIVE_MAX = 256;
const TOPIC_ALIAS_INVALID = 0x94;
const OPEN = 1; // of WebSocket.readyState

/**
 * @typedef {object} MqttOptions
 * @property {string} url
 * @property {string} clientId
 * @property {string} [username]
 * @property {string} [password]
 * @property {Version} [version] 5 unless told
 * @property {number} [keepAliveS] 60 unless told; a hidden page's timers fire once a minute, so less would drop it
 * @property {(topicName: string, payload: Uint8Array, packet: PublishPacket) => void} onPublish
 * @property {(end: MqttEnd) => void} onClose
 * @property {number} [openMs] how long the server may take to accept, 10,000 unless told
 * @property {(url: string, protocol: string) => WebSocket} [openSocket]
 *
 * @typedef {object} MqttEnd why a connection ended
 * @property {number} reasonCode the server's DISCONNECT, CONNACK or our own reason; 0 if the socket just closed
 * @property {string} reason
 * @property {boolean} [unanswered] whether the other end hung up on a CONNECT, without an answer to it
 */

/** What a wait on a connection is rejected with when the connection ends first. */
export class MqttClosed extends Error {
  /** @param {MqttEnd} end */
  constructor(end) {
    super(end.reason);
    this.name = "MqttClosed";
    this.reasonCode = end.reasonCode;
    this.unanswered = end.unanswered === true;
  }
}

/** @type {Record<number, string>} */
const REASONS = {
  0x00: "success",
  0x80: "unspecified error",
  0x81: "malformed packet",
  0x82: "protocol error",
  0x83: "implementation specific error",
  0x84: "unsupported protocol version",
  0x85: "client identifier not valid",
  0x86: "bad user name or password",
  0x87: "not authorized",
  0x88: "server unavailable",
  0x89: "server busy",
  0x8b: "server shutting down",
  0x8d: "keep alive timeout",
  0x8e: "session taken over",
  0x8f: "topic filter invalid",
  0x90: "topic name invalid",
  0x93: "receive maximum exceeded",
  0x94: "topic alias invalid",
  0x95: "packet too large",
  0x96: "message rate too high",
  0x97: "quota exceeded",
  0x98: "administrative action",
  0x99: "payload format invalid",
  0x9a: "retain not supported",
  0x9b: "QoS not supported",
  0x9c: "use another server",
  0x9d: "server moved",
  0x9f: "connection rate exceeded",
  0xa0: "maximum connect time",
};

/**
 * A reason in words: the server's own if it gave one.
 *
 * @param {number} reasonCode
 * @param {Properties} [properties]
 */
export function reasonText(reasonCode, properties) {
  return properties?.reasonString || (REASONS[reasonCode] ?? `reason code 0x${reasonCode.toString(16)}`);
}

/** @typedef {{reasonCodes: number[], reason: string}} Answer */
/** @typedef {ReturnType<typeof setTimeout>} Timer */
/** @typedef {{settle: (answer: Answer) => void, fail: (error: Error) => void, timer: Timer}} Wait */

export class MqttConnection {
  /**
   * Use `connectMqtt`.
   *
   * @param {MqttOptions} options
   * @param {(connection: MqttConnection) => void} onAccepted
   */
  constructor(options, onAccepted) {
    this.options = options;
    this.onAccepted = onAccepted;
    this.version = options.version ?? 5;
    this.reader = new PacketReader(this.version);
    this.keepAliveS = options.keepAliveS ?? 60;
    this.packetBytesMax = Infinity;
    this.sendQuota = 65_535;
    this.nextPacketId = 1;
    this.saidConnect = false;
    this.accepted = false;
    this.ended = false;
    /** @type {Map<number, string>} */
    this.topicByAlias = new Map();
    /** @type {Map<number, Wait>} */
    this.waits = new Map();
    /** @type {Array<() => void>} QoS 1 publishes that wait for the server's Receive Maximum */
    this.blocked = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.pingTimer = undefined;
    this.socket = (options.openSocket ?? ((url, protocol) => new WebSocket(url, protocol)))(options.url, "mqtt");
    this.answerTimer = setTimeout(() => this.end(0, "the server did not answer"), options.openMs ?? ANSWER_MS_MAX);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.sendConnect();
    this.socket.onmessage = (frame) => this.receive(frame.data);
    this.socket.onclose = () => this.end(0, "the connection was lost", undefined, this.saidConnect && !this.accepted);
  }

  /**
   * @param {Subscription[]} subscriptions
   * @param {Array<[string, string]>} [userProperties]
   * @returns {Promise<number[]>} one reason code per subscription; 0x80 and more is a refusal
   */
  async subscribe(subscriptions, userProperties) {
    const packetId = this.takePacketId();
    const properties = userProperties?.length ? { userProperties } : {};
    const answer = this.waitFor(packetId);
    this.sendOrFail(packetId, { type: "subscribe", packetId, properties, subscriptions });
    return (await answer).reasonCodes;
  }

  /**
   * @param {string} topicName
   * @param {string} payload
   * @param {0 | 1} qos
   * @returns {Promise<{reasonCode: number, reason: string}>} PUBACK's reason code; 0 at once at QoS 0
   */
  async publish(topicName, payload, qos) {
    const bytes = new TextEncoder().encode(payload);
    if (qos === 0) {
      this.send({ type: "publish", qos, topicName, payload: bytes });
      return { reasonCode: 0, reason: "" };
    }
    await this.quota();
    const packetId = this.takePacketId();
    const answer = this.waitFor(packetId);
    this.sendOrFail(packetId, { type: "publish", qos, topicName, packetId, payload: bytes });
    const { reasonCodes, reason } = await answer;
    return { reasonCode: reasonCodes[0] ?? 0, reason };
  }

  /** Asks the server for a sign of life; a connection that has died meanwhile ends within seconds. */
  probe() {
    if (this.accepted && !this.ended) this.ping(PROBE_MS_MAX);
  }

  /** Says goodbye and ends the connection. */
  close() {
    this.end(0, "closed", { type: "disconnect", reasonCode: 0 });
  }

  sendConnect() {
    const { clientId, username, password } = this.options;
    this.saidConnect = true;
    const properties = { sessionExpiryInterval: 0, receiveMaximum: RECEIVE_MAX, topicAliasMaximum: TOPIC_ALIAS_MAX };
    const { keepAliveS } = this;
    this.send({ type: "connect", cleanStart: true, keepAliveS, clientId, username, password, properties });
  }

  /** @param {unknown} data a WebSocket frame's payload */
  receive(data) {
    if (this.ended) return;
    try {
      if (!(data instanceof ArrayBuffer)) throw new MqttError(MALFORMED_PACKET, "a text frame");
      for (const packet of this.reader.push(new Uint8Array(data))) {
        if (this.ended) return;
        this.handle(packet);
      }
    } catch (error) {
      if (!(error instanceof MqttError)) throw error;
      this.end(error.reasonCode, error.message, { type: "disconnect", reasonCode: error.reasonCode });
    }
  }

  /** @param {Packet} packet */
  handle(packet) {
    if (packet.type === "connack") return this.handleConnack(packet);
    if (!this.accepted) throw new MqttError(PROTOCOL_ERROR, `a ${packet.type} before CONNACK`);
    switch (packet.type) {
      case "publish":
        return this.handlePublish(packet);
      case "puback":
        this.sendQuota += 1;
        this.settle(packet.packetId, [packet.reasonCode], reasonText(packet.reasonCode, packet.properties));
        return this.blocked.shift()?.();
      case "suback":
        return this.settle(packet.packetId, packet.reasonCodes, packet.properties?.reasonString ?? "");
      case "pingresp":
        return clearTimeout(this.answerTimer);
      case "disconnect":
        return this.end(packet.reasonCode, reasonText(packet.reasonCode, packet.properties));
      default:
        throw new MqttError(PROTOCOL_ERROR, `a ${packet.type} from the server`);
    }
  }

  /** @param {ConnackPacket} packet */
  handleConnack({ reasonCode, properties = {} }) {
    if (this.accepted) throw new MqttError(PROTOCOL_ERROR, "a second CONNACK");
    clearTimeout(this.answerTimer);
    if (reasonCode >= 0x80) return this.end(reasonCode, reasonText(reasonCode, properties));
    this.accepted = true;
    this.keepAliveS = properties.serverKeepAlive ?? this.keepAliveS; // [MQTT5-3.1.2-21]
    this.sendQuota = properties.receiveMaximum ?? this.sendQuota;
    this.packetBytesMax = properties.maximumPacketSize ?? this.packetBytesMax;
    this.schedulePing();
    this.onAccepted(this);
  }

  /** @param {PublishPacket} packet */
  handlePublish(packet) {
    const { qos, packetId } = packet;
    if (qos > 1) throw new MqttError(0x9b, "a PUBLISH at QoS 2"); // no subscription of ours asks for more than 1
    this.options.onPublish(this.topicOf(packet), packet.payload, packet);
    if (qos === 1 && packetId !== undefined && !this.ended) this.send({ type: "puback", packetId, reasonCode: 0 });
  }

  /** @param {PublishPacket} packet */
  topicOf({ topicName, properties }) {
    const alias = properties?.topicAlias;
    if (alias === undefined) return topicName;
    if (alias < 1 || alias > TOPIC_ALIAS_MAX) throw new MqttError(TOPIC_ALIAS_INVALID, `topic alias ${alias}`);
    if (topicName !== "") this.topicByAlias.set(alias, topicName);
    const known = this.topicByAlias.get(alias);
    if (known === undefined) throw new MqttError(PROTOCOL_ERROR, `topic alias ${alias} stands for nothing`);
    return known;
  }

  takePacketId() {
    while (this.waits.has(this.nextPacketId)) this.nextPacketId = (this.nextPacketId % 65_535) + 1;
    const packetId = this.nextPacketId;
    this.nextPacketId = (packetId % 65_535) + 1;
    return packetId;
  }

  /** Waits until the server's Receive Maximum allows one more QoS 1 publish. */
  async quota() {
    if (this.ended) throw new MqttClosed({ reasonCode: 0, reason: "the connection is closed" });
    if (this.sendQuota === 0) await new Promise((resolve) => this.blocked.push(() => resolve(undefined)));
    if (this.ended) throw new MqttClosed({ reasonCode: 0, reason: "the connection is closed" });
    this.sendQuota -= 1;
  }

  /**
   * @param {number} packetId
   * @returns {Promise<Answer>}
   */
  waitFor(packetId) {
    return new Promise((settle, fail) => {
      const timer = setTimeout(() => this.end(0, "the server did not acknowledge"), ANSWER_MS_MAX);
      this.waits.set(packetId, { settle, fail, timer });
    });
  }

  /**
   * @param {number} packetId
   * @param {number[]} reasonCodes
   * @param {string} reason
   */
  settle(packetId, reasonCodes, reason) {
    const wait = this.waits.get(packetId);
    if (!wait) throw new MqttError(PROTOCOL_ERROR, `nothing waits for packet ${packetId}`);
    this.waits.delete(packetId);
    clearTimeout(wait.timer);
    wait.settle({ reasonCodes, reason });
  }

  /**
   * Sends what a wait is for; a packet that may not be sent fails that wait alone.
   *
   * @param {number} packetId
   * @param {Packet} packet
   */
  sendOrFail(packetId, packet) {
    try {
      this.send(packet);
    } catch (error) {
      const wait = this.waits.get(packetId);
      this.waits.delete(packetId);
      clearTimeout(wait?.timer);
      if (packet.type === "publish") this.sendQuota += 1;
      wait?.fail(/** @type {Error} */ (error));
    }
  }

  /** @param {Packet} packet */
  send(packet) {
    if (this.ended) throw new MqttClosed({ reasonCode: 0, reason: "the connection is closed" });
    const bytes = encode(packet, this.version);
    if (bytes.length > this.packetBytesMax) throw new MqttError(PACKET_TOO_LARGE, "too large for the server");
    this.socket.send(bytes);
    if (this.accepted) this.schedulePing();
  }

  /** The next PINGREQ: after three quarters of the keep alive without anything sent. */
  schedulePing() {
    clearTimeout(this.pingTimer);
    if (this.keepAliveS > 0) this.pingTimer = setTimeout(() => this.ping(ANSWER_MS_MAX), this.keepAliveS * 750);
  }

  /** @param {number} answerMs */
  ping(answerMs) {
    clearTimeout(this.answerTimer);
    this.answerTimer = setTimeout(() => this.end(0, "the server stopped answering"), answerMs);
    this.send({ type: "pingreq" });
  }

  /**
   * @param {number} reasonCode
   * @param {string} reason
   * @param {Packet} [farewell]
   * @param {boolean} [unanswered]
   */
  end(reasonCode, reason, farewell, unanswered) {
    if (this.ended) return;
    if (farewell && this.socket.readyState === OPEN) this.socket.send(encode(farewell, this.version));
    this.ended = true;
    clearTimeout(this.answerTimer);
    clearTimeout(this.pingTimer);
    this.socket.onclose = this.socket.onmessage = this.socket.onopen = null;
    this.socket.close();
    const end = unanswered ? { reasonCode, reason, unanswered } : { reasonCode, reason };
    for (const wait of this.waits.values()) {
      clearTimeout(wait.timer);
      wait.fail(new MqttClosed(end));
    }
    this.waits.clear();
    for (const release of this.blocked.splice(0)) release();
    this.options.onClose(end);
  }
}

/**
 * Opens a connection. Rejects with `MqttClosed` if the server cannot be reached or refuses; `onClose` is called only
 * for a connection that was accepted.
 *
 * @param {MqttOptions} options
 * @returns {Promise<MqttConnection>}
 */
export function connectMqtt(options) {
  return new Promise((resolve, reject) => {
    let accepted = false;
    const onClose = (/** @type {MqttEnd} */ end) => (accepted ? options.onClose(end) : reject(new MqttClosed(end)));
    new MqttConnection({ ...options, onClose }, (connection) => {
      accepted = true;
      resolve(connection);
    });
  });
}

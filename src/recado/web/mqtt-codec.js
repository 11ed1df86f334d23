// @ts-check
/**
 * The packets of MQTT 5 and 3.1.1 as bytes, both ways: sans-I/O, so no socket, no clock, no randomness.
 *
 * `encode(packet)` gives a packet's bytes; a `PacketReader` takes bytes in whatever pieces a WebSocket's frames
 * cut them into and gives whole packets. Both know the packets of QoS 0 and 1. What is not MQTT is an `MqttError`
 * that carries the reason code to send in DISCONNECT. A packet has the shape of MQTT 5 in either version: 3.1.1 has no
 * properties and fewer reason codes, and its CONNACK is read as MQTT 5 would say it.
 */

import {
  MALFORMED_PACKET,
  MqttError,
  PACKET_TOO_LARGE,
  PROTOCOL_ERROR,
  Reader,
  UNSUPPORTED_VERSION,
  Writer,
  readProperties,
  writeProperties,
} from "./mqtt-fields.js";

export { MALFORMED_PACKET, MqttError, PACKET_TOO_LARGE, PROTOCOL_ERROR, UNSUPPORTED_VERSION };

/** @import {Properties, Version} from "./mqtt-fields.js" */

/**
 * @typedef {{topicFilter: string, qos: number, noLocal?: boolean}} Subscription
 * @typedef {{type: "connect", cleanStart: boolean, keepAliveS: number, clientId: string, username?: string,
 *   password?: string, properties?: Properties}} ConnectPacket
 * @typedef {{type: "connack", sessionPresent: boolean, reasonCode: number, properties?: Properties}} ConnackPacket
 * @typedef {{type: "publish", dup?: boolean, qos: number, retain?: boolean, topicName: string, packetId?: number,
 *   properties?: Properties, payload: Uint8Array}} PublishPacket
 * @typedef {{type: "puback", packetId: number, reasonCode: number, properties?: Properties}} PubackPacket
 * @typedef {{type: "subscribe", packetId: number, properties?: Properties,
 *   subscriptions: Subscription[]}} SubscribePacket
 * @typedef {{type: "suback", packetId: number, properties?: Properties, reasonCodes: number[]}} SubackPacket
 * @typedef {{type: "pingreq"} | {type: "pingresp"}} PingPacket
 * @typedef {{type: "disconnect", reasonCode: number, properties?: Properties}} DisconnectPacket
 * @typedef {ConnectPacket | ConnackPacket | PublishPacket | PubackPacket | SubscribePacket | SubackPacket | PingPacket
 *   | DisconnectPacket} Packet
 */

const TYPES = /** @type {const} */ ({
  connect: 1,
  connack: 2,
  publish: 3,
  puback: 4,
  subscribe: 8,
  suback: 9,
  pingreq: 12,
  pingresp: 13,
  disconnect: 14,
});

/** What MQTT 5 calls the return codes of 3.1.1's CONNACK, from 0 on (3.1.1, section 3.2.2.3). */
const RETURN_CODES = [0x00, UNSUPPORTED_VERSION, 0x85, 0x88, 0x86, 0x87];

const REMAINING_LENGTH_MAX = 268_435_455;

/** @type {{[T in Packet["type"]]: (packet: Extract<Packet, {type: T}>, out: Writer) => void}} */
const WRITE = {
  connect(packet, out) {
    out.text("MQTT");
    out.byte(out.version);
    const { username, password } = packet;
    out.byte((username === undefined ? 0 : 0x80) | (password === undefined ? 0 : 0x40) | (packet.cleanStart ? 2 : 0));
    out.two(packet.keepAliveS);
    writeProperties(out, packet.properties);
    out.text(packet.clientId);
    if (username !== undefined) out.text(username);
    if (password !== undefined) out.text(password);
  },
  connack(packet, out) {
    out.byte(packet.sessionPresent ? 1 : 0);
    out.byte(packet.reasonCode);
    writeProperties(out, packet.properties);
  },
  publish(packet, out) {
    out.text(packet.topicName);
    if (packet.qos > 0) out.two(packet.packetId ?? 0);
    writeProperties(out, packet.properties);
    out.raw(packet.payload);
  },
  puback(packet, out) {
    out.two(packet.packetId);
    if (out.version < 5 || (packet.reasonCode === 0 && !packet.properties)) return;
    out.byte(packet.reasonCode);
    if (packet.properties) writeProperties(out, packet.properties);
  },
  subscribe(packet, out) {
    out.two(packet.packetId);
    writeProperties(out, packet.properties);
    for (const { topicFilter, qos, noLocal } of packet.subscriptions) {
      out.text(topicFilter);
      out.byte(qos | (noLocal ? 4 : 0));
    }
  },
  suback(packet, out) {
    out.two(packet.packetId);
    writeProperties(out, packet.properties);
    out.raw(packet.reasonCodes);
  },
  pingreq() {},
  pingresp() {},
  disconnect(packet, out) {
    if (out.version < 5 || (packet.reasonCode === 0 && !packet.properties)) return;
    out.byte(packet.reasonCode);
    if (packet.properties) writeProperties(out, packet.properties);
  },
};

/**
 * The bytes of one packet.
 *
 * @param {Packet} packet
 * @param {Version} [version]
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encode(packet, version = 5) {
  const body = new Writer(version);
  /** @type {(packet: Packet, out: Writer) => void} */ (WRITE[packet.type])(packet, body);
  if (body.bytes.length > REMAINING_LENGTH_MAX) throw new MqttError(PACKET_TOO_LARGE, "a packet is over 256 MB");
  const head = new Writer();
  head.byte((TYPES[packet.type] << 4) | flagsOf(packet));
  head.varint(body.bytes.length);
  const bytes = new Uint8Array(head.bytes.length + body.bytes.length);
  bytes.set(head.bytes);
  bytes.set(body.bytes, head.bytes.length);
  return bytes;
}

/** @param {Packet} packet */
function flagsOf(packet) {
  if (packet.type === "publish") return (packet.dup ? 8 : 0) | (packet.qos << 1) | (packet.retain ? 1 : 0);
  return packet.type === "subscribe" ? 2 : 0; // [MQTT5-3.8.1-1]
}

/** @type {{[T in Packet["type"]]: (from: Reader, flags: number) => Packet}} */
const READ = {
  connect(from) {
    if (from.text() !== "MQTT" || from.byte() !== from.version)
      throw new MqttError(UNSUPPORTED_VERSION, "this is another version of MQTT");
    const flags = from.byte();
    const keepAliveS = from.two();
    const properties = readProperties(from);
    const clientId = from.text();
    const username = flags & 0x80 ? from.text() : undefined;
    const password = flags & 0x40 ? from.text() : undefined;
    return { type: "connect", cleanStart: (flags & 2) > 0, keepAliveS, clientId, username, password, properties };
  },
  connack(from) {
    const sessionPresent = (from.byte() & 1) > 0;
    const code = from.byte();
    const isOlder = from.version < 5 || from.left === 0; // who does not know 5 may say so in its own way
    const reasonCode = isOlder ? (RETURN_CODES[code] ?? MALFORMED_PACKET) : code;
    return { type: "connack", sessionPresent, reasonCode, properties: isOlder ? {} : readProperties(from) };
  },
  publish(from, flags) {
    const qos = (flags >> 1) & 3;
    if (qos === 3) throw new MqttError(MALFORMED_PACKET, "a PUBLISH says QoS 3"); // [MQTT5-3.3.1-4]
    const topicName = from.text();
    const packetId = qos > 0 ? from.two() : undefined;
    const properties = readProperties(from);
    const payload = from.raw(from.left).slice();
    return { type: "publish", dup: flags >= 8, qos, retain: flags % 2 > 0, topicName, packetId, properties, payload };
  },
  puback(from) {
    const packetId = from.two();
    const reasonCode = from.left > 0 ? from.byte() : 0;
    return { type: "puback", packetId, reasonCode, properties: from.left > 0 ? readProperties(from) : undefined };
  },
  subscribe(from) {
    const packetId = from.two();
    const properties = readProperties(from);
    /** @type {Subscription[]} */
    const subscriptions = [];
    while (from.left > 0) {
      const topicFilter = from.text();
      const options = from.byte();
      subscriptions.push({ topicFilter, qos: options & 3, noLocal: (options & 4) > 0 });
    }
    return { type: "subscribe", packetId, properties, subscriptions };
  },
  suback(from) {
    const packetId = from.two();
    const properties = readProperties(from);
    return { type: "suback", packetId, properties, reasonCodes: [...from.raw(from.left)] };
  },
  pingreq: () => ({ type: "pingreq" }),
  pingresp: () => ({ type: "pingresp" }),
  disconnect(from) {
    const reasonCode = from.left > 0 ? from.byte() : 0;
    return { type: "disconnect", reasonCode, properties: from.left > 0 ? readProperties(from) : undefined };
  },
};

const TYPE_BY_NUMBER = new Map(Object.entries(TYPES).map(([name, number]) => [/** @type {number} */ (number), name]));

/**
 * @param {number} first the fixed header's first byte
 * @param {Uint8Array} body
 * @param {Version} version
 * @returns {Packet}
 */
function decodePacket(first, body, version) {
  const name = /** @type {Packet["type"] | undefined} */ (TYPE_BY_NUMBER.get(first >> 4));
  if (!name) throw new MqttError(PROTOCOL_ERROR, `packet type ${first >> 4} was not asked for`);
  const flags = first & 0x0f;
  if (name !== "publish" && flags !== (name === "subscribe" ? 2 : 0))
    throw new MqttError(MALFORMED_PACKET, `a ${name} has the flags ${flags}`); // [MQTT5-2.1.3-1]
  const from = new Reader(body, version);
  const packet = READ[name](from, flags);
  if (from.left > 0) throw new MqttError(MALFORMED_PACKET, `a ${name} has ${from.left} bytes too many`);
  return packet;
}

/** Cuts a stream of bytes into packets. */
export class PacketReader {
  /**
   * @param {Version} [version]
   * @param {number} [packetBytesMax] a longer packet is refused as soon as its length is known
   */
  constructor(version = 5, packetBytesMax = 1_048_576) {
    this.version = version;
    this.packetBytesMax = packetBytesMax;
    this.held = new Uint8Array(0);
  }

  /**
   * Takes the next piece of the stream; gives the packets that are whole now, in order.
   *
   * @param {Uint8Array} bytes
   * @returns {Packet[]}
   */
  push(bytes) {
    this.held = this.held.length === 0 ? bytes.slice() : concatenated(this.held, bytes);
    /** @type {Packet[]} */
    const packets = [];
    let at = 0;
    for (let span = this.spanAt(at); span; span = this.spanAt(at)) {
      const body = this.held.subarray(span.start, span.end);
      packets.push(decodePacket(/** @type {number} */ (this.held[at]), body, this.version));
      at = span.end;
    }
    this.held = this.held.slice(at);
    return packets;
  }

  /**
   * Where the body of the packet at `at` starts and ends; null while it is not all here.
   *
   * @param {number} at
   */
  spanAt(at) {
    let length = 0;
    for (let i = 1; i <= 4; i++) {
      const byte = this.held[at + i];
      if (byte === undefined) return null;
      length |= (byte & 0x7f) << (7 * (i - 1));
      if (byte >= 0x80) continue;
      const start = at + i + 1;
      if (i + 1 + length > this.packetBytesMax) throw new MqttError(PACKET_TOO_LARGE, `a packet of ${length} bytes`);
      return start + length <= this.held.length ? { start, end: start + length } : null;
    }
    throw new MqttError(MALFORMED_PACKET, "a remaining length is longer than 4 bytes");
  }
}

/**
 * @param {Uint8Array} left
 * @param {Uint8Array} right
 */
function concatenated(left, right) {
  const both = new Uint8Array(left.length + right.length);
  both.set(left);
  both.set(right, left.length);
  return both;
}

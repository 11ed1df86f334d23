// @ts-check
/**
 * The MQTT 5 packets as bytes, both ways: sans-I/O, so no socket, no clock, no randomness.
 *
 * `encode(packet)` gives a packet's bytes; a `PacketReader` takes bytes in whatever pieces a WebSocket's frames
 * cut them into and gives whole packets. Both know the packets of QoS 0 and 1. What is not MQTT is an `MqttError`
 * that carries the reason code to send in DISCONNECT.
 */

/**
 * @typedef {object} Properties
 * @property {number} [payloadFormatIndicator]
 * @property {number} [messageExpiryInterval]
 * @property {string} [contentType]
 * @property {string} [responseTopic]
 * @property {Uint8Array} [correlationData]
 * @property {number} [subscriptionIdentifier]
 * @property {number} [sessionExpiryInterval]
 * @property {string} [assignedClientIdentifier]
 * @property {number} [serverKeepAlive]
 * @property {string} [authenticationMethod]
 * @property {Uint8Array} [authenticationData]
 * @property {number} [requestProblemInformation]
 * @property {number} [requestResponseInformation]
 * @property {string} [responseInformation]
 * @property {string} [serverReference]
 * @property {string} [reasonString]
 * @property {number} [receiveMaximum]
 * @property {number} [topicAliasMaximum]
 * @property {number} [topicAlias]
 * @property {number} [maximumQos]
 * @property {number} [retainAvailable]
 * @property {Array<[string, string]>} [userProperties]
 * @property {number} [maximumPacketSize]
 * @property {number} [wildcardSubscriptionAvailable]
 * @property {number} [subscriptionIdentifiersAvailable]
 * @property {number} [sharedSubscriptionAvailable]
 *
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

/** Bytes that break the protocol, or a packet that cannot be written. */
export class MqttError extends Error {
  /**
   * @param {number} reasonCode the MQTT 5 reason code, 0x80 or more
   * @param {string} message
   */
  constructor(reasonCode, message) {
    super(message);
    this.name = "MqttError";
    this.reasonCode = reasonCode;
  }
}

export const MALFORMED_PACKET = 0x81;
export const PROTOCOL_ERROR = 0x82;
export const PACKET_TOO_LARGE = 0x95;

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

/** @typedef {"byte" | "two" | "four" | "varint" | "binary" | "text" | "pair"} FieldKind */

/**
 * Identifier, name and kind of every MQTT 5 property MQTT 5.0 2.2.2.2.
 *
 * @type {Array<[number, keyof Properties, FieldKind]>}
 */
const PROPERTIES = [
  [0x01, "payloadFormatIndicator", "byte"],
  [0x02, "messageExpiryInterval", "four"],
  [0x03, "contentType", "text"],
  [0x08, "responseTopic", "text"],
  [0x09, "correlationData", "binary"],
  [0x0b, "subscriptionIdentifier", "varint"],
  [0x11, "sessionExpiryInterval", "four"],
  [0x12, "assignedClientIdentifier", "text"],
  [0x13, "serverKeepAlive", "two"],
  [0x15, "authenticationMethod", "text"],
  [0x16, "authenticationData", "binary"],
  [0x17, "requestProblemInformation", "byte"],
  [0x19, "requestResponseInformation", "byte"],
  [0x1a, "responseInformation", "text"],
  [0x1c, "serverReference", "text"],
  [0x1f, "reasonString", "text"],
  [0x21, "receiveMaximum", "two"],
  [0x22, "topicAliasMaximum", "two"],
  [0x23, "topicAlias", "two"],
  [0x24, "maximumQos", "byte"],
  [0x25, "retainAvailable", "byte"],
  [0x26, "userProperties", "pair"],
  [0x27, "maximumPacketSize", "four"],
  [0x28, "wildcardSubscriptionAvailable", "byte"],
  [0x29, "subscriptionIdentifiersAvailable", "byte"],
  [0x2a, "sharedSubscriptionAvailable", "byte"],
];
const PROPERTY_BY_ID = new Map(PROPERTIES.map(([id, name, kind]) => [id, { name, kind }]));
const PROPERTY_BY_NAME = new Map(PROPERTIES.map(([id, name, kind]) => [name, { id, kind }]));

const REMAINING_LENGTH_MAX = 268_435_455;
const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

class Writer {
  constructor() {
    /** @type {number[]} */
    this.bytes = [];
  }

  /** @param {number} value */
  byte(value) {
    this.bytes.push(value & 0xff);
  }

  /** @param {number} value */
  two(value) {
    this.bytes.push((value >>> 8) & 0xff, value & 0xff);
  }

  /** @param {number} value */
  four(value) {
    this.two(value >>> 16);
    this.two(value & 0xffff);
  }

  /** @param {number} value */
  varint(value) {
    do {
      const rest = value >>> 7;
      this.bytes.push((value & 0x7f) | (rest > 0 ? 0x80 : 0));
      value = rest;
    } while (value > 0);
  }

  /** @param {ArrayLike<number>} value */
  raw(value) {
    for (let i = 0; i < value.length; i++) this.bytes.push(/** @type {number} */ (value[i]));
  }

  /** @param {Uint8Array} value */
  binary(value) {
    if (value.length > 0xffff) throw new MqttError(MALFORMED_PACKET, "a field is longer than 65,535 bytes");
    this.two(value.length);
    this.raw(value);
  }

  /** @param {string} value */
  text(value) {
    this.binary(utf8Encoder.encode(value));
  }

  /** @param {[string, string]} value */
  pair(value) {
    this.text(value[0]);
    this.text(value[1]);
  }
}

class Reader {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  get left() {
    return this.bytes.length - this.at;
  }

  /** @param {number} count */
  raw(count) {
    if (this.left < count) throw new MqttError(MALFORMED_PACKET, "a packet ends inside a field");
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }

  byte() {
    return /** @type {number} */ (this.raw(1)[0]);
  }

  two() {
    return this.byte() * 0x100 + this.byte();
  }

  four() {
    return this.two() * 0x10000 + this.two();
  }

  varint() {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new MqttError(MALFORMED_PACKET, "a variable byte integer is longer than 4 bytes");
  }

  binary() {
    return this.raw(this.two()).slice();
  }

  text() {
    try {
      return utf8Decoder.decode(this.raw(this.two()));
    } catch (error) {
      if (error instanceof MqttError) throw error;
      throw new MqttError(MALFORMED_PACKET, "a text field is not UTF-8");
    }
  }

  /** @returns {[string, string]} */
  pair() {
    return [this.text(), this.text()];
  }
}

/**
 * @param {Writer} out
 * @param {Properties} [properties]
 */
function writeProperties(out, properties = {}) {
  const body = new Writer();
  for (const [name, value] of Object.entries(properties)) {
    const entry = PROPERTY_BY_NAME.get(/** @type {keyof Properties} */ (name));
    if (!entry) throw new MqttError(PROTOCOL_ERROR, `there is no property ${name}`);
    if (value === undefined) continue;
    for (const item of Array.isArray(value) ? value : [value]) {
      body.varint(entry.id);
      /** @type {(value: any) => void} */ (body[entry.kind]).call(body, item);
    }
  }
  out.varint(body.bytes.length);
  out.raw(body.bytes);
}

/**
 * @param {Reader} from
 * @returns {Properties}
 */
function readProperties(from) {
  const body = new Reader(from.raw(from.varint()));
  /** @type {Record<string, any>} */
  const properties = {};
  while (body.left > 0) {
    const id = body.varint();
    const entry = PROPERTY_BY_ID.get(id);
    if (!entry) throw new MqttError(MALFORMED_PACKET, `there is no property 0x${id.toString(16)}`);
    const value = body[entry.kind]();
    if (entry.kind === "pair") (properties[entry.name] ??= []).push(value);
    else if (entry.name in properties && entry.name !== "subscriptionIdentifier")
      throw new MqttError(PROTOCOL_ERROR, `the property ${entry.name} is there twice`);
    else properties[entry.name] = value;
  }
  return properties;
}

/** @type {{[T in Packet["type"]]: (packet: Extract<Packet, {type: T}>, out: Writer) => void}} */
const WRITE = {
  connect(packet, out) {
    out.text("MQTT");
    out.byte(5);
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
    if (packet.reasonCode === 0 && !packet.properties) return;
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
    if (packet.reasonCode === 0 && !packet.properties) return;
    out.byte(packet.reasonCode);
    if (packet.properties) writeProperties(out, packet.properties);
  },
};

/**
 * The bytes of one packet.
 *
 * @param {Packet} packet
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function encode(packet) {
  const body = new Writer();
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
    if (from.text() !== "MQTT" || from.byte() !== 5) throw new MqttError(0x84, "this is not MQTT 5");
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
    return { type: "connack", sessionPresent, reasonCode: from.byte(), properties: readProperties(from) };
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
 * @returns {Packet}
 */
function decodePacket(first, body) {
  const name = /** @type {Packet["type"] | undefined} */ (TYPE_BY_NUMBER.get(first >> 4));
  if (!name) throw new MqttError(PROTOCOL_ERROR, `packet type ${first >> 4} was not asked for`);
  const flags = first & 0x0f;
  if (name !== "publish" && flags !== (name === "subscribe" ? 2 : 0))
    throw new MqttError(MALFORMED_PACKET, `a ${name} has the flags ${flags}`); // [MQTT5-2.1.3-1]
  const from = new Reader(body);
  const packet = READ[name](from, flags);
  if (from.left > 0) throw new MqttError(MALFORMED_PACKET, `a ${name} has ${from.left} bytes too many`);
  return packet;
}

/** Cuts a stream of bytes into packets. */
export class PacketReader {
  /** @param {number} [packetBytesMax] a longer packet is refused as soon as its length is known */
  constructor(packetBytesMax = 1_048_576) {
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
      packets.push(decodePacket(/** @type {number} */ (this.held[at]), this.held.subarray(span.start, span.end)));
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

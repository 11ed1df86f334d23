// @ts-check
/** What MQTT packets are made of, as bytes: numbers, texts and the properties of MQTT 5, which 3.1.1 does not have. */

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

/** The protocol levels of 3.1.1 and 5. @typedef {4 | 5} Version */

export const MALFORMED_PACKET = 0x81;
export const PROTOCOL_ERROR = 0x82;
export const UNSUPPORTED_VERSION = 0x84;
export const PACKET_TOO_LARGE = 0x95;

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

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class Writer {
  /** @param {Version} [version] */
  constructor(version = 5) {
    this.version = version;
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

export class Reader {
  /**
   * @param {Uint8Array} bytes
   * @param {Version} [version]
   */
  constructor(bytes, version = 5) {
    this.bytes = bytes;
    this.version = version;
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
export function writeProperties(out, properties = {}) {
  if (out.version < 5) return;
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
export function readProperties(from) {
  if (from.version < 5) return {};
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

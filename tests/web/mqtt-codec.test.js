import assert from "node:assert/strict";
import { test } from "node:test";

import { MqttError, PacketReader, encode } from "../../src/recado/web/mqtt-codec.js";

const utf8 = new TextEncoder();
const hex = (text) => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));

/** Written by hand from the specification, not by the codec. */
const CASES = [
  {
    name: "CONNECT",
    bytes: "10 27 0004 4d515454 05 c2 003c 0b 11 00000000 21 0100 22 0040 0005 7765622d31 0003 616e61 0003 746f6b",
    packet: {
      type: "connect",
      cleanStart: true,
      keepAliveS: 60,
      clientId: "web-1",
      username: "ana",
      password: "tok",
      properties: { sessionExpiryInterval: 0, receiveMaximum: 256, topicAliasMaximum: 64 },
    },
  },
  {
    name: "CONNACK",
    bytes: "20 10 00 00 0d 21 000a 13 001e 27 00004000 24 01",
    packet: {
      type: "connack",
      sessionPresent: false,
      reasonCode: 0,
      properties: { receiveMaximum: 10, serverKeepAlive: 30, maximumPacketSize: 16384, maximumQos: 1 },
    },
  },
  {
    name: "PUBLISH at QoS 1 with a topic alias",
    bytes: "32 10 0003 632f31 0007 03 23 0002 4f6cc3a1 21",
    packet: {
      type: "publish",
      dup: false,
      qos: 1,
      retain: false,
      topicName: "c/1",
      packetId: 7,
      properties: { topicAlias: 2 },
      payload: utf8.encode("Olá!"),
    },
  },
  {
    name: "PUBLISH at QoS 0",
    bytes: "30 08 0003 632f31 00 6869",
    packet: {
      type: "publish",
      dup: false,
      qos: 0,
      retain: false,
      topicName: "c/1",
      packetId: undefined,
      properties: {},
      payload: utf8.encode("hi"),
    },
  },
  {
    name: "PUBACK",
    bytes: "40 02 0007",
    packet: { type: "puback", packetId: 7, reasonCode: 0, properties: undefined },
  },
  {
    name: "PUBACK with a refusal",
    bytes: "40 08 0007 87 04 1f 0001 78",
    packet: { type: "puback", packetId: 7, reasonCode: 0x87, properties: { reasonString: "x" } },
  },
  {
    name: "SUBSCRIBE with user properties",
    bytes: "82 21 0001 18 26 0005 6166746572 0003 613d31 26 0005 6166746572 0001 62 0003 632f2b 01",
    packet: {
      type: "subscribe",
      packetId: 1,
      properties: {
        userProperties: [
          ["after", "a=1"],
          ["after", "b"],
        ],
      },
      subscriptions: [{ topicFilter: "c/+", qos: 1, noLocal: false }],
    },
  },
  {
    name: "SUBACK",
    bytes: "90 05 0001 00 01 87",
    packet: { type: "suback", packetId: 1, properties: {}, reasonCodes: [1, 0x87] },
  },
  { name: "PINGREQ", bytes: "c0 00", packet: { type: "pingreq" } },
  { name: "PINGRESP", bytes: "d0 00", packet: { type: "pingresp" } },
  { name: "DISCONNECT", bytes: "e0 00", packet: { type: "disconnect", reasonCode: 0, properties: undefined } },
  {
    name: "DISCONNECT with a reason",
    bytes: "e0 01 a0",
    packet: { type: "disconnect", reasonCode: 0xa0, properties: undefined },
  },
];

for (const { name, bytes, packet } of CASES) {
  test(`${name} is written as the specification says`, () => {
    assert.equal(Buffer.from(encode(packet)).toString("hex"), Buffer.from(hex(bytes)).toString("hex"));
  });

  test(`${name} is read whole wherever its bytes are cut`, () => {
    const whole = hex(bytes);
    for (let cut = 0; cut <= whole.length; cut++) {
      const reader = new PacketReader();
      const read = [...reader.push(whole.subarray(0, cut)), ...reader.push(whole.subarray(cut))];
      assert.deepEqual(read, [packet], `cut at ${cut}`);
    }
  });
}

test("a stream of packets that arrives byte by byte gives every packet once, in order", () => {
  const reader = new PacketReader();
  const stream = CASES.flatMap(({ bytes }) => [...hex(bytes)]);
  const read = stream.flatMap((byte) => reader.push(Uint8Array.of(byte)));
  assert.deepEqual(
    read,
    CASES.map(({ packet }) => packet),
  );
});

test("a frame that ends one packet and starts the next loses neither", () => {
  const reader = new PacketReader();
  const stream = Uint8Array.from(CASES.flatMap(({ bytes }) => [...hex(bytes)]));
  const read = [];
  for (let at = 0; at < stream.length; at += 17) read.push(...reader.push(stream.subarray(at, at + 17)));
  assert.deepEqual(
    read,
    CASES.map(({ packet }) => packet),
  );
});

test("a payload of 200,000 bytes keeps its length", () => {
  const payload = new Uint8Array(200_000).fill(7);
  const bytes = encode({ type: "publish", qos: 0, topicName: "c/1", payload });
  const [packet] = new PacketReader().push(bytes);
  assert.equal(packet.payload.length, 200_000);
});

const BROKEN = [
  ["a remaining length of five bytes", "30 ff ff ff ff 01", 0x81],
  ["a PUBLISH at QoS 3", "36 05 0001 63 00 00", 0x81],
  ["a topic that ends outside its packet", "30 04 0009 6364", 0x81],
  ["a topic that is not UTF-8", "30 05 0002 c328 00", 0x81],
  ["an unknown property", "30 06 0001 63 02 7e 00", 0x81],
  ["a property that is there twice", "30 0a 0001 63 06 23 0001 23 0001", 0x82],
  ["reserved flags", "92 04 0001 00 01", 0x81],
  ["bytes after the end", "d0 01 00", 0x81],
  ["a packet type that was not asked for", "f0 00", 0x82],
  ["a packet longer than the limit", "30 80 80 80 01", 0x95],
];

for (const [name, bytes, reasonCode] of BROKEN) {
  test(`${name} is refused with 0x${reasonCode.toString(16)}`, () => {
    assert.throws(
      () => new PacketReader().push(hex(bytes)),
      (error) => error instanceof MqttError && error.reasonCode === reasonCode,
    );
  });
}

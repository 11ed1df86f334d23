import assert from "node:assert/strict";
import { test } from "node:test";

import { encode } from "../../src/recado/web/mqtt-codec.js";
import { MqttClosed, connectMqtt } from "../../src/recado/web/mqtt.js";
import { fakeClock } from "./fake-clock.js";
import { FakeSocket, settled } from "./fake-recado.js";

const bytesOf = (text) => new TextEncoder().encode(text);

/** A connection to a server that answers as `answers` says, and everything that comes out of it. */
async function connected(answers = {}, connack = {}) {
  const published = [];
  const ends = [];
  let socket;
  const server = {
    handle(from, packet) {
      if (packet.type === "connect")
        from.push({ type: "connack", sessionPresent: false, reasonCode: 0, properties: connack });
      else answers[packet.type]?.(from, packet);
    },
  };
  const connection = await connectMqtt({
    url: "ws://fake/mqtt",
    clientId: "web-1",
    username: "ana",
    password: "token",
    onPublish: (topicName, payload) => published.push([topicName, new TextDecoder().decode(payload)]),
    onClose: (end) => ends.push(end),
    openSocket: () => (socket = new FakeSocket(server)),
  });
  return { connection, socket, published, ends };
}

test("CONNECT asks for a session that ends with the connection and announces what the page can take", async (t) => {
  fakeClock(t);
  const { socket } = await connected();
  const [connect] = socket.received;
  assert.equal(connect.cleanStart, true);
  assert.equal(connect.properties.sessionExpiryInterval, 0);
  assert.ok(connect.properties.topicAliasMaximum >= 16);
  assert.ok(connect.properties.receiveMaximum > 0);
});

test("a refused CONNECT rejects with the server's reason", async (t) => {
  fakeClock(t);
  const server = { handle: (from) => from.push({ type: "connack", sessionPresent: false, reasonCode: 0x87 }) };
  const attempt = connectMqtt({
    url: "",
    clientId: "x",
    onPublish() {},
    onClose() {},
    openSocket: () => new FakeSocket(server),
  });
  await assert.rejects(attempt, (error) => error instanceof MqttClosed && error.reasonCode === 0x87);
});

test("a server that never answers CONNECT is given up after a time", async (t) => {
  const clock = fakeClock(t);
  const attempt = connectMqtt({
    url: "",
    clientId: "x",
    onPublish() {},
    onClose() {},
    openSocket: () => new FakeSocket({ handle() {} }),
  });
  const rejected = assert.rejects(attempt, MqttClosed);
  clock.tick(10_000);
  await rejected;
});

test("a publish at QoS 1 resolves with the reason code and text of its own PUBACK", async (t) => {
  fakeClock(t);
  const held = [];
  const { connection } = await connected({ publish: (from, packet) => held.push([from, packet]) });
  const first = connection.publish("c/1", "one", 1);
  const second = connection.publish("c/1", "two", 1);
  await settled();
  const [[from, one], [, two]] = held;
  from.push({ type: "puback", packetId: two.packetId, reasonCode: 0x87, properties: { reasonString: "not a member" } });
  from.push({ type: "puback", packetId: one.packetId, reasonCode: 0 });
  assert.equal((await first).reasonCode, 0);
  assert.deepEqual(await second, { reasonCode: 0x87, reason: "not a member" });
});

test("no more publishes are under way than the server's Receive Maximum", async (t) => {
  fakeClock(t);
  const held = [];
  const { connection } = await connected({ publish: (_, packet) => held.push(packet) }, { receiveMaximum: 2 });
  const sends = ["a", "b", "c"].map((body) => connection.publish("c/1", body, 1));
  await settled();
  assert.equal(held.length, 2);
  connection.receive(encode({ type: "puback", packetId: held[0].packetId, reasonCode: 0 }).buffer);
  await settled();
  assert.equal(held.length, 3);
  connection.close();
  assert.equal((await Promise.allSettled(sends)).filter(({ status }) => status === "fulfilled").length, 1);
});

test("a missing PUBACK ends the connection, and everything that waits is told", async (t) => {
  const clock = fakeClock(t);
  const { connection, ends } = await connected();
  const sent = assert.rejects(connection.publish("c/1", "one", 1), MqttClosed);
  await settled();
  clock.tick(10_000);
  await sent;
  assert.equal(ends.length, 1);
});

test("a message over the server's Maximum Packet Size fails alone", async (t) => {
  fakeClock(t);
  const { connection, ends } = await connected({}, { maximumPacketSize: 100 });
  await assert.rejects(connection.publish("c/1", "x".repeat(200), 1), (error) => error.reasonCode === 0x95);
  assert.deepEqual(ends, []);
});

test("a topic alias stands for the topic that it came with", async (t) => {
  // [MQTT5-3.3.2-10]
  fakeClock(t);
  const { socket, published } = await connected();
  socket.push({
    type: "publish",
    qos: 0,
    topicName: "c/order-1",
    properties: { topicAlias: 1 },
    payload: bytesOf("a"),
  });
  socket.push({ type: "publish", qos: 0, topicName: "", properties: { topicAlias: 1 }, payload: bytesOf("b") });
  assert.deepEqual(published, [
    ["c/order-1", "a"],
    ["c/order-1", "b"],
  ]);
});

test("a topic alias that stands for nothing ends the connection with a protocol error", async (t) => {
  fakeClock(t);
  const { socket, ends } = await connected();
  socket.push({ type: "publish", qos: 0, topicName: "", properties: { topicAlias: 3 }, payload: bytesOf("b") });
  assert.equal(ends[0].reasonCode, 0x82);
  await settled();
  assert.equal(socket.received.at(-1).type, "disconnect");
});

test("a QoS 1 delivery is acknowledged with its packet id", async (t) => {
  // [MQTT5-4.5.0-2]
  fakeClock(t);
  const { socket, published } = await connected();
  socket.push({ type: "publish", qos: 1, packetId: 9, topicName: "c/1", payload: bytesOf("a") });
  assert.equal(published.length, 1);
  assert.deepEqual(
    { ...socket.received.at(-1) },
    { type: "puback", packetId: 9, reasonCode: 0, properties: undefined },
  );
});

test("an idle connection pings before the keep alive is over, and ends when no answer comes", async (t) => {
  const clock = fakeClock(t);
  const { socket, ends } = await connected({ pingreq() {} }, { serverKeepAlive: 20 });
  clock.tick(15_000);
  assert.equal(socket.received.at(-1).type, "pingreq");
  clock.tick(10_000);
  assert.equal(ends.length, 1);
});

test("an answered ping keeps the connection, round after round", async (t) => {
  const clock = fakeClock(t);
  const { socket, ends } = await connected(
    { pingreq: (from) => from.push({ type: "pingresp" }) },
    { serverKeepAlive: 20 },
  );
  for (let round = 0; round < 5; round++) {
    clock.tick(15_000);
    await settled();
  }
  assert.equal(socket.received.filter(({ type }) => type === "pingreq").length, 5);
  assert.deepEqual(ends, []);
});

test("a probe finds a dead connection within seconds", async (t) => {
  const clock = fakeClock(t);
  const { connection, ends } = await connected({ pingreq() {} });
  connection.probe();
  clock.tick(3_000);
  assert.equal(ends.length, 1);
});

test("the server's DISCONNECT is passed on with its reason", async (t) => {
  fakeClock(t);
  const { socket, ends } = await connected();
  socket.push({ type: "disconnect", reasonCode: 0xa0 });
  assert.deepEqual(ends, [{ reasonCode: 0xa0, reason: "maximum connect time" }]);
});

test("a refused SUBSCRIBE shows in its reason codes", async (t) => {
  fakeClock(t);
  const refuse = (from, { packetId }) => from.push({ type: "suback", packetId, reasonCodes: [0x87] });
  const { connection } = await connected({ subscribe: refuse });
  assert.deepEqual(await connection.subscribe([{ topicFilter: "c/1", qos: 1 }]), [0x87]);
});

test("a text frame is no MQTT and ends the connection", async (t) => {
  fakeClock(t);
  const { socket, ends } = await connected();
  socket.onmessage({ data: "hello" });
  assert.equal(ends[0].reasonCode, 0x81);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { bodies, page } from "./client-page.js";
import { FakeRecadoWithBroker } from "./fake-broker.js";
import { fakeClock } from "./fake-clock.js";
import { settled } from "./fake-recado.js";

/** Ana's page, at an external broker. */
async function pageAtBroker(t, prepare = () => {}) {
  const clock = fakeClock(t);
  const server = new FakeRecadoWithBroker().conversation("a");
  prepare(server);
  const { client, changes } = await page(t, server);
  return { client, changes, server, clock };
}

const posted = (server) => server.requests.filter((request) => request.startsWith("POST "));

test("the page connects clean with the broker's own credentials and reads its user's topics alone", async (t) => {
  const { client, server } = await pageAtBroker(t);
  const [connect] = server.sent("connect");
  assert.equal(client.linkKind, "mqtt");
  assert.deepEqual([connect.cleanStart, connect.username, connect.password], [true, "at-broker-ana", "of-the-broker"]);
  assert.match(connect.clientId, /^at-broker-ana\.[\w-]{16}$/);
  const [{ subscriptions, properties }] = server.sent("subscribe");
  assert.deepEqual(subscriptions.map(({ topicFilter, qos }) => [topicFilter, qos]), [["u/ana/#", 1]]);
  assert.deepEqual(properties, {}, "that broker knows no `after`");
});

test("what others write comes over MQTT, what the page writes goes up by POST, each once", async (t) => {
  const { client, server } = await pageAtBroker(t);
  server.say("a", "bruno", "hi");
  await settled();
  const { id } = client.send("a", "hello");
  await settled();
  server.say("a", "bruno", "and again");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["hi", "hello", "and again"]);
  assert.deepEqual(posted(server), [`POST ${id} hello`]);
  assert.deepEqual(server.sent("publish"), [], "clients of that broker only read");
});

test("a message of the page's own is there although the broker never brings it, and what else it lost", async (t) => {
  const { client, server } = await pageAtBroker(t);
  server.brings = false;
  server.say("a", "bruno", "lost");
  client.send("a", "mine");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["lost", "mine"]);
  assert.deepEqual(client.outbox.of("a"), []);
});

test("what was said while the page was away from the broker is read from the log, and nothing twice", async (t) => {
  const { client, server, clock } = await pageAtBroker(t);
  server.say("a", "bruno", "one");
  await settled();
  const socket = server.socket;
  socket.drop();
  const two = server.commit("a", "bruno", { body: "two" });
  await settled();
  clock.tick(15_000);
  await settled();
  assert.equal(client.linkKind, "mqtt");
  assert.notEqual(server.socket, socket);
  server.deliver("a", two); // the worker's path, late
  server.say("a", "bruno", "three");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["one", "two", "three"]);
});

test("a gap in what arrives is filled from the log, in order, and what comes later than that is taken once", async (t) => {
  const { client, server } = await pageAtBroker(t);
  server.say("a", "bruno", "one");
  server.brings = false;
  const two = server.say("a", "bruno", "two");
  server.brings = true;
  server.say("a", "bruno", "three");
  await settled();
  server.deliver("a", two);
  await settled();
  assert.deepEqual(bodies(client, "a"), ["one", "two", "three"]);
});

test("a conversation that was made meanwhile appears with its first event", async (t) => {
  const { client, server } = await pageAtBroker(t);
  server.conversation("b", ["ana", "carla"]);
  server.say("b", "carla", "new here");
  await settled();
  assert.deepEqual(
    client.list().map(({ id }) => id).sort(),
    ["a", "b"],
  );
  assert.equal(client.conversations.get("b").summary.last_event.body, "new here");
});

test("signs of typing and what was read go up over HTTP, and others' come over MQTT", async (t) => {
  const { client, server, clock } = await pageAtBroker(t);
  server.say("a", "bruno", "hi");
  await settled();
  client.typing("a");
  client.markRead("a", 1);
  clock.tick(300);
  server.signal("a", { type: "typing", from: "bruno", for_ms: 6_000 });
  await settled();
  assert.equal(server.readUpTo.get("a"), 1);
  assert.deepEqual(client.conversations.get("a").typists(), ["bruno"]);
  assert.deepEqual(server.sent("publish"), []);
});

test("a burst of messages is reported as delivered once, by the newest, and again only when there is more", async (t) => {
  const { server, clock } = await pageAtBroker(t);
  for (let i = 0; i < 20; i++) server.say("a", "bruno", `line ${i}`);
  await settled();
  clock.tick(100);
  await settled();
  assert.deepEqual(server.reported("delivered"), [{ id: "a", seq: 20 }]);
  server.deliver("a", server.logs.get("a").events[19]);
  await settled();
  clock.tick(20_000);
  await settled();
  server.say("a", "bruno", "more");
  await settled();
  clock.tick(100);
  await settled();
  assert.deepEqual(server.reported("delivered").at(-1), { id: "a", seq: 21 });
  assert.equal(server.reported("delivered").length, 2);
});

test("reports of many conversations go one at a time, with a pause between two", async (t) => {
  const ids = ["b", "c", "d"];
  const { server, clock } = await pageAtBroker(t, (made) => ids.forEach((id) => made.conversation(id)));
  for (const id of ids) server.say(id, "bruno", "hi");
  await settled();
  for (const count of [1, 2, 3]) {
    clock.tick(count === 1 ? 100 : 400);
    await settled();
    assert.equal(server.reported("delivered").length, count);
  }
});

test("a report that failed for now is made again, with the newest seq; one that is refused is not", async (t) => {
  const { server, clock } = await pageAtBroker(t);
  server.deliveredAnswers = [503, 503, 404];
  server.say("a", "bruno", "one");
  await settled();
  for (const ms of [100, 5_000]) {
    clock.tick(ms);
    await settled();
  }
  server.say("a", "bruno", "two");
  await settled();
  clock.tick(5_000);
  await settled();
  assert.deepEqual(
    server.reported("delivered").map(({ seq }) => seq),
    [1, 1, 2],
  );
  clock.tick(60_000);
  await settled();
  assert.equal(server.reported("delivered").length, 3);
});

test("while the broker is away the page goes on by WebSocket, and comes back to it, with nothing missing", async (t) => {
  const { client, server, clock } = await pageAtBroker(t);
  server.say("a", "bruno", "one");
  await settled();
  server.blocked.add("mqtt");
  server.socket.drop();
  server.commit("a", "bruno", { body: "two" });
  await settled();
  clock.tick(15_000);
  await settled();
  assert.equal(client.linkKind, "websocket");
  server.say("a", "bruno", "three");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["one", "two", "three"]);
  server.blocked.clear();
  clock.tick(37_500);
  await settled();
  assert.equal(client.linkKind, "mqtt");
  server.say("a", "bruno", "four");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["one", "two", "three", "four"]);
});

test("a broker that lets nobody in is one that is out of reach: the page goes on by WebSocket", async (t) => {
  const { client, server } = await pageAtBroker(t, (made) => (made.refusesUsers = true));
  await settled();
  assert.deepEqual([client.state, client.linkKind], ["online", "websocket"]);
  server.say("a", "bruno", "hi");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["hi"]);
});

test("a broker that breaks off at MQTT 5 is spoken to in 3.1.1, and at once in it the next time", async (t) => {
  const { client, server, clock } = await pageAtBroker(t, (made) => {
    made.version = 4;
    made.topicOf = (id) => `u/ana/c/${id}`;
    const session = made.session.bind(made);
    made.session = () => {
      const answer = session();
      return { ...answer, mqtt: { ...answer.mqtt, ws_url: "ws://older/mqtt" } };
    };
  });
  assert.equal(client.linkKind, "mqtt");
  assert.equal(server.sockets.length, 2);
  server.say("a", "bruno", "hi");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["hi"]);
  server.socket.drop();
  await settled();
  clock.tick(15_000);
  await settled();
  assert.equal(client.linkKind, "mqtt");
  assert.equal(server.sockets.length, 3);
});

test("where that broker has no WebSocket the page goes on by Recado's own", async (t) => {
  const { client, server } = await pageAtBroker(t, (made) => {
    const session = made.session.bind(made);
    made.session = () => ({ ...session(), mqtt: { ...session().mqtt, ws_url: null } });
  });
  await settled();
  assert.equal(client.linkKind, "websocket");
  assert.deepEqual(server.sockets, []);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { ConversationClient } from "../../src/recado/web/conversation-client.js";
import { bodies, page, reconnected } from "./client-page.js";
import { fakeClock } from "./fake-clock.js";
import { FakeRecado, settled } from "./fake-recado.js";

const statuses = (client, id) => client.outbox.of(id).map(({ body, status }) => [body, status]);

test("an event arrives in the open conversation, and no HTTP request is made for it", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  assert.equal(client.state, "online");
  const requests = server.requests.length;
  server.say("a", "bruno", "hi");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["hi"]);
  assert.equal(client.list()[0].summary.unread_count, 1);
  assert.equal(server.requests.length, requests);
});

/** A client that has not connected yet. */
function newClient(t, { tokens, openSocket, fetch: fetchFunction }) {
  const options = { tokens, storage: null, openSocket, fetchFunction, hasNetwork: () => true };
  const client = new ConversationClient({ baseUrl: "http://fake/", ...options });
  t.after(() => client.stop());
  return client;
}

test("a conversation opened before the client has connected is opened once it has", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  server.commit("a", "bruno", { body: "hi" });
  const client = newClient(t, server);
  const opened = client.open("a");
  client.start();
  assert.equal(await opened, true);
  assert.deepEqual(bodies(client, "a"), ["hi"]);
  assert.equal(client.conversations.get("a").me, "ana");
});

test("a message written before the client has connected is sent once it has", async (t) => {
  fakeClock(t);
  const client = newClient(t, new FakeRecado().conversation("a"));
  client.start();
  client.send("a", "early");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["early"]);
  assert.deepEqual(statuses(client, "a"), []);
});

test("time alone makes no HTTP request", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  await page(t, server);
  const requests = server.requests.length;
  for (let minute = 0; minute < 10; minute++) {
    clock.tick(45_000);
    await settled();
  }
  assert.equal(server.requests.length, requests);
  assert.equal(server.sockets.length, 1);
});

test("an event that comes twice is shown once", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  const event = server.say("a", "bruno", "hi");
  server.socket.pushEvent("a", event);
  await settled();
  assert.deepEqual(bodies(client, "a"), ["hi"]);
  assert.equal(client.list()[0].summary.unread_count, 1);
});

test("a gap is filled from the history, in order", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  server.commit("a", "bruno", { body: "one" });
  server.commit("a", "bruno", { body: "two" });
  server.say("a", "bruno", "three");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["one", "two", "three"]);
  assert.equal(server.requests.at(-1), "/v1/conversations/a/events?after=0&limit=200");
});

test("after a lost connection the page resumes each conversation from what it has", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a").conversation("b");
  const { client } = await page(t, server);
  server.say("a", "bruno", "one");
  server.socket.drop();
  await settled();
  assert.equal(client.state, "reconnecting");
  server.commit("a", "bruno", { body: "two" });
  server.commit("b", "bruno", { body: "elsewhere" });
  await reconnected(clock);
  assert.equal(client.state, "online");
  const { userProperties } = server.sent("subscribe").at(-1).properties;
  assert.deepEqual(userProperties.map(([name, value]) => `${name} ${value}`).sort(), ["after a=1", "after b=0"]);
  assert.deepEqual(bodies(client, "a"), ["one", "two"]);
  assert.deepEqual(
    client
      .list()
      .map(({ id, summary }) => [id, summary.unread_count])
      .sort(),
    [
      ["a", 2],
      ["b", 1],
    ],
  );
});

test("a sent message is shown at once and is sent when the server acknowledged it", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client, storage } = await page(t, server);
  client.send("a", "hello");
  assert.deepEqual(statuses(client, "a"), [["hello", "sending"]]);
  assert.equal(storage.length, 1);
  await settled();
  assert.deepEqual(statuses(client, "a"), []);
  assert.deepEqual(bodies(client, "a"), ["hello"]);
  assert.equal(storage.length, 0);
  assert.equal(client.list()[0].summary.unread_count, 0);
});

test("messages written while offline are sent once each, in order, after the reconnect", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  server.unreachable = true;
  server.socket.drop();
  await settled();
  assert.equal(client.state, "offline");
  for (const body of ["one", "two", "three"]) client.send("a", body);
  await settled();
  server.unreachable = false;
  client.wake();
  await settled();
  assert.deepEqual(bodies(client, "a"), ["one", "two", "three"]);
  assert.deepEqual(server.bodiesSent(), ["one", "two", "three"]);
});

test("a message whose acknowledgement was lost is sent again with the same id and is there once", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  server.answers = ["commit-and-drop"];
  client.send("a", "one");
  client.send("a", "two");
  await settled();
  await reconnected(clock);
  assert.deepEqual(bodies(client, "a"), ["one", "two"]);
  assert.deepEqual(statuses(client, "a"), []);
  assert.equal(server.logs.get("a").events.length, 2);
});

test("a message survives a reload of the page and is sent with the id that it had", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const first = await page(t, server);
  server.answers = ["drop"];
  const { id } = first.client.send("a", "before the reload");
  await settled();
  first.client.stop();
  const second = await page(t, server, first.storage);
  await second.client.open("a");
  assert.deepEqual(
    server.logs.get("a").events.map((event) => event.id),
    [id],
  );
  assert.deepEqual(bodies(second.client, "a"), ["before the reload"]);
  assert.equal(first.storage.length, 0);
});

test("a message that was committed before a reload leaves the outbox when it is acknowledged again", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const first = await page(t, server);
  server.answers = ["commit-and-drop"];
  first.client.send("a", "once");
  await settled();
  first.client.stop();
  const { client } = await page(t, server, first.storage);
  assert.deepEqual(statuses(client, "a"), []);
  await client.open("a");
  assert.deepEqual(bodies(client, "a"), ["once"]);
});

test("a refused message is failed with the server's reason; a retry sends it, a discard forgets it", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client, storage } = await page(t, server);
  server.answers = [0x87, 0x99];
  const one = client.send("a", "one");
  const two = client.send("a", "two");
  client.send("a", "three");
  await settled();
  assert.deepEqual(statuses(client, "a"), [
    ["one", "failed"],
    ["two", "failed"],
  ]);
  assert.equal(one.reasonCode, 0x87);
  client.retry(one.id);
  client.discard(two.id);
  await settled();
  assert.deepEqual(bodies(client, "a"), ["three", "one"]);
  assert.equal(storage.length, 0);
});

test("a message for which the server hangs up is failed instead of ending every connection", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  server.handlePublish = (socket) => socket.push({ type: "disconnect", reasonCode: 0x95 });
  client.send("a", "huge");
  await settled();
  assert.deepEqual(statuses(client, "a"), [["huge", "failed"]]);
  await reconnected(clock);
  assert.equal(server.bodiesSent().length, 1);
});

test("an event of an unknown conversation brings that conversation into the list", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  server.conversation("new", ["bruno", "ana"]);
  server.say("new", "bruno", "welcome");
  server.say("new", "bruno", "again");
  await settled();
  const log = client.conversations.get("new");
  assert.equal(log.cursor, 2);
  assert.equal(log.summary.unread_count, 2);
  assert.equal(server.requests.filter((path) => path === "/v1/conversations/new").length, 1);
});

test("who is removed keeps the conversation only as read-only, and not in the list", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  server.socket.pushEvent("a", server.commit("a", null, { type: "member_removed", user: "ana" }));
  await settled();
  assert.deepEqual(client.list(), []);
  assert.equal(client.conversations.get("a").removed, true);
});

test("a removal that happened while away shows after the reconnect", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a").conversation("b");
  const { client } = await page(t, server);
  server.socket.drop();
  server.logs.get("a").members = ["bruno"];
  await reconnected(clock);
  assert.deepEqual(
    client.list().map(({ id }) => id),
    ["b"],
  );
});

test("older history comes on demand, page by page, down to the first event", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  for (let i = 1; i <= 120; i++) server.commit("a", "bruno", { body: String(i) });
  const { client } = await page(t, server);
  await client.open("a");
  assert.equal(client.conversations.get("a").firstSeq, 71);
  await client.loadOlder("a");
  await client.loadOlder("a");
  assert.equal(bodies(client, "a").length, 120);
  assert.equal(client.conversations.get("a").hasOlder, false);
});

test("reading is told once for a burst, and to the server's cursor", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  for (const body of ["one", "two", "three"]) {
    server.say("a", "bruno", body);
    client.markRead("a", client.conversations.get("a").cursor);
  }
  assert.equal(client.unreadTotal(), 0);
  clock.tick(300);
  await settled();
  assert.equal(server.readUpTo.get("a"), 3);
  assert.equal(server.sent("publish").length, 1);
});

test("what was read while offline is told after the reconnect", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  server.say("a", "bruno", "one");
  server.socket.drop();
  client.markRead("a", 1);
  await reconnected(clock);
  assert.equal(server.readUpTo.get("a"), 1);
  assert.equal(client.unreadTotal(), 0);
});

test("reading in another tab clears the count here", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  server.say("a", "bruno", "one");
  server.socket.push({
    type: "publish",
    qos: 0,
    topicName: "c/a/live",
    payload: Buffer.from('{"type":"read","from":"ana","seq":1}'),
  });
  assert.equal(client.unreadTotal(), 0);
});

test("typing is told at most every three seconds", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  client.typing("a");
  client.typing("a");
  clock.tick(2_900);
  client.typing("a");
  assert.equal(server.sent("publish").length, 1);
  clock.tick(100);
  client.typing("a");
  assert.equal(server.sent("publish").length, 2);
});

test("the others' typing is shown for five seconds or until their message", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  const typing = {
    type: "publish",
    qos: 0,
    topicName: "c/a/live",
    payload: Buffer.from('{"type":"typing","from":"bruno"}'),
  };
  const log = client.conversations.get("a");
  server.socket.push(typing);
  clock.tick(4_900);
  assert.deepEqual(log.typists(), ["bruno"]);
  clock.tick(200);
  assert.deepEqual(log.typists(), []);
  server.socket.push(typing);
  server.say("a", "bruno", "done");
  assert.deepEqual(log.typists(), []);
});

test("at the token's end the page renews it and goes on without a pause", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  clock.tick(20_000);
  server.socket.push({ type: "disconnect", reasonCode: 0xa0 });
  await settled();
  assert.equal(client.state, "online");
  assert.equal(server.sockets.length, 2);
  assert.equal(server.sent("connect").at(-1).password, "token-2");
});

test("a token that no renewal can save leads to the sign-in, and the loop ends", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { changes } = await page(t, server);
  server.refuseTokens = true;
  server.socket.drop();
  await reconnected(clock);
  assert.deepEqual(changes.at(-1), { kind: "signed-out", why: "refused" });
  const requests = server.requests.length;
  await reconnected(clock);
  assert.equal(server.requests.length, requests);
});

test("a server that is away is tried ever less often, and at once when the network is back", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  server.unreachable = true;
  const { client } = await page(t, server);
  for (const delay of [1_000, 2_000, 4_000, 8_000, 15_000, 15_000]) {
    const before = server.requests.length;
    clock.tick(delay - 1);
    await settled();
    assert.equal(server.requests.length, before, `nothing before ${delay} ms`);
    clock.tick(1);
    await settled();
    assert.equal(server.requests.length, before + 1, `a try after ${delay} ms`);
  }
  server.unreachable = false;
  client.wake();
  await settled();
  assert.equal(client.state, "online");
});

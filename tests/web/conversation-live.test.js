import assert from "node:assert/strict";
import { test } from "node:test";

import { page, reconnected } from "./client-page.js";
import { fakeClock } from "./fake-clock.js";
import { FakeRecado, settled } from "./fake-recado.js";

const entry = (client, seq) => client.conversations.get("a").events.find((event) => event.seq === seq);

/** Ana's page on a conversation in which she has written, and its server. */
async function pageWithMessage(t, prepare = () => {}) {
  const clock = fakeClock(t);
  const server = new FakeRecado().conversation("a");
  server.commit("a", "ana", { body: "one" });
  prepare(server);
  const { client, changes } = await page(t, server);
  await client.open("a");
  return { client, changes, server, clock };
}

test("an edit goes up by PATCH and shows when its event is back, not before", async (t) => {
  const { client, server } = await pageWithMessage(t);
  server.holdEvents = true;
  await client.changes.edit("a", 1, "two");
  assert.equal(server.requests.at(-1), "PATCH /v1/conversations/a/messages/1");
  assert.equal(entry(client, 1).body, "one");
  server.socket.pushEvent("a", server.logs.get("a").events[1]);
  assert.equal(entry(client, 1).body, "two");
  assert.ok(entry(client, 1).edited_at);
});

test("a delete goes up by DELETE and leaves the place of the message", async (t) => {
  const { client, server } = await pageWithMessage(t);
  await client.changes.delete("a", 1);
  assert.equal(server.requests.at(-1), "DELETE /v1/conversations/a/messages/1");
  assert.equal(entry(client, 1).type, "deleted");
  assert.equal(entry(client, 1).body, undefined);
});

test("a refused change rejects with the server's status and changes nothing", async (t) => {
  const { client, server } = await pageWithMessage(t);
  server.refuseChanges = 403;
  await assert.rejects(client.changes.edit("a", 1, "two"), { status: 403, code: "refused" });
  assert.equal(entry(client, 1).body, "one");
});

test("a message that was deleted without an event reads as deleted once its delete is asked for", async (t) => {
  const { client, server } = await pageWithMessage(t);
  server.logs.get("a").events[0] = { seq: 1, from: "ana", at: 1, id: "m1", type: "deleted" };
  await client.changes.delete("a", 1);
  assert.equal(entry(client, 1).type, "deleted");
});

test("what was edited and deleted while away shows after the reconnect", async (t) => {
  const { client, server, clock } = await pageWithMessage(t, (server) => server.commit("a", "bruno", { body: "x" }));
  const { socket } = server;
  server.holdEvents = true;
  socket.drop();
  server.change("a", 1, { body: "two" });
  server.change("a", 2, {});
  await reconnected(clock);
  assert.equal(entry(client, 1).body, "two");
  assert.equal(entry(client, 2).type, "deleted");
});

test("the history says how far the others are, and signals go on from there", async (t) => {
  const { client, server } = await pageWithMessage(t, (server) => {
    server.receipts = [{ user: "bruno", delivered_up_to: 1, read_up_to: 0 }];
  });
  const log = client.conversations.get("a");
  assert.equal(log.receiptOf(1).receipt, "delivered");
  server.signal("a", { type: "read", from: "bruno", seq: 1 });
  assert.equal(log.receiptOf(1).receipt, "read");
});

test("after a reconnect the open conversation's receipts and everybody's presence are read anew", async (t) => {
  const { client, server, clock } = await pageWithMessage(t);
  const log = client.conversations.get("a");
  assert.equal(log.receiptOf(1).receipt, "stored");
  server.signal("a", { type: "presence", from: "bruno", online: true });
  assert.deepEqual(log.online(), ["bruno"]);
  server.socket.drop();
  server.receipts = [{ user: "bruno", delivered_up_to: 1, read_up_to: 1 }];
  await reconnected(clock);
  assert.equal(log.receiptOf(1).receipt, "read");
  assert.deepEqual(log.online(), []);
});

test("a presence signal that overtakes the list's answer is not undone by it", async (t) => {
  const { client, server, clock } = await pageWithMessage(t);
  const { fetch } = server;
  let answerList = () => {};
  client.api.fetchFunction = async (url, init) => {
    const response = await fetch(url, init);
    if (url.pathname === "/v1/conversations") await new Promise((resolve) => (answerList = resolve));
    return response;
  };
  server.socket.drop();
  await reconnected(clock);
  server.signal("a", { type: "presence", from: "bruno", online: true });
  answerList();
  await settled();
  assert.deepEqual(client.conversations.get("a").online(), ["bruno"]);
});

test("an erased conversation leaves the list, and the open page keeps nothing of it", async (t) => {
  const { client, server } = await pageWithMessage(t);
  server.socket.pushEvent("a", server.commit("a", null, { type: "conversation_erased" }));
  server.logs.delete("a");
  await settled();
  assert.deepEqual(client.list(), []);
  assert.deepEqual(client.conversations.get("a").events, []);
});

test("a log whose beginning the server does not have is asked for it once, not for ever", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  const { events } = server.logs.get("a");
  for (let seq = 1; seq <= 9; seq++) server.commit("a", "bruno", { body: `line ${seq}` });
  events.splice(0, 4);
  const requests = server.requests.length;
  server.socket.pushEvent("a", events.at(-1));
  await settled();
  const log = client.conversations.get("a");
  assert.deepEqual(
    log.events.map(({ seq }) => seq),
    [5, 6, 7, 8, 9],
  );
  assert.equal(server.requests.length, requests + 1);
  await client.open("a");
  await client.loadOlder("a");
  await client.loadOlder("a");
  assert.equal(server.requests.length, requests + 2);
  assert.equal(log.hasOlder, false);
});

test("a server that answers the same page again and again is asked no more", async (t) => {
  fakeClock(t);
  const server = new FakeRecado().conversation("a");
  const { client } = await page(t, server);
  server.say("a", "bruno", "one");
  let asked = 0;
  server.events = () => {
    assert.ok(++asked < 9, "it asks for ever");
    return { events: [server.logs.get("a").events[0]], last_seq: 99 };
  };
  const requests = server.requests.length;
  server.socket.pushEvent("a", { seq: 7, from: "bruno", at: 7, id: "m7", body: "seven" });
  await settled();
  assert.equal(server.requests.length, requests + 1);
  assert.equal(client.conversations.get("a").cursor, 7);
});

test("who is added is shown as there if it is: the view is read once for a burst of changes", async (t) => {
  const { client, server, clock } = await pageWithMessage(t);
  const requests = server.requests.length;
  for (const user of ["carla", "dora"]) {
    server.logs.get("a").members.push(user);
    server.socket.pushEvent("a", server.commit("a", null, { type: "member_added", user }));
  }
  server.online = ["carla"];
  clock.tick(500);
  await settled();
  assert.deepEqual(client.conversations.get("a").online(), ["carla"]);
  assert.deepEqual(server.requests.slice(requests), ["/v1/conversations/a"]);
});

test("when a conversation grows past what receipts are told for, its ticks and its presence go", async (t) => {
  const { client, server, clock } = await pageWithMessage(t);
  const log = client.conversations.get("a");
  assert.equal(log.receiptOf(1).receipt, "stored");
  server.online = server.receipts = undefined;
  server.socket.pushEvent("a", server.commit("a", null, { type: "member_added", user: "carla" }));
  clock.tick(500);
  await settled();
  assert.deepEqual(log.receiptOf(1), {});
});

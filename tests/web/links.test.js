import assert from "node:assert/strict";
import { test } from "node:test";

import { bodies, page } from "./client-page.js";
import { fakeClock } from "./fake-clock.js";
import { FakeRecadoOfAllLinks } from "./fake-links.js";
import { settled } from "./fake-recado.js";

const LATEST_CLIMB_MS = 37_500;
const WORSE = ["websocket", "event-stream", "long-poll"];
const BETTER_THAN = {
  websocket: ["mqtt"],
  "event-stream": ["mqtt", "websocket"],
  "long-poll": ["mqtt", "websocket", "event-stream"],
};

/** Ana's page on a network that lets through this kind of link and what is worse. */
async function pageConnectedBy(t, kind) {
  const clock = fakeClock(t);
  const server = new FakeRecadoOfAllLinks().conversation("a");
  server.blocked = new Set(BETTER_THAN[kind]);
  const { client, changes } = await page(t, server);
  assert.equal(client.state, "online");
  assert.equal(client.linkKind, kind);
  return { client, changes, server, clock };
}

const posted = (server) => server.requests.filter((request) => request.startsWith("POST "));

for (const kind of WORSE) {
  test(`by ${kind}: what others write arrives, what the page writes goes up by POST, each once`, async (t) => {
    const { client, server } = await pageConnectedBy(t, kind);
    server.say("a", "bruno", "hi");
    await settled();
    const { id } = client.send("a", "hello");
    await settled();
    server.say("a", "bruno", "and again");
    await settled();
    assert.deepEqual(bodies(client, "a"), ["hi", "hello", "and again"]);
    assert.deepEqual(posted(server), [`POST ${id} hello`]);
    assert.deepEqual(client.outbox.of("a"), []);
  });

  test(`by ${kind}: what came before the link was open is read from the log, and nothing twice`, async (t) => {
    const { client, server, clock } = await pageConnectedBy(t, kind);
    server.say("a", "bruno", "one");
    await settled();
    client.keeper.drop();
    server.commit("a", "bruno", { body: "two" });
    await settled();
    clock.tick(15_000);
    await settled();
    assert.equal(client.linkKind, kind);
    server.say("a", "bruno", "three");
    await settled();
    assert.deepEqual(bodies(client, "a"), ["one", "two", "three"]);
  });

  test(`by ${kind}: a message whose answer was lost is sent again with its id and is there once`, async (t) => {
    const { client, server, clock } = await pageConnectedBy(t, kind);
    await client.open("a");
    server.postAnswers = ["commit-and-drop"];
    const { id } = client.send("a", "once");
    await settled();
    assert.equal(client.state, "reconnecting");
    clock.tick(15_000);
    await settled();
    assert.deepEqual(posted(server), [`POST ${id} once`, `POST ${id} once`]);
    assert.deepEqual(bodies(client, "a"), ["once"]);
    assert.deepEqual(client.outbox.of("a"), []);
    assert.equal(client.linkKind, kind, "the way is not at fault");
  });

  test(`by ${kind}: a refused message says why and the next one goes on`, async (t) => {
    const { client, server } = await pageConnectedBy(t, kind);
    server.postAnswers = [413];
    const { id } = client.send("a", "long");
    client.send("a", "short");
    await settled();
    assert.equal(client.outbox.messages.get(id).reasonCode, 0x97);
    assert.deepEqual(bodies(client, "a"), ["short"]);
  });

  test(`by ${kind}: a message for which there is no token any more ends the link by its token`, async (t) => {
    const { client, server } = await pageConnectedBy(t, kind);
    const { link } = client.keeper;
    server.postAnswers = [401, 401];
    const message = { id: "m", conversation: "a", body: "late" };
    const refused = await link.send(message).catch((error) => error);
    assert.equal(refused.end.why, "token");
    assert.equal(await link.ended, refused.end);
  });

  test(`by ${kind}: reading is told once for a burst`, async (t) => {
    const { client, server, clock } = await pageConnectedBy(t, kind);
    server.say("a", "bruno", "one");
    await settled();
    client.markRead("a", 1);
    clock.tick(300);
    await settled();
    assert.equal(server.readUpTo.get("a"), 1);
  });

  test(`from ${kind} the page climbs, and what comes over both links is shown once`, async (t) => {
    const { client, server, clock, changes } = await pageConnectedBy(t, kind);
    server.say("a", "bruno", "one");
    await settled();
    server.blocked.clear();
    server.handleSubscribe = ((resume) => (socket, packet) => {
      server.say("a", "bruno", "while both are open");
      resume(socket, packet);
    })(server.handleSubscribe.bind(server));
    const before = changes.length;
    clock.tick(LATEST_CLIMB_MS);
    await settled();
    assert.equal(client.linkKind, "mqtt");
    server.say("a", "bruno", "two");
    await settled();
    assert.deepEqual(bodies(client, "a"), ["one", "while both are open", "two"]);
    const states = changes.slice(before).filter((change) => change.kind === "state");
    assert.deepEqual(states, [{ kind: "state", state: "online", link: "mqtt" }]);
    assert.equal(server.streams.length + server.held.length, 0, "the other link is closed");
  });

  test(`from ${kind} a climb that fails changes nothing`, async (t) => {
    const { client, server, clock, changes } = await pageConnectedBy(t, kind);
    const before = changes.length;
    clock.tick(LATEST_CLIMB_MS);
    await settled();
    server.say("a", "bruno", "still here");
    await settled();
    assert.equal(client.linkKind, kind);
    assert.deepEqual(bodies(client, "a"), ["still here"]);
    assert.ok(changes.slice(before).every((change) => change.kind !== "state"));
  });
}

test("a message that is under way when the page climbs is not sent twice", async (t) => {
  const { client, server } = await pageConnectedBy(t, "event-stream");
  let answerPost = () => {};
  const { fetch } = server;
  client.api.fetchFunction = async (url, init) => {
    const response = await fetch(url, init);
    if (init.method === "POST") await new Promise((resolve) => (answerPost = resolve));
    return response;
  };
  client.send("a", "under way");
  client.send("a", "next");
  await settled();
  server.blocked.clear();
  client.wake();
  await settled();
  assert.equal(client.linkKind, "mqtt");
  answerPost();
  await settled();
  assert.deepEqual(bodies(client, "a"), ["under way", "next"]);
  assert.equal(posted(server).length, 1);
  assert.deepEqual(server.bodiesSent(), ["next"]);
});

test("a post that fails after the climb is sent again over the new link at once", async (t) => {
  const { client, server } = await pageConnectedBy(t, "event-stream");
  let failPost = () => {};
  const { fetch } = server;
  client.api.fetchFunction = (url, init) => {
    if (init.method !== "POST") return fetch(url, init);
    return new Promise((_, reject) => (failPost = () => reject(new TypeError("gone"))));
  };
  client.send("a", "once");
  await settled();
  server.blocked.clear();
  client.wake();
  await settled();
  failPost();
  await settled();
  assert.equal(client.state, "online");
  assert.deepEqual(server.bodiesSent(), ["once"]);
  assert.deepEqual(bodies(client, "a"), ["once"]);
});

test("when the link that works is lost during a climb, the page reconnects and the climb is given up", async (t) => {
  const { client, server, clock } = await pageConnectedBy(t, "websocket");
  server.blocked.clear();
  const resume = server.handleSubscribe.bind(server);
  let resumeMqtt = () => {};
  server.handleSubscribe = (socket, packet) => {
    server.jsonSocket.drop();
    server.handleSubscribe = resume;
    resumeMqtt = () => resume(socket, packet);
  };
  client.wake();
  await settled();
  assert.equal(client.state, "reconnecting");
  resumeMqtt();
  await settled();
  assert.equal(client.linkKind, null);
  assert.equal(server.socket.readyState, 3, "the link that came too late is closed");
  clock.tick(15_000);
  await settled();
  assert.equal(client.state, "online");
  server.say("a", "bruno", "hi");
  await settled();
  assert.deepEqual(bodies(client, "a"), ["hi"]);
});

test("a server that is away is no reason to go down", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecadoOfAllLinks().conversation("a");
  const { client } = await page(t, server);
  server.unreachable = true;
  server.socket.drop();
  for (let round = 0; round < 6; round++) {
    clock.tick(15_000);
    await settled();
  }
  server.unreachable = false;
  clock.tick(15_000);
  await settled();
  assert.equal(client.linkKind, "mqtt");
});

test("a server that dies while a link is being opened is no reason to go down either", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecadoOfAllLinks().conversation("a");
  const { openSocket } = server;
  let opened = 0;
  server.openSocket = (url, protocol) => {
    if (++opened === 1) server.unreachable = true;
    return openSocket(url, protocol);
  };
  const { client } = await page(t, server);
  assert.equal(client.state, "offline");
  server.unreachable = false;
  clock.tick(15_000);
  await settled();
  assert.equal(client.linkKind, "mqtt");
});

test("what neither link brought during a climb is read from the log", async (t) => {
  const { client, server } = await pageConnectedBy(t, "event-stream");
  server.say("a", "bruno", "one");
  await settled();
  server.commit("a", "bruno", { body: "lost by the stream" });
  server.blocked.delete("websocket");
  client.wake();
  await settled();
  assert.equal(client.linkKind, "websocket");
  assert.deepEqual(bodies(client, "a"), ["one", "lost by the stream"]);
});

test("climbing is tried again, and later each time", async (t) => {
  const { server, clock } = await pageConnectedBy(t, "websocket");
  const tries = async (ms) => {
    const before = server.sockets.length;
    for (let left = ms; left > 0; left -= 5_000) {
      clock.tick(Math.min(left, 5_000)); // so that the server answers in between
      await settled();
    }
    return server.sockets.length - before;
  };
  assert.equal(await tries(LATEST_CLIMB_MS), 1);
  assert.equal(await tries(75_000 - 1), 0);
  assert.equal(await tries(1), 1);
});

test("a WebSocket that no longer answers is given up, and one that does is kept", async (t) => {
  const { client, server, clock } = await pageConnectedBy(t, "websocket");
  clock.tick(45_000 - 1);
  await settled();
  assert.equal(client.linkKind, "websocket");
  server.blocked.add("mqtt");
  client.keeper.link.probe();
  await settled();
  clock.tick(3_000);
  assert.equal(server.jsonSockets.filter(({ readyState }) => readyState === 1).length, 1);
  server.isMute = true;
  client.keeper.link.probe();
  clock.tick(3_000);
  await settled();
  assert.equal(client.state, "reconnecting");
});

test("a WebSocket is told once for a burst how far the page has everything", async (t) => {
  const { client, server, clock } = await pageConnectedBy(t, "websocket");
  for (const body of ["one", "two", "three"]) server.say("a", "bruno", body);
  await settled();
  clock.tick(200);
  await client.reader.fillGap(client.conversations.get("a"));
  clock.tick(200);
  const acks = server.jsonSocket.received.filter(({ type }) => type === "ack");
  assert.deepEqual(acks, [{ type: "ack", conversation: "a", seq: 3 }]);
});

test("at the token's end a WebSocket is opened again with a new one, without a pause", async (t) => {
  const { client, server, clock } = await pageConnectedBy(t, "websocket");
  clock.tick(20_000);
  await settled();
  server.jsonSocket.drop(4401);
  await settled();
  assert.equal(client.state, "online");
  assert.equal(server.jsonSocket.received[0].token, "token-2");
});

test("a stream that falls silent after its opening is given up for held requests", async (t) => {
  const { client, clock } = await pageConnectedBy(t, "event-stream");
  clock.tick(40_000);
  await settled();
  clock.tick(15_000);
  await settled();
  assert.equal(client.linkKind, "long-poll");
});

test("answers of nothing that come at once are not asked for in a storm", async (t) => {
  const { server, clock } = await pageConnectedBy(t, "long-poll");
  server.isHurried = true;
  const before = server.requests.length;
  for (const release of server.held.splice(0)) release();
  for (let second = 0; second < 10; second++) {
    clock.tick(1_000);
    await settled();
  }
  const polls = server.requests.slice(before).filter((request) => request.startsWith("/v1/events?"));
  assert.ok(polls.length <= 11, `${polls.length} polls in 10 s`);
});

test("an answer of nothing to where the feed is now opens no link", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecadoOfAllLinks().conversation("a");
  server.blocked = new Set(["mqtt", "websocket", "event-stream"]);
  const { poll } = server;
  server.poll = async () => ({ status: 204, ok: true });
  const { client } = await page(t, server);
  assert.notEqual(client.state, "online");
  server.poll = poll;
  for (let second = 0; second < 60 && client.state !== "online"; second++) {
    clock.tick(1_000);
    await settled();
  }
  assert.equal(client.linkKind, "long-poll");
});

test("nobody is shown as typing or there while no signals come", async (t) => {
  assert.equal((await pageConnectedBy(t, "long-poll")).client.hasSignals, false);
  assert.equal((await pageConnectedBy(t, "event-stream")).client.hasSignals, true);
});

test("what is missing before an event that comes while the log is read is read as well", async (t) => {
  const { client, server } = await pageConnectedBy(t, "event-stream");
  server.say("a", "bruno", "one");
  await settled();
  const { fetch } = server;
  let answerRead = () => {};
  client.api.fetchFunction = async (url, init) => {
    const response = await fetch(url, init);
    if (url.search.startsWith("?after=")) await new Promise((resolve) => (answerRead = resolve));
    return response;
  };
  void client.reader.fillGap(client.conversations.get("a"));
  await settled();
  server.commit("a", "bruno", { body: "two" });
  server.say("a", "bruno", "three");
  await settled();
  client.api.fetchFunction = fetch;
  answerRead();
  await settled();
  assert.deepEqual(bodies(client, "a"), ["one", "two", "three"]);
});

test("all pages of the list that have news are read after a reconnect", async (t) => {
  const { client, server, clock } = await pageConnectedBy(t, "event-stream");
  const list = () => [...server.logs.keys()].map((id) => server.summary(id));
  server.conversation("b").commit("b", "bruno", { body: "before" });
  server.list = list;
  client.keeper.drop();
  await settled();
  clock.tick(15_000);
  await settled();
  for (const id of ["a", "b"]) server.commit(id, "bruno", { body: `news of ${id}` });
  const { fetch } = server;
  client.api.fetchFunction = async (url, init) => {
    if (url.pathname !== "/v1/conversations") return fetch(url, init);
    const second = url.searchParams.get("cursor") === "second";
    const page = { conversations: list().slice(second ? 1 : 0, second ? 2 : 1), next_cursor: second ? null : "second" };
    return { status: 200, ok: true, json: async () => page };
  };
  client.keeper.drop();
  await settled();
  clock.tick(15_000);
  await settled();
  assert.equal(client.conversations.get("b").cursor, 2);
});

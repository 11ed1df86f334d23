import assert from "node:assert/strict";
import { test } from "node:test";

import { LinkChoice, SHORT_LIFE_MS } from "../../src/recado/web/link-choice.js";
import { climbDelayMs } from "../../src/recado/web/link-climb.js";
import { FakeStorage } from "./fake-recado.js";

const LOST = { why: "lost", reason: "gone" };

/** A choice whose links of these kinds never open, on a server that answers over HTTP. */
function blocked(...kinds) {
  const choice = new LinkChoice(null);
  for (const kind of kinds) {
    assert.equal(choice.kind, kind);
    choice.ended(LOST, null);
    choice.serverAnswered();
  }
  return choice;
}

test("the best kind is tried first", () => {
  assert.equal(new LinkChoice(null).kind, "mqtt");
});

test("a kind that does not open is given up once the server has answered, and not before", () => {
  const choice = new LinkChoice(null);
  choice.ended(LOST, null);
  assert.equal(choice.kind, "mqtt");
  choice.serverAnswered();
  assert.equal(choice.kind, "websocket");
});

test("while the server answers nobody, nothing is concluded", () => {
  const choice = new LinkChoice(null);
  for (let round = 0; round < 5; round++) {
    choice.ended(LOST, null);
    choice.serverAway();
  }
  choice.serverAnswered();
  assert.equal(choice.kind, "mqtt");
});

for (const why of ["token", "server", "closed"])
  test(`an end by "${why}" speaks for no block, however often it comes`, () => {
    const choice = new LinkChoice(null);
    for (let round = 0; round < 5; round++) {
      choice.ended({ why, reason: "" }, round % 2 ? 10 : null);
      choice.serverAnswered();
    }
    assert.equal(choice.kind, "mqtt");
  });

test("a link that opens and dies at once is given up the third time in a row", () => {
  const choice = new LinkChoice(null);
  for (const kind of ["mqtt", "mqtt", "websocket"]) {
    choice.ended(LOST, SHORT_LIFE_MS - 1);
    choice.serverAnswered();
    assert.equal(choice.kind, kind);
  }
});

test("a longer life in between shows that the kind works", () => {
  const choice = new LinkChoice(null);
  for (const livedMs of [10, 10, SHORT_LIFE_MS, 10, 10]) {
    choice.ended(LOST, livedMs);
    choice.serverAnswered();
  }
  assert.equal(choice.kind, "mqtt");
});

test("a link over which nothing came but its opening is given up, however long it stood", () => {
  const choice = blocked("mqtt", "websocket");
  choice.ended({ ...LOST, wasUseless: true }, 40_000);
  choice.serverAnswered();
  assert.equal(choice.kind, "long-poll");
});

test("below the last kind comes the first again", () => {
  assert.equal(blocked("mqtt", "websocket", "event-stream", "long-poll").kind, "mqtt");
});

test("the kinds to climb to are those that are better, the best first", () => {
  assert.deepEqual(blocked("mqtt", "websocket").better(), ["mqtt", "websocket"]);
  assert.deepEqual(new LinkChoice(null).better(), []);
});

test("a kind that was climbed to and dies at once is given up the first time", () => {
  const choice = blocked("mqtt");
  choice.climbed("mqtt");
  choice.ended(LOST, 10);
  choice.serverAnswered();
  assert.equal(choice.kind, "websocket");
});

test("a reload begins with what got through, and with the best again once that did", () => {
  const storage = new FakeStorage();
  const before = new LinkChoice(storage);
  before.ended(LOST, null);
  before.serverAnswered();
  assert.equal(new LinkChoice(storage).kind, "mqtt", "a kind that was only tried is not remembered");
  before.opened();
  assert.equal(new LinkChoice(storage).kind, "websocket");
  before.climbed("mqtt");
  assert.equal(new LinkChoice(storage).kind, "mqtt");
});

test("a storage that refuses, or holds something else, costs nothing", () => {
  const refusing = {
    getItem: () => "carrier-pigeon",
    setItem() {
      throw new Error("full");
    },
  };
  const choice = new LinkChoice(refusing);
  assert.equal(choice.kind, "mqtt");
  choice.kind = "websocket";
  choice.opened();
});

test("climbing is tried ever more rarely, within bounds, and not by all pages at one moment", () => {
  const [earliest, latest] = [() => 0, () => 1];
  assert.deepEqual([climbDelayMs(0, earliest), climbDelayMs(0, latest)], [22_500, 37_500]);
  assert.deepEqual([climbDelayMs(1, earliest), climbDelayMs(1, latest)], [45_000, 75_000]);
  assert.deepEqual([climbDelayMs(50, earliest), climbDelayMs(50, latest)], [450_000, 750_000]);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { ConversationLog } from "../../src/recado/web/conversation-log.js";
import { fakeClock } from "./fake-clock.js";
import { logWith, message, summary } from "./log-entries.js";

const read = (from, seq) => ({ type: "read", from, seq });
const delivered = (from, seq) => ({ type: "delivered", from, seq });

function log(members, ...signals) {
  const conversation = new ConversationLog(summary({ members }), "ana");
  for (const signal of signals) conversation.receiveSignal(signal);
  return conversation;
}

test("a message is stored, then delivered, then read", () => {
  const conversation = log(["ana", "bruno"]);
  assert.deepEqual(conversation.receiptOf(2), { receipt: "stored", seenBy: [] });
  conversation.receiveSignal(delivered("bruno", 2));
  assert.equal(conversation.receiptOf(2).receipt, "delivered");
  assert.equal(conversation.receiptOf(3).receipt, "stored");
  conversation.receiveSignal(read("bruno", 2));
  assert.deepEqual(conversation.receiptOf(2), { receipt: "read" });
});

test("what was read counts as delivered, whatever comes first", () => {
  const conversation = log(["ana", "bruno", "carla"], read("bruno", 5), delivered("carla", 5));
  assert.equal(conversation.receiptOf(5).receipt, "delivered");
});

test("a receipt never goes back, by a late signal or an older answer", () => {
  const conversation = log(["ana", "bruno"], read("bruno", 5), read("bruno", 3), delivered("bruno", 4));
  conversation.receipts.take({ user: "bruno", delivered_up_to: 1, read_up_to: 1 });
  assert.equal(conversation.receiptOf(5).receipt, "read");
});

test("among several it is read when all have read it, and until then it says who has", () => {
  const conversation = log(["ana", "bruno", "carla"], read("bruno", 2), delivered("carla", 1));
  assert.deepEqual(conversation.receiptOf(2), { receipt: "stored", seenBy: ["bruno"] });
  conversation.receiveSignal(read("carla", 2));
  assert.deepEqual(conversation.receiptOf(2), { receipt: "read" });
});

test("who joins later takes no tick back from what was read before, and who leaves holds none up", () => {
  const conversation = logWith(message(1, "ana"));
  conversation.receiveSignal(read("bruno", 1));
  conversation.receive({ seq: 2, from: null, at: 2, type: "member_added", user: "carla" });
  conversation.receive(message(3, "ana"));
  assert.equal(conversation.receiptOf(1).receipt, "read");
  conversation.receiveSignal(read("bruno", 3));
  assert.equal(conversation.receiptOf(3).receipt, "stored");
  conversation.receive({ seq: 4, from: null, at: 4, type: "member_removed", user: "carla" });
  assert.equal(conversation.receiptOf(3).receipt, "read");
});

test("in a conversation of too many members nothing is told", () => {
  const conversation = new ConversationLog(summary({ online: undefined }), "ana");
  conversation.receiveSignal(read("bruno", 9));
  assert.deepEqual(conversation.receiptOf(1), {});
});

test("a message to nobody else is only stored", () => {
  assert.equal(log(["ana"]).receiptOf(1).receipt, "stored");
});

test("presence follows the signals, remembers when somebody was last seen, and starts anew with a new view", () => {
  const conversation = new ConversationLog(summary({ online: ["ana", "bruno"] }), "ana");
  assert.deepEqual(conversation.online(), ["bruno"]);
  conversation.receiveSignal({ type: "presence", from: "bruno", online: false, last_seen: 700 });
  assert.deepEqual(conversation.online(), []);
  conversation.update(summary({ online: [] }));
  assert.equal(conversation.presence.lastSeen.get("bruno"), 700);
  conversation.update(summary({ online: ["bruno"] }));
  assert.deepEqual(conversation.online(), ["bruno"]);
  assert.equal(conversation.presence.lastSeen.has("bruno"), false);
});

test("a sign of typing holds as long as it says, within bounds, and a message or a removal ends it", (t) => {
  const clock = fakeClock(t);
  const conversation = logWith();
  const typing = (for_ms) => conversation.receiveSignal({ type: "typing", from: "bruno", for_ms });
  assert.equal(typing(6_000), 6_000);
  clock.tick(5_999);
  assert.deepEqual(conversation.typists(), ["bruno"]);
  clock.tick(1);
  assert.deepEqual(conversation.typists(), []);
  assert.equal(typing(86_400_000), 30_000);
  conversation.receive(message(1));
  assert.deepEqual(conversation.typists(), []);
  typing(6_000);
  conversation.receive({ seq: 2, from: null, at: 2, type: "member_removed", user: "bruno" });
  assert.deepEqual(conversation.typists(), []);
});

test("one's own typing in another tab is not shown", () => {
  const conversation = logWith();
  assert.equal(conversation.receiveSignal({ type: "typing", from: "ana", for_ms: 6_000 }), 0);
  assert.deepEqual(conversation.typists(), []);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { retryDelayMs } from "../../src/recado/web/backoff.js";
import { ConversationLog } from "../../src/recado/web/conversation-log.js";
import { message, summary } from "./log-entries.js";

const seqs = (events) => events.map(({ seq }) => seq);

test("events in any order become one log without a hole", () => {
  const log = new ConversationLog(summary(), "ana");
  const applied = [3, 1, 1, 5, 2, 4, 3].flatMap((seq) => log.receive(message(seq)));
  assert.deepEqual(seqs(applied), [1, 2, 3, 4, 5]);
  assert.deepEqual(seqs(log.events), [1, 2, 3, 4, 5]);
  assert.equal(log.hasGap, false);
});

test("history goes before what is there, and an overlap is not doubled", () => {
  const log = new ConversationLog(summary({ last_seq: 4 }), "ana");
  log.receive(message(5));
  log.prepend([message(3), message(4), message(5)]);
  assert.deepEqual(seqs(log.events), [3, 4, 5]);
});

test("a summary that already counts an event which is still on its way does not count it twice", () => {
  const log = new ConversationLog(summary(), "ana");
  log.update(summary({ last_seq: 1, unread_count: 1 }));
  log.receive(message(1));
  assert.equal(log.summary.unread_count, 1);
});

test("a summary that is older than the last event does not take it back", () => {
  const log = new ConversationLog(summary(), "ana");
  log.receive(message(1));
  log.receive(message(2));
  log.update(summary({ last_seq: 1, unread_count: 1 }));
  assert.equal(log.summary.last_seq, 2);
  assert.equal(log.summary.unread_count, 2);
});

test("one's own messages and system events are never unread", () => {
  const log = new ConversationLog(summary(), "ana");
  log.receive(message(1, "ana"));
  log.receive({ seq: 2, from: null, at: 2, type: "member_added", user: "carla" });
  log.receive(message(3, "carla"));
  assert.equal(log.summary.unread_count, 1);
  assert.deepEqual(log.summary.members, ["ana", "bruno", "carla"]);
});

test("reading never goes back", () => {
  const log = new ConversationLog(summary(), "ana");
  [1, 2, 3].forEach((seq) => log.receive(message(seq)));
  assert.equal(log.markRead(2), true);
  assert.equal(log.summary.unread_count, 1);
  assert.equal(log.markRead(1), false);
  log.update(summary({ last_seq: 3, read_up_to: 0, unread_count: 3 }));
  assert.equal(log.summary.unread_count, 1);
});

test("the wait before a retry lies between half a second and 15 seconds whatever the attempt", () => {
  for (let attempt = 0; attempt < 2_000; attempt++) {
    for (const random of [0, 0.5, 1]) {
      const ms = retryDelayMs(attempt, () => random);
      assert.ok(ms >= 500 && ms <= 15_000, `${ms} ms`);
    }
  }
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { ConversationLog } from "../../src/recado/web/conversation-log.js";
import { logWith, message } from "./log-entries.js";

const edited = (seq, target, body) => ({ seq, from: "bruno", at: seq, type: "edited", target, body });
const deleted = (seq, target, from = "bruno") => ({ seq, from, at: seq, type: "deleted", target });
const entry = (log, seq) => log.events.find((event) => event.seq === seq);

test("an edit changes its message in place and says when", () => {
  const log = logWith(message(1), message(2), edited(3, 1, "new"));
  assert.deepEqual(entry(log, 1), { ...message(1), body: "new", edited_at: 3 });
  assert.deepEqual(entry(log, 2), message(2));
});

test("of two edits the later one stays, also when history already shows it and the earlier one comes after", () => {
  const log = new ConversationLog({ ...logWith().summary, last_seq: 4 }, "ana");
  log.receive(edited(5, 3, "first"));
  log.prepend([{ ...message(3), body: "second", edited_at: 9 }, message(4)]);
  assert.equal(entry(log, 3).body, "second");
});

test("a page of history that was read before an edit and a delete arrived gets both", () => {
  const log = new ConversationLog({ ...logWith().summary, last_seq: 2 }, "ana");
  log.receive(edited(3, 1, "new"));
  log.receive(deleted(4, 2));
  log.prepend([message(1), message(2)]);
  assert.equal(entry(log, 1).body, "new");
  assert.equal(entry(log, 2).type, "deleted");
});

test("of a deleted message only its place is left: no body, in no entry", () => {
  const log = logWith(message(1), edited(2, 1, "a secret"), deleted(3, 1));
  assert.deepEqual(entry(log, 1), { seq: 1, from: "bruno", at: 1, id: "m1", type: "deleted" });
  assert.doesNotMatch(JSON.stringify(log.events), /secret|body/);
});

test("a deleted message does not come back to life by an edit", () => {
  const log = logWith(message(1), deleted(2, 1), edited(3, 1, "again"));
  assert.equal(entry(log, 1).type, "deleted");
  assert.equal(entry(log, 1).body, undefined);
});

test("an edit whose target was deleted since comes without a body and changes nothing", () => {
  const log = logWith({ seq: 1, from: "bruno", at: 1, id: "m1", type: "deleted" }, edited(2, 1, undefined));
  assert.deepEqual(entry(log, 1), { seq: 1, from: "bruno", at: 1, id: "m1", type: "deleted" });
});

test("a change of a message that is not there changes nothing else", () => {
  const log = logWith(message(1), deleted(2, 77), edited(3, 78, "x"));
  assert.deepEqual(entry(log, 1), message(1));
});

test("an erased person's messages are gone, and nobody else's", () => {
  const log = logWith(
    message(1, "bruno"),
    message(2, "ana"),
    { seq: 3, from: null, at: 3, type: "member_removed", user: "bruno" },
    { seq: 4, from: null, at: 4, type: "user_erased", user: "bruno" },
  );
  assert.deepEqual(
    log.events.map(({ type }) => type),
    ["deleted", undefined, "member_removed", "user_erased"],
  );
  assert.equal(entry(log, 1).body, undefined);
});

test("an unread message that is deleted is not counted any more, and only once", () => {
  const log = logWith(message(1), message(2));
  log.receive(deleted(3, 1));
  assert.equal(log.summary.unread_count, 1);
  log.receive(deleted(3, 1));
  assert.equal(log.summary.unread_count, 1);
  log.markRead(2);
  log.receive(deleted(4, 2));
  assert.equal(log.summary.unread_count, 0);
});

test("of an erased conversation nothing stays, even if events before the end are missing", () => {
  const log = logWith(message(1), message(2));
  log.receive({ seq: 9, from: null, at: 9, type: "conversation_erased" });
  assert.deepEqual(log.events, []);
  assert.equal(log.removed && log.erased, true);
  assert.equal(log.hasOlder, false);
  assert.equal(log.summary.unread_count, 0);
});

test("a log that begins late, or has holes, is taken as the server has it", () => {
  const log = logWith();
  log.receive(message(12));
  log.receivePage([message(5), message(6), message(9)]);
  assert.deepEqual(
    log.events.map(({ seq }) => seq),
    [5, 6, 9],
  );
  log.acceptHole();
  assert.equal(log.cursor, 12);
  assert.equal(log.hasGap, false);
});

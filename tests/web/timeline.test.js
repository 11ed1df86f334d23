import assert from "node:assert/strict";
import { test } from "node:test";

import { linkPieces } from "../../src/recado/web/format.js";
import { nameFromId } from "../../src/recado/web/people.js";
import { timelineRows } from "../../src/recado/web/timeline.js";
import { people } from "./log-entries.js";

const noon = new Date(2026, 10, 23, 12).getTime();
const message = (seq, from, minutes = 0) => ({
  seq,
  from,
  at: noon + minutes * 60_000,
  id: `m${seq}`,
  body: `b${seq}`,
});
const rows = (events, fields = {}) => timelineRows({ events, outbox: [], people: people("ana"), unreadAfter: null, ...fields });
const kinds = (list) => list.map(({ kind }) => kind);

test("each day begins with its line", () => {
  const list = rows([message(1, "ana"), message(2, "ana", 60), message(3, "bruno", 24 * 60)]);
  assert.deepEqual(kinds(list), ["day", "message", "message", "day", "message"]);
});

test("messages of one sender within minutes are one group", () => {
  const list = rows([
    message(1, "bruno"),
    message(2, "bruno", 1),
    message(3, "ana", 2),
    message(4, "bruno", 3),
    message(5, "bruno", 30),
  ]);
  const groups = list.filter(({ kind }) => kind === "message").map(({ first, last }) => [first, last]);
  assert.deepEqual(groups, [
    [true, false],
    [false, true],
    [true, true],
    [true, true],
    [true, true],
  ]);
});

test("the line for new messages stands before the first unread one of somebody else", () => {
  const list = rows([message(1, "bruno"), message(2, "ana"), message(3, "bruno")], { unreadAfter: 1 });
  assert.deepEqual(kinds(list), ["day", "message", "message", "unread", "message"]);
});

test("a message keeps its key from the outbox to the log", () => {
  const waiting = { id: "m9", conversation: "a", body: "x", at: noon, order: 0, status: "sending" };
  const [, before] = rows([], { outbox: [waiting] });
  const [, after] = rows([{ ...message(9, "ana"), id: "m9" }]);
  assert.equal(before.key, after.key);
  assert.deepEqual([before.status, before.seq, after.status, after.seq], ["sending", undefined, "sent", 9]);
});

test("an event of an unknown type is not drawn", () => {
  assert.deepEqual(kinds(rows([{ seq: 1, from: "ana", at: noon, type: "a_type_of_tomorrow" }])), []);
});

test("only http and https addresses become links, and the text stays whole", () => {
  const text = "see https://example.com/a?b=1, (http://example.org) javascript:alert(1) data:text/html,x ftp://no";
  const pieces = linkPieces(text);
  assert.equal(pieces.map((piece) => piece.text).join(""), text);
  assert.deepEqual(
    pieces.filter(({ href }) => href).map((piece) => piece.text),
    ["https://example.com/a?b=1", "http://example.org"],
  );
});

test("a user id that is words is shown as a name, and any other as it is", () => {
  assert.deepEqual(["ana", "elias_moreira", "user-4711", "McX"].map(nameFromId), [
    "Ana",
    "Elias Moreira",
    "user-4711",
    "McX",
  ]);
});

test("who has a name is called by it in messages, lines and receipts, the user is You, the host is the shop", () => {
  const known = people("ana", { ana: "Ana Souza", bruno: "Bruno Lima", carla: "Carla ☕" });
  const added = { seq: 3, from: "bruno", at: noon, type: "member_added", user: "carla" };
  const list = rows([message(1, "ana"), message(2, "bruno"), added, message(4, null), message(5, "dora")], {
    people: known,
    receiptOf: () => ({ receipt: "delivered", seenBy: ["bruno", "dora"] }),
  });
  const named = list.filter(({ kind }) => kind === "message").map(({ name }) => name);
  assert.deepEqual(named, ["You", "Bruno Lima", "The shop", "Dora"]);
  assert.deepEqual(list[1].seenBy, ["Bruno Lima", "Dora"]);
  assert.equal(list.find(({ kind }) => kind === "system").text, "Bruno Lima added Carla ☕");
});

test("an edited message shows its body with the time of the edit, and edits and deletes have no row of their own", () => {
  const list = rows([
    { ...message(1, "ana"), body: "new", edited_at: noon + 60_000 },
    { seq: 2, from: "ana", at: noon, type: "edited", target: 1, body: "new" },
    { seq: 3, from: "bruno", at: noon, type: "deleted", target: 9 },
  ]);
  assert.deepEqual(kinds(list), ["day", "message"]);
  assert.deepEqual([list[1].body, list[1].editedAt], ["new", noon + 60_000]);
});

test("a deleted message keeps its row and its key, and the line for new messages stays where it stood", () => {
  const events = [message(1, "bruno"), message(2, "bruno"), message(3, "bruno")];
  const before = rows(events, { unreadAfter: 1 });
  events[1] = { ...events[1], type: "deleted", body: undefined };
  const after = rows(events, { unreadAfter: 1 });
  assert.deepEqual(
    after.map(({ key }) => key),
    before.map(({ key }) => key),
  );
  assert.deepEqual([after[3].deleted, after[4].deleted], [true, undefined]);
});

test("own messages have a receipt; the others' and deleted ones have none", () => {
  const tombstone = { seq: 3, from: "ana", at: noon, id: "m3", type: "deleted" };
  const list = rows([message(1, "ana"), message(2, "bruno"), tombstone], { receiptOf: () => ({ receipt: "read" }) });
  assert.deepEqual(
    list.map(({ receipt }) => receipt),
    [undefined, "read", undefined, undefined],
  );
});

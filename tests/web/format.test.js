import assert from "node:assert/strict";
import { test } from "node:test";

import { initials, lastSeen, memberLine, shortName, snippetOf } from "../../src/recado/web/format.js";
import { message, people, summary } from "./log-entries.js";

test("the user comes first among the members, whoever joined first", () => {
  assert.equal(memberLine(["ana", "bruno"], people("ana")), "You and Bruno");
  assert.equal(memberLine(["ana", "bruno"], people("bruno")), "You and Ana");
});

test("the others keep the order of joining, and the user is among the names shown", () => {
  assert.equal(memberLine(["dora", "ana", "carla", "bruno", "you-know"], people("you-know")), "You, Dora, Ana, Carla and 1 more");
});

test("a face has the first letters of the first two words of a name, whatever script they are in", () => {
  assert.deepEqual(["Ana", "ana souza lima", "user-4711", "李 小龙", "𝒜da 😀x", ""].map(initials), ["A", "AS", "U4", "李小", "𝒜😀", "?"]);
});

test("when somebody was last seen is said by the time today, and by the day after that", () => {
  const now = new Date(2026, 10, 23, 18).getTime();
  const ago = (/** @type {number} */ days) => lastSeen(new Date(2026, 10, 23 - days, 10, 5).getTime(), now);
  assert.match(ago(0), /^last seen at 10:05/);
  assert.match(ago(1), /^last seen yesterday at 10:05/);
  assert.equal(ago(3), "last seen on Friday");
  assert.match(ago(30), /^last seen on .*Oct/);
});

test("between two a message of the other's stands in the list without a name, and an own one with You", () => {
  const known = people("ana", { bruno: "Bruno de Albuquerque e Vasconcelos" });
  const snippet = (event, fields) => snippetOf(summary({ last_event: event, ...fields }), known);
  assert.equal(snippet(message(2, "bruno")), "body 2");
  assert.equal(snippet(message(2, "ana")), "You: body 2");
  assert.equal(snippet({ ...message(2), from: null }), "The shop: body 2");
  assert.equal(snippet(message(2, "carla")), "Carla: body 2", "she has left: it is not the other's");
  assert.equal(snippet({ seq: 2, from: "bruno", type: "deleted", target: 1 }), "Bruno deleted a message");
});

test("among more than two the list says by a short name who wrote", () => {
  const last = summary({ members: ["ana", "bruno", "carla"], last_event: message(2, "bruno") });
  assert.equal(snippetOf(last, people("ana", { bruno: "Bruno de Albuquerque e Vasconcelos" })), "Bruno: body 2");
});

test("a short name is the first word, and a word too long for a line is cut between letters", () => {
  const names = ["Ana Souza", "Ana", " 李 小龙", "user-4711", "", "0f8fad5b-d9cb-469f-a165", "😀".repeat(13)];
  const cut = `${"😀".repeat(11)}…`;
  assert.deepEqual(names.map(shortName), ["Ana", "Ana", "李", "user-4711", "", "0f8fad5b-d9…", cut]);
});

test("the list says what was changed last, in words", () => {
  const snippets = [
    { seq: 2, from: "ana", at: 0, type: "edited", target: 1, body: "new" },
    { seq: 2, from: "bruno", at: 0, type: "edited", target: 1 },
    { seq: 2, from: "bruno", at: 0, type: "deleted", target: 1 },
    { seq: 2, from: "bruno", at: 0, id: "m2", type: "deleted" },
    { seq: 2, from: null, at: 0, type: "user_erased", user: "bruno" },
  ].map((event) => snippetOf(summary({ last_event: event }), people("ana")));
  assert.deepEqual(snippets, [
    "You edited: new",
    "Bruno edited a message",
    "Bruno deleted a message",
    "Message deleted",
    "The messages of Bruno were deleted",
  ]);
});

import assert from "node:assert/strict";
import { test } from "node:test";

import { initials, lastSeen, memberLine } from "../../src/recado/web/format.js";
import { people } from "./log-entries.js";

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

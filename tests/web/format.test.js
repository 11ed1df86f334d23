import assert from "node:assert/strict";
import { test } from "node:test";

import { memberLine } from "../../src/recado/web/format.js";

test("the user comes first among the members, whoever joined first", () => {
  assert.equal(memberLine(["ana", "bruno"], "ana"), "You and Bruno");
  assert.equal(memberLine(["ana", "bruno"], "bruno"), "You and Ana");
});

test("the others keep the order of joining, and the user is among the names shown", () => {
  assert.equal(memberLine(["dora", "ana", "carla", "bruno", "you-know"], "you-know"), "You, Dora, Ana, Carla and 1 more");
});

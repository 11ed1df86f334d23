import assert from "node:assert/strict";
import { test } from "node:test";

import { LinkClimb } from "../../src/recado/web/link-climb.js";
import { fakeClock } from "./fake-clock.js";

const LATEST_SECOND_CLIMB_MS = 75_000;

test("a climb that throws is not the last", async (t) => {
  const clock = fakeClock(t);
  let climbs = 0;
  const climb = new LinkClimb(
    () => true,
    async () => {
      if (++climbs === 1) throw new Error("of a listener");
    },
  );
  await assert.rejects(climb.climb(), /of a listener/);
  clock.tick(LATEST_SECOND_CLIMB_MS);
  assert.equal(climbs, 2);
});

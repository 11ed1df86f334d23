import assert from "node:assert/strict";
import { test } from "node:test";

import { ConversationFinder } from "../../src/recado/web/conversation-finder.js";
import { ApiError } from "../../src/recado/web/http-api.js";
import { message, summary } from "./log-entries.js";

/** One that asks `lookUp`; what is found takes the events that wait, as the page does. */
function finderThat(lookUp, { listed = [] } = {}) {
  const [asked, found, failed] = [[], [], []];
  const api = { conversation: (id) => (asked.push(id), lookUp(id)) };
  const finder = new ConversationFinder(api, {
    isKnown: (id) => found.some(([known]) => known === id),
    listRead: async () => listed.splice(0).forEach(onFound),
    onFound,
    onFailed: (error) => failed.push(error.code),
  });
  function onFound({ id }) {
    found.push([id, finder.takeEarly(id).map(({ seq }) => seq)]);
  }
  return { finder, asked, found, failed };
}

const refusing = (status, code) => () => Promise.reject(new ApiError(status, code, ""));

test("what comes of a conversation that is being looked up waits for it, in order", async () => {
  const { finder, asked, found } = finderThat(async (id) => summary({ id }));
  await Promise.all([1, 2, 3].map((seq) => finder.receive("a", message(seq))));
  assert.deepEqual([asked, found], [["a"], [["a", [1, 2, 3]]]]);
});

test("a conversation that the list brings meanwhile is not asked for", async () => {
  const { finder, asked, found } = finderThat(async (id) => summary({ id }), { listed: [summary({ id: "a" })] });
  await finder.receive("a", message(1));
  assert.deepEqual([asked, found], [[], [["a", [1]]]]);
  assert.deepEqual(finder.takeEarly("a"), [], "what waited is taken once");
});

for (const status of [400, 404])
  test(`a conversation that the server answers with ${status} is none of the user's: no failure`, async () => {
    const { finder, found, failed } = finderThat(refusing(status, "no"));
    assert.equal(await finder.find("a"), false);
    await finder.receive("a", message(1));
    assert.deepEqual([found, failed], [[], []]);
  });

test("a look-up that fails is told, and the next event tries anew without what came before", async () => {
  let lookUp = refusing(0, "unreachable");
  const { finder, found, failed } = finderThat((id) => lookUp(id));
  await assert.rejects(finder.find("a"), { code: "unreachable" });
  await finder.receive("a", message(1));
  lookUp = async (id) => summary({ id });
  await finder.receive("a", message(2));
  assert.deepEqual([failed, found], [["unreachable"], [["a", [2]]]]);
});

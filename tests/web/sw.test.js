import assert from "node:assert/strict";
import { test } from "node:test";

import { openPage, serviceWorker } from "./service-worker.js";

const NOTICE = {
  ...{ conversation: "order-4711", subject: "Order 4711", seq: 42 },
  ...{ from: "ana", name: "Ana Souza", body: "Chegou!", at: 1_790_000_000_123 },
};
const push = (notice) => ({ data: { json: () => notice } });

test("a notice shows who wrote, about what, and the text, one notification to a conversation", async () => {
  const { dispatch, shown } = serviceWorker();
  await dispatch("push", push(NOTICE));
  const [{ title, body, tag, timestamp, data }] = shown;
  assert.deepEqual(
    [title, body, tag, timestamp, data.conversation],
    ["Ana Souza · Order 4711", "Chegou!", "order-4711", 1_790_000_000_123, "order-4711"],
  );
});

test("without a subject the title is the name alone", async () => {
  const { dispatch, shown } = serviceWorker({ pages: [openPage("hidden")] });
  await dispatch("push", push({ ...NOTICE, subject: null }));
  assert.equal(shown[0].title, "Ana Souza");
});

test("nothing is shown while a page is on the screen, nor for a push without a notice", async () => {
  const { dispatch, shown } = serviceWorker({ pages: [openPage("hidden"), openPage("visible")] });
  await dispatch("push", push(NOTICE));
  await dispatch("push", { data: null });
  assert.deepEqual(shown, []);
});

test("a click brings the page that is open to the front and has it open the conversation", async () => {
  const [used, other] = [openPage("hidden"), openPage("hidden")];
  const { dispatch, opened } = serviceWorker({ pages: [used, other] });
  let closed = 0;
  await dispatch("notificationclick", { notification: { data: { conversation: "a" }, close: () => (closed += 1) } });
  assert.deepEqual([closed, used.focused, used.told], [1, true, [{ type: "open", conversation: "a" }]]);
  assert.deepEqual([other.focused, other.told, opened], [false, [], []]);
});

test("a click with no page open opens one at the conversation, where the last one began", async () => {
  const click = { notification: { data: { conversation: "a" }, close() {} } };
  const bare = serviceWorker();
  await bare.dispatch("notificationclick", click);
  assert.deepEqual(bare.opened, ["./#conversation=a"]);
  const begun = serviceWorker({ kept: { start: "demo=xyz&conversation=b" } });
  await begun.dispatch("notificationclick", click);
  assert.deepEqual(begun.opened, ["./#demo=xyz&conversation=a"]);
});

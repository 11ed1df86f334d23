import assert from "node:assert/strict";
import { test } from "node:test";

import { PagePresence } from "../../src/recado/web/page-presence.js";
import { page } from "./client-page.js";
import { FakeRecadoWithBroker } from "./fake-broker.js";
import { fakeClock } from "./fake-clock.js";
import { FakeRecado, answer, settled } from "./fake-recado.js";

/** A page that reports itself to a server that answers when the test says so. */
function reporting(t) {
  const clock = fakeClock(t);
  const screen = { visible: true };
  const said = [];
  const answers = [];
  const api = {
    reportPage: (id, visible) => {
      said.push(visible);
      return new Promise((resolve, reject) => answers.push({ resolve, reject }));
    },
    reportPageClosed: async () => void said.push("closed"),
  };
  const presence = new PagePresence(api, "page-1", () => screen.visible);
  t.after(() => presence.stop());
  const answered = async (renew_s = 30) => {
    answers.shift().resolve({ renew_s });
    await settled();
  };
  return { presence, screen, said, answers, answered, clock };
}

test("a page says that it is open at once, and again each time before the server forgets it", async (t) => {
  const { presence, said, answered, clock } = reporting(t);
  presence.start();
  assert.deepEqual(said, [true]);
  await answered(20);
  clock.tick(19_999);
  assert.deepEqual(said, [true]);
  clock.tick(1);
  assert.deepEqual(said, [true, true]);
});

test("a change is said at once, and one that happens while a report is under way right after it", async (t) => {
  const { presence, screen, said, answered } = reporting(t);
  presence.start();
  await answered();
  screen.visible = false;
  presence.changed();
  assert.deepEqual(said, [true, false]);
  screen.visible = true;
  presence.changed();
  assert.deepEqual(said, [true, false], "two at once may arrive in the other order");
  await answered();
  assert.deepEqual(said, [true, false, true]);
});

test("a report that fails is made again at the next turn", async (t) => {
  const { presence, said, answers, clock } = reporting(t);
  presence.start();
  answers.shift().reject(new Error("unreachable"));
  await settled();
  assert.deepEqual(said, [true]);
  clock.tick(30_000);
  assert.deepEqual(said, [true, true]);
});

test("a page that is left says so and nothing more; one that comes back begins anew", async (t) => {
  const { presence, said, answered, clock } = reporting(t);
  presence.start();
  presence.left();
  await answered();
  clock.tick(100_000);
  assert.deepEqual(said, [true, "closed"]);
  presence.entered();
  assert.deepEqual(said, [true, "closed", true]);
});

test("at an external broker a page reports itself, by an id that is its own, until its user signs out", async (t) => {
  fakeClock(t);
  const server = new FakeRecadoWithBroker().conversation("a");
  const { client } = await page(t, server);
  const [{ page: id, visible }] = server.reported("page");
  assert.match(id, /^[\w-]{16}$/);
  assert.equal(visible, false, "there is no screen here");
  client.stop();
  await settled();
  assert.deepEqual(server.reported("page closed"), [{ page: id }]);
});

test("a token that has ended signs its user out, though an external broker goes on", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeRecadoWithBroker().conversation("a");
  const { client, changes } = await page(t, server);
  server.refuseTokens = true;
  clock.tick(30_000);
  await settled();
  assert.deepEqual(changes.at(-1), { kind: "signed-out", why: "refused" });
  assert.equal(client.linkKind, null);
});

for (const [key, reports] of [
  ["BPublicKey", 1],
  [null, 0],
])
  test(`at Recado's own broker a page reports itself ${reports ? "where" : "only where"} there is web push`, async (t) => {
    fakeClock(t);
    const server = new FakeRecado().conversation("a");
    const asked = server.fetch;
    let pages = 0;
    server.fetch = async (url, init) => {
      if (url.pathname === "/v1/push") return answer(200, { public_key: key });
      if (url.pathname !== "/v1/presence") return asked(url, init);
      pages += 1;
      return answer(200, { renew_s: 30 });
    };
    const { client } = await page(t, server);
    await settled();
    assert.equal(await client.pushKey, key);
    assert.equal(pages, reports);
  });

/** A page's client on a fake Recado, for the tests. */

import { ConversationClient } from "../../src/recado/web/conversation-client.js";
import { FakeStorage, settled } from "./fake-recado.js";

/** A page with a client on `server`; `storage` is what a reload keeps. */
export async function page(t, server, storage = new FakeStorage()) {
  const client = new ConversationClient({
    baseUrl: "http://fake/",
    tokens: server.tokens,
    storage,
    openSocket: server.openSocket,
    fetchFunction: server.fetch,
    hasNetwork: () => !server.unreachable,
    random: () => 1,
  });
  const changes = [];
  client.onChange((change) => changes.push(change));
  client.start();
  t.after(() => client.stop());
  await settled();
  return { client, changes, storage };
}

export const bodies = (client, id) => client.conversations.get(id).events.map(({ body }) => body);

export async function reconnected(clock) {
  await settled();
  clock.tick(15_000);
  await settled();
}

// The chat on the shop's order page: the shop gives the token, Recado the messages.

const { recado, order, user } = document.body.dataset;
const { ConversationClient, SignedOut } = await import(`${recado}/conversation-client.js`);
const conversation = `order-${order}`;
const [messages, write, state] = ["messages", "write", "state"].map((id) => document.getElementById(id));

let current = null;
/** `renew`: Recado has refused the last token. Any error but SignedOut is tried again. */
async function token(renew) {
  if (current !== null && !renew) return current;
  const answer = await fetch(`/orders/${order}/token?user=${user}`);
  if (answer.status >= 400 && answer.status < 500) throw new SignedOut("refused");
  if (!answer.ok) throw new Error(await answer.text());
  return (current = (await answer.json()).token);
}

const client = new ConversationClient({ baseUrl: `${recado}/`, tokens: { token }, storage: localStorage });

function draw(change) {
  state.textContent = change.kind === "signed-out" ? "Please sign in again." : client.state;
  const log = client.conversations.get(conversation);
  if (log && document.visibilityState === "visible") client.markRead(conversation, log.cursor);
  const shown = (log?.events ?? []).filter(({ type }) => type === undefined);
  const lines = shown.map(({ from, body }) => `${client.people.called(from)}: ${body}`);
  for (const { body, status } of client.outbox.of(conversation)) lines.push(`${client.people.called(client.me)}: ${body} (${status})`);
  messages.replaceChildren(...lines.map(line));
}

function line(text) {
  const item = document.createElement("li");
  item.textContent = text; // never innerHTML: people write what they like
  return item;
}

write.onsubmit = (event) => {
  event.preventDefault();
  if (write.body.value.trim() !== "") client.send(conversation, write.body.value);
  write.reset();
};

client.onChange(draw);
client.start();
await client.open(conversation);

// @ts-check
/** The page: signs in, starts the client, and draws what has changed, once per turn of the event loop. */

import { ConversationClient } from "./conversation-client.js";
import { ConversationList, showMe } from "./conversation-list.js";
import { ConversationView } from "./conversation-view.js";
import { byId } from "./element.js";
import { Router } from "./router.js";
import { DemoTokens, PastedToken } from "./sign-in.js";
import { TEXTS } from "./texts.js";

/** @import {Change} from "./conversation-client.js" */
/** @import {SignedOut, TokenSource} from "./http-api.js" */

const baseUrl = new URL(".", document.baseURI).href;
const router = new Router((conversation) => void routed(conversation));
const pasted = new PastedToken(sessionStorage);

/** @type {{client: ConversationClient, list: ConversationList, view: ConversationView} | null} */
let running = null;
let drawPending = false;

/**
 * @param {() => Storage} storage
 * @returns {Storage | null} null if the user's settings forbid it
 */
function allowed(storage) {
  try {
    return storage();
  } catch {
    return null;
  }
}

/** @param {TokenSource} tokens */
function start(tokens) {
  byId("sign-in-screen", HTMLElement).hidden = true;
  byId("panes", HTMLDivElement).hidden = false;
  byId("sign-out", HTMLButtonElement).hidden = tokens !== pasted;
  const storage = allowed(() => localStorage);
  const client = new ConversationClient({ baseUrl, tokens, storage, tabStorage: allowed(() => sessionStorage) });
  running = { client, list: new ConversationList(client, router), view: new ConversationView(client) };
  client.onChange(changed);
  showScreen();
  showConnection();
  client.start();
  const stopWaiting = client.onChange(() => {
    if (!client.listLoaded) return;
    stopWaiting();
    showMe(client.me);
    void routed(router.conversation);
  });
}

/** @param {SignedOut["why"]} why */
function showSignIn(why) {
  running?.client.stop();
  running = null;
  byId("panes", HTMLDivElement).hidden = true;
  byId("sign-in-screen", HTMLElement).hidden = false;
  document.body.dataset.screen = "sign-in";
  document.title = TEXTS.product;
  byId("connection-state", HTMLParagraphElement).textContent = "";
  const refusedDemo = router.demoCode !== null && why === "refused";
  byId("sign-in-error", HTMLParagraphElement).textContent = refusedDemo ? TEXTS.demoLinkRefused : TEXTS.signedOut[why];
  byId("token", HTMLInputElement).focus();
}

/** @param {SubmitEvent} event */
function signIn(event) {
  event.preventDefault();
  const field = byId("token", HTMLInputElement);
  pasted.keep(field.value.trim());
  router.forgetDemo();
  field.value = "";
  start(pasted);
}

function signOut() {
  pasted.forget();
  showSignIn("missing");
}

/** @param {Change} change */
function changed(change) {
  if (change.kind === "signed-out") return showSignIn(change.why);
  if (change.kind === "state") showConnection();
  if (drawPending) return;
  drawPending = true;
  queueMicrotask(draw);
}

function draw() {
  drawPending = false;
  if (!running) return;
  running.list.render();
  running.view.render();
  document.title = TEXTS.title(running.client.unreadTotal());
}

function showConnection() {
  if (!running) return;
  const { state, linkKind } = running.client;
  const line = byId("connection-state", HTMLParagraphElement);
  line.dataset.state = state;
  line.dataset.link = linkKind ?? "";
  line.textContent = (state === "online" && linkKind && TEXTS.links[linkKind]) || TEXTS.connection[state];
}

/** @param {string | null} conversation */
async function routed(conversation) {
  if (!running?.client.listLoaded) return;
  const { list, view } = running;
  const before = view.id;
  showScreen();
  list.render();
  const opened = view.open(conversation);
  if (conversation !== null) view.focus();
  else if (before !== null) list.focus(before);
  await opened;
  list.render();
}

/** On a phone the list and the conversation are two screens. */
function showScreen() {
  document.body.dataset.screen = router.conversation === null ? "list" : "conversation";
}

/** @param {KeyboardEvent} event */
function escaped(event) {
  if (event.key === "Escape" && !event.isComposing && running && router.conversation !== null) router.close();
}

function returned() {
  if (document.visibilityState === "visible") running?.client.wake();
  running?.view.render();
}

byId("sign-in", HTMLFormElement).onsubmit = signIn;
byId("sign-out", HTMLButtonElement).onclick = signOut;
byId("back", HTMLButtonElement).onclick = () => router.close();
byId("blank-back", HTMLButtonElement).onclick = () => router.close();
addEventListener("keydown", escaped);
addEventListener("online", () => running?.client.wake());
addEventListener("offline", () => running?.client.wake());
document.addEventListener("visibilitychange", returned);

if (router.demoCode !== null) start(new DemoTokens(router.demoCode, baseUrl));
else if (pasted.isThere) start(pasted);
else showSignIn("missing");

// @ts-check
/** The page: signs in, starts the client, and draws what has changed, once per turn of the event loop. */

import { ConversationClient } from "./conversation-client.js";
import { ConversationList, showMe } from "./conversation-list.js";
import { ConversationView } from "./conversation-view.js";
import { byId } from "./element.js";
import { NotificationBar } from "./notification-bar.js";
import { Notifications, thisBrowser } from "./notifications.js";
import { Router } from "./router.js";
import { DemoTokens, PastedToken } from "./sign-in.js";
import { TEXTS } from "./texts.js";

/** @import {Change} from "./conversation-client.js" */
/** @import {SignedOut, TokenSource} from "./http-api.js" */

const SIGN_OUT_MS_MAX = 2_000; // somebody waits

const baseUrl = new URL(".", document.baseURI).href;
const router = new Router((conversation) => void routed(conversation));
const pasted = new PastedToken(sessionStorage);

/**
 * @typedef {object} Running
 * @property {ConversationClient} client
 * @property {ConversationList} list
 * @property {ConversationView} view
 * @property {Notifications} notifications
 * @property {NotificationBar} bar
 */

/** @type {Running | null} */
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
  const notifications = new Notifications(client.api, thisBrowser(baseUrl, router.demoCode), changed);
  const [list, view] = [new ConversationList(client, router), new ConversationView(client)];
  running = { client, list, view, notifications, bar: new NotificationBar(notifications) };
  client.onChange(changed);
  void client.pushKey.then((key) => offerNotifications(key));
  showScreen();
  showConnection();
  client.start();
  const stopWaiting = client.onChange(() => {
    if (!client.listLoaded) return;
    stopWaiting();
    showMe(client.people);
    void routed(router.conversation);
  });
}

/** @param {string | null} key the server's, null if it has none */
async function offerNotifications(key) {
  if (!running || key === null) return;
  running.view.hasPush = true;
  changed();
  await running.notifications.start(key).catch(() => {}); // a browser that cannot now is asked again at the next load
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

async function signOut() {
  const off = running?.notifications.switchOff().catch(() => {}); // the browser's part of it is done all the same
  await Promise.race([off, new Promise((resolve) => setTimeout(resolve, SIGN_OUT_MS_MAX))]);
  running?.client.stop();
  pasted.forget();
  showSignIn("missing");
}

/** @param {Change} [change] */
function changed(change) {
  if (change?.kind === "signed-out") return showSignIn(change.why);
  if (change?.kind === "state") showConnection();
  if (drawPending) return;
  drawPending = true;
  queueMicrotask(draw);
}

function draw() {
  drawPending = false;
  if (!running) return;
  running.list.render();
  running.view.render();
  running.bar.render();
  document.title = TEXTS.title(running.client.unreadTotal());
}

function showConnection() {
  if (!running) return;
  const { state, linkKind, session } = running.client;
  const line = byId("connection-state", HTMLParagraphElement);
  const isAllThereIs = linkKind === "websocket" && session?.mqtt.ws_url === null;
  const notice = state === "online" && linkKind !== null && !isAllThereIs ? TEXTS.links[linkKind] : undefined;
  line.dataset.state = state;
  line.dataset.link = linkKind ?? "";
  line.toggleAttribute("data-notice", notice !== undefined);
  line.textContent = notice ?? TEXTS.connection[state];
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
  if (conversation !== null) void running?.notifications.clear(conversation);
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
  if (document.visibilityState === "visible") {
    running?.client.wake();
    if (router.conversation !== null) void running?.notifications.clear(router.conversation);
  }
  running?.view.render();
}

/** A notification was clicked. @param {MessageEvent} message the service worker's */
function told({ data }) {
  if (data?.type === "open" && running) router.open(data.conversation);
}

byId("sign-in", HTMLFormElement).onsubmit = signIn;
byId("sign-out", HTMLButtonElement).onclick = () => void signOut();
byId("back", HTMLButtonElement).onclick = () => router.close();
byId("blank-back", HTMLButtonElement).onclick = () => router.close();
addEventListener("keydown", escaped);
addEventListener("online", () => running?.client.wake());
addEventListener("offline", () => running?.client.wake());
document.addEventListener("visibilitychange", returned);
navigator.serviceWorker?.addEventListener("message", told);

if (router.demoCode !== null) start(new DemoTokens(router.demoCode, baseUrl));
else if (pasted.isThere) start(pasted);
else showSignIn("missing");

// @ts-check
/**
 * The service worker of the pages: shows what web push brings while no page is on the screen, and opens the conversation
 * of a notification that is clicked. It answers no requests.
 *
 * A conversation has one notification: a newer one takes its place.
 */

/**
 * What a push brings: docs/push.md.
 *
 * @typedef {object} Notice
 * @property {string} conversation
 * @property {string | null} subject
 * @property {number} seq
 * @property {string} from
 * @property {string} name the sender's display name, or its id
 * @property {string} body
 * @property {number} at ms since the epoch
 *
 * @typedef {Event & {waitUntil: (work: Promise<unknown>) => void, data: {json: () => Notice} | null}} PushEvent
 * @typedef {Event & {waitUntil: (work: Promise<unknown>) => void, notification: Notification}} ClickEvent
 * @typedef {{visibilityState: string, url: string, focus: () => Promise<unknown>, postMessage: (said: object) => void}} OpenPage
 */

const worker = /** @type {any} */ (self);

/** The pages of this server's, the one that was used last first. @returns {Promise<OpenPage[]>} */
function openPages() {
  return worker.clients.matchAll({ type: "window", includeUncontrolled: true });
}

/** @param {PushEvent} event */
async function show(event) {
  /** @type {Notice | undefined} */
  const notice = event.data?.json();
  if (!notice) return;
  const { conversation, subject, name, body, at } = notice;
  const pages = await openPages();
  if (pages.some(({ visibilityState }) => visibilityState === "visible")) return; // the page itself shows it
  await worker.registration.showNotification(subject ? `${name} · ${subject}` : name, {
    ...{ body, timestamp: at, data: { conversation }, icon: "icon-192.png", badge: "badge-96.png" },
    ...{ tag: conversation, renotify: true },
  });
}

/** @param {ClickEvent} event */
async function open({ notification }) {
  notification.close();
  const { conversation } = notification.data;
  const [page] = await openPages();
  if (!page) return worker.clients.openWindow(`./#${await fragmentWith(conversation)}`);
  page.postMessage({ type: "open", conversation });
  await page.focus();
}

/** Where a page that is opened anew begins: signed in as the last one was, if that was by a demo link. */
async function fragmentWith(/** @type {string} */ conversation) {
  const kept = await caches.match("start");
  const fragment = new URLSearchParams(kept ? await kept.text() : "");
  fragment.set("conversation", conversation);
  return fragment;
}

worker.addEventListener("install", () => worker.skipWaiting());
worker.addEventListener("push", (/** @type {PushEvent} */ event) => event.waitUntil(show(event)));
worker.addEventListener("notificationclick", (/** @type {ClickEvent} */ event) => event.waitUntil(open(event)));

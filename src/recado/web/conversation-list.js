// @ts-check
/** The list of conversations: links in the order of activity, arrow keys between them, one page more at the end. */

import { byId, element, icon } from "./element.js";
import { initials, listTime, othersIn, snippetOf, titleOf, toneOf } from "./format.js";
import { otherIsOnline } from "./presence-text.js";
import { TEXTS } from "./texts.js";

/** @import {ConversationClient} from "./conversation-client.js" */
/** @import {ConversationLog} from "./conversation-log.js" */
/** @import {People} from "./people.js" */
/** @import {Router} from "./router.js" */

const SKELETON_ROWS = 5;
const STEPS = new Map([
  ["ArrowDown", 1],
  ["ArrowUp", -1],
  ["Home", -Infinity],
  ["End", Infinity],
]);

/**
 * @param {string | null} user null is the host
 * @param {string} name the user's display name, or its id
 * @returns {HTMLElement}
 */
export function avatar(user, name) {
  const shown = user === null ? "★" : initials(name);
  return element("span", { class: `avatar tone-${toneOf(user ?? "")}`, "aria-hidden": "true" }, shown);
}

export class ConversationList {
  /**
   * @param {ConversationClient} client
   * @param {Router} router
   */
  constructor(client, router) {
    this.client = client;
    this.router = router;
    this.root = byId("conversation-list", HTMLUListElement);
    /** @type {Map<string, {item: HTMLLIElement, drawn: string}>} */
    this.items = new Map();
    this.root.onkeydown = (event) => this.moved(event);
    this.root.onclick = (event) => this.clicked(event);
    this.root.onscroll = () => this.scrolled();
    this.root.replaceChildren(...Array.from({ length: SKELETON_ROWS }, skeleton));
    this.root.setAttribute("aria-busy", "true");
  }

  render() {
    if (!this.client.listLoaded) return;
    this.root.removeAttribute("aria-busy");
    const logs = this.client.list();
    const focused = document.activeElement;
    const items = logs.map((log) => this.itemFor(log));
    const wanted = items.length > 0 ? items : [emptyList()];
    const unchanged =
      wanted.length === this.root.children.length && wanted.every((item, i) => item === this.root.children[i]);
    if (!unchanged) {
      this.root.replaceChildren(...wanted);
      if (focused instanceof HTMLElement && this.root.contains(focused)) focused.focus({ preventScroll: true });
    }
    this.setTabStop();
  }

  /** Puts the focus on a conversation's link, or on the first one. @param {string | null} id */
  focus(id) {
    const links = this.links();
    (links.find((link) => link.dataset.conversation === id) ?? links[0])?.focus();
  }

  /**
   * The row of a conversation, made anew only if what it shows has changed.
   *
   * @param {ConversationLog} log
   */
  itemFor(log) {
    const { id, summary } = log;
    const typists = log.typists();
    const failed = this.client.outbox.of(id).findLast(({ status }) => status === "failed");
    const open = this.router.conversation === id;
    const { people } = this.client;
    const shown = [
      titleOf(summary, people),
      snippetOf(summary, people),
      summary.unread_count,
      summary.muted,
      typists,
      failed,
      open,
      summary.members,
      otherIsOnline(this.client, log),
    ];
    const drawn = JSON.stringify(shown) + listTime(summary.active_at);
    const known = this.items.get(id);
    if (known?.drawn === drawn) return known.item;
    const item = known?.item ?? element("li");
    const hadFocus = item.contains(document.activeElement);
    const link = this.linkFor(log, open);
    link.append(this.face(log), this.textFor(log, typists.length > 0, failed?.body));
    item.replaceChildren(link);
    if (hadFocus) link.focus({ preventScroll: true });
    this.items.set(id, { item, drawn });
    return item;
  }

  /** The avatar, with a dot if the one other is there. @param {ConversationLog} log */
  face(log) {
    const { people } = this.client;
    const user = avatarUser(log, people.me);
    const face = element("span", { class: "face" }, avatar(user, people.nameOf(user)));
    if (!otherIsOnline(this.client, log)) return face;
    const dot = element("span", { class: "online-dot", "data-testid": "online-dot" });
    dot.append(element("span", { class: "visually-hidden" }, TEXTS.online));
    face.append(dot);
    return face;
  }

  /**
   * @param {ConversationLog} log
   * @param {boolean} open
   */
  linkFor(log, open) {
    return element("a", {
      class: log.summary.unread_count > 0 ? "conversation-item unread" : "conversation-item",
      href: this.router.hrefOf(log.id),
      "data-testid": "conversation-item",
      "data-conversation": log.id,
      "aria-current": open ? "page" : undefined,
    });
  }

  /**
   * @param {ConversationLog} log
   * @param {boolean} typing
   * @param {string} [failedBody]
   */
  textFor({ summary }, typing, failedBody) {
    const { people } = this.client;
    const snippet = element("span", { class: "snippet", dir: "auto" }, snippetOf(summary, people));
    if (failedBody !== undefined) snippet.replaceChildren(TEXTS.notSentSnippet(failedBody));
    else if (typing) snippet.replaceChildren(TEXTS.typingShort);
    snippet.classList.toggle("snippet-failed", failedBody !== undefined);
    snippet.classList.toggle("snippet-typing", typing && failedBody === undefined);
    const time = element("time", { datetime: new Date(summary.active_at).toISOString() }, listTime(summary.active_at));
    const title = element("span", { class: "item-title", dir: "auto" }, titleOf(summary, people));
    const below = element("span", { class: "item-line" }, snippet);
    if (summary.muted) below.append(mutedMark());
    if (summary.unread_count > 0) below.append(badge(summary.unread_count));
    return element("span", { class: "item-text" }, element("span", { class: "item-line" }, title, time), below);
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.router.open(link.dataset.conversation ?? "");
  }

  /** @param {KeyboardEvent} event */
  moved(event) {
    const step = STEPS.get(event.key);
    const links = this.links();
    const at = links.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
    if (step === undefined || at < 0) return;
    event.preventDefault();
    links[Math.max(0, Math.min(links.length - 1, at + step))]?.focus();
    this.setTabStop();
  }

  /** One link is in the page's tab order: the focused one, else the open one, else the first. */
  setTabStop() {
    const links = this.links();
    const stop =
      links.find((link) => link === document.activeElement) ??
      links.find((link) => link.hasAttribute("aria-current")) ??
      links[0];
    for (const link of links) link.tabIndex = link === stop ? 0 : -1;
  }

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.root;
    if (scrollHeight - scrollTop - clientHeight < 300) this.client.loadMoreConversations().catch(() => {});
  }

  /** @returns {HTMLAnchorElement[]} */
  links() {
    return [...this.root.querySelectorAll("a")];
  }
}

/**
 * The one whose avatar stands for a conversation: the other who wrote last, else the first other.
 *
 * @param {ConversationLog} log
 * @param {string} me
 */
export function avatarUser({ summary }, me) {
  const others = othersIn(summary, me);
  const writer = summary.last_event?.from;
  return writer && others.includes(writer) ? writer : (others[0] ?? me);
}

/** @param {number} count */
function badge(count) {
  const label = element("span", { class: "visually-hidden" }, TEXTS.unreadCount(count));
  const number = element(
    "span",
    { "aria-hidden": "true", "data-testid": "unread-count" },
    count > 99 ? "99+" : String(count),
  );
  return element("span", { class: "badge" }, number, label);
}

function mutedMark() {
  const label = element("span", { class: "visually-hidden" }, TEXTS.muted);
  return element("span", { class: "muted-mark", title: TEXTS.muted, "data-testid": "muted" }, icon("bell-off"), label);
}

function skeleton() {
  return element("li", { class: "skeleton", "aria-hidden": "true" }, element("span"), element("span"), element("span"));
}

function emptyList() {
  const hint = element("p", { class: "soft" }, TEXTS.emptyListHint);
  return element("li", { class: "empty-list" }, element("p", {}, TEXTS.emptyList), hint);
}

/** The signed-in user, at the head of the list. @param {People} people */
export function showMe(people) {
  const name = people.nameOf(people.me);
  byId("me", HTMLSpanElement).replaceChildren(avatar(people.me, name), element("span", { dir: "auto" }, name));
}

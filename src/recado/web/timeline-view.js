// @ts-check
/**
 * The messages of the open conversation: draws the rows, keeps the place while they change, and says when the end and
 * the beginning come into view. A row's element lives as long as its key, so nothing flickers and a selection stays.
 */

import { avatar } from "./conversation-list.js";
import { byId, element, icon } from "./element.js";
import { clockTime, dayName, fullTime, linkPieces } from "./format.js";
import { MessageMenu } from "./message-menu.js";
import { TEXTS } from "./texts.js";

/** @import {MenuMessage} from "./message-menu.js" */
/** @import {MessageRow, Row} from "./timeline.js" */

const END_PX = 48;
const NEAR_START_PX = 400;

/**
 * @typedef {object} TimelineHooks
 * @property {() => void} onEnd the newest message is in view
 * @property {() => void} onNearStart older history would be welcome
 * @property {(messageId: string) => void} onRetry
 * @property {(messageId: string) => void} onDiscard
 * @property {(message: MenuMessage) => void} onEdit
 * @property {(message: MenuMessage) => void} onDelete
 */

export class TimelineView {
  /** @param {TimelineHooks} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    this.frame = byId("timeline", HTMLDivElement);
    this.list = byId("rows", HTMLOListElement);
    this.pill = byId("new-messages", HTMLButtonElement);
    this.menu = new MessageMenu(hooks);
    /** @type {Map<string, {node: HTMLLIElement, drawn: string, row: Row}>} */
    this.drawn = new Map();
    this.canChange = true; // whether own messages have their menu
    this.atEnd = true;
    this.unseen = 0;
    this.frame.onscroll = () => this.scrolled();
    this.list.onkeydown = (event) => this.moved(event);
    this.pill.onclick = () => this.toEnd();
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(this.frame);
  }

  /** Starts on another conversation. */
  clear() {
    this.menu.close();
    this.drawn.clear();
    this.list.replaceChildren();
    this.atEnd = true;
    this.unseen = 0;
    this.showPill();
  }

  /**
   * @param {Row[]} rows
   * @param {boolean} canChange
   */
  render(rows, canChange) {
    this.canChange = canChange;
    const wasAtEnd = this.atEnd;
    const anchor = this.anchor();
    const last = this.list.lastElementChild;
    const nodes = rows.map((row) => this.nodeFor(row));
    this.reconcile(nodes);
    this.forgetAllBut(rows);
    this.setTabStop();
    this.menu.closeIfHomeless(this.frame);
    if (wasAtEnd) this.toEnd();
    else this.restore(anchor);
    const lastAt = last instanceof HTMLLIElement ? nodes.indexOf(last) : nodes.length - 1;
    this.unseen = this.atEnd ? 0 : this.unseen + Math.max(0, nodes.length - 1 - lastAt);
    this.showPill();
  }

  /** Opens where the unread ones begin, if that is not on the last screen anyway. */
  showUnread() {
    const line = this.list.querySelector(".row-unread");
    if (!(line instanceof HTMLElement)) return this.toEnd();
    this.frame.scrollTop = line.offsetTop - this.frame.clientHeight / 4;
    this.scrolled();
  }

  toEnd() {
    this.frame.scrollTop = this.frame.scrollHeight;
    this.scrolled();
  }

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.frame;
    this.atEnd = scrollHeight - scrollTop - clientHeight < END_PX;
    if (this.atEnd) {
      this.unseen = 0;
      this.hooks.onEnd();
    }
    if (scrollTop < NEAR_START_PX) this.hooks.onNearStart();
    this.menu.follow(this.frame);
    this.showPill();
  }

  showPill() {
    this.pill.hidden = this.atEnd;
    const label = byId("new-messages-label", HTMLSpanElement);
    label.textContent = this.unseen > 0 ? TEXTS.newMessages : "";
    this.pill.setAttribute("aria-label", this.unseen > 0 ? TEXTS.newMessages : TEXTS.toTheEnd);
    this.pill.classList.toggle("pill-news", this.unseen > 0);
  }

  /** The first row in view and where it stands, so that the view can be put back there. */
  anchor() {
    const top = this.frame.scrollTop;
    for (const node of this.list.children) {
      if (
        node instanceof HTMLElement &&
        node.offsetTop + node.offsetHeight > top &&
        !node.classList.contains("row-day")
      )
        return { node, offset: node.offsetTop - top };
    }
    return null;
  }

  /** @param {{node: HTMLElement, offset: number} | null} anchor */
  restore(anchor) {
    if (anchor?.node.isConnected) this.frame.scrollTop = anchor.node.offsetTop - anchor.offset;
  }

  /**
   * Makes the list's children these, moving and removing only what is out of place.
   *
   * @param {HTMLLIElement[]} nodes
   */
  reconcile(nodes) {
    const wanted = new Set(nodes);
    for (const child of [...this.list.children]) {
      if (!wanted.has(/** @type {HTMLLIElement} */ (child))) child.remove();
    }
    /** @type {Element | null} */
    let next = this.list.firstElementChild;
    for (const node of nodes) {
      if (node === next) next = next.nextElementSibling;
      else this.list.insertBefore(node, next);
    }
  }

  /** @param {Row[]} rows */
  forgetAllBut(rows) {
    if (this.drawn.size === rows.length) return;
    const keys = new Set(rows.map(({ key }) => key));
    for (const key of this.drawn.keys()) if (!keys.has(key)) this.drawn.delete(key);
  }

  /** @param {Row} row */
  nodeFor(row) {
    const drawn = JSON.stringify(row) + (row.kind === "day" ? dayName(row.at) : this.canChange);
    const known = this.drawn.get(row.key);
    if (known?.drawn === drawn) return known.node;
    const node = known?.node ?? element("li");
    const hadFocus = node.contains(document.activeElement);
    if (row.kind !== "message") drawLine(node, row);
    else if (known?.row.kind === "message" && isSameText(known.row, row)) this.drawState(node, row);
    else this.drawMessage(node, row);
    this.drawn.set(row.key, { node, drawn, row });
    if (hadFocus && !node.contains(document.activeElement)) this.focusIn(node);
    return node;
  }

  /** The button that had the focus was drawn anew, or is gone with its message. @param {HTMLLIElement} node */
  focusIn(node) {
    const more = moreButton(node);
    (more && !more.hidden ? more : this.frame).focus({ preventScroll: true });
  }

  /**
   * @param {HTMLLIElement} node
   * @param {MessageRow} row
   */
  drawMessage(node, row) {
    node.className = ["row", "row-message", row.own ? "own" : "other", row.first && "first", row.last && "last"]
      .filter(Boolean)
      .join(" ");
    Object.assign(node.dataset, { testid: "message", id: row.id });
    node.toggleAttribute("data-deleted", row.deleted === true);
    const bubble = element("div", { class: "bubble", title: titleFor(row) });
    const name = element("span", { class: row.own || !row.first ? "visually-hidden" : "sender", dir: "auto" }, row.name);
    const pieces = row.deleted ? [TEXTS.deleted] : linkPieces(row.body).map(pieceNode);
    const text = element("p", { class: "body", dir: "auto", "data-time": timeLine(row).join(" ") }, ...pieces);
    bubble.append(name, text, element("span", { class: "meta", "aria-live": "off" }));
    const parts = row.own
      ? [element("div", { class: "own-line" }, this.more(row), bubble)]
      : [row.last ? avatar(row.from, row.name) : element("span", { class: "avatar-space" }), bubble];
    node.replaceChildren(...parts);
    if (row.status === "failed") node.append(this.failure(row));
    this.drawState(node, row);
  }

  /**
   * What changes while the text stays: how far the message has come. The text is not touched, or a screen reader would
   * read it out again for every tick.
   *
   * @param {HTMLLIElement} node
   * @param {MessageRow} row
   */
  drawState(node, row) {
    node.dataset.status = row.status;
    if (row.seq !== undefined) node.dataset.seq = String(row.seq);
    if (row.receipt) node.dataset.receipt = row.receipt;
    else delete node.dataset.receipt;
    node.querySelector(".meta")?.replaceChildren(...metaNodes(row));
    const more = moreButton(node);
    if (more) more.hidden = row.seq === undefined || row.deleted === true || !this.canChange;
  }

  /** @param {MessageRow} row */
  more({ key }) {
    const attributes = { type: "button", class: "more", "data-testid": "message-menu-button", tabindex: "-1" };
    const labels = { "aria-label": TEXTS.messageMenu, "aria-haspopup": "menu", "aria-expanded": "false" };
    const button = element("button", { ...attributes, ...labels }, icon("more"));
    button.onclick = () => {
      const row = this.drawn.get(key)?.row;
      if (row?.kind === "message" && row.seq !== undefined) this.menu.toggle(button, { seq: row.seq, body: row.body });
    };
    return button;
  }

  /** Up and down go from one own message's button to the next. @param {KeyboardEvent} event */
  moved(event) {
    const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
    const buttons = this.moreButtons();
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    if (step === 0 || at < 0) return;
    event.preventDefault();
    buttons[Math.max(0, Math.min(buttons.length - 1, at + step))]?.focus();
    this.setTabStop();
  }

  /** One button is in the page's tab order: the focused one, else the newest message's. */
  setTabStop() {
    const buttons = this.moreButtons();
    const stop = buttons.find((button) => button === document.activeElement) ?? buttons.at(-1);
    for (const button of buttons) button.tabIndex = button === stop ? 0 : -1;
  }

  /** @returns {HTMLButtonElement[]} */
  moreButtons() {
    return [...this.list.querySelectorAll(/** @type {"button"} */ (".more:not([hidden])"))];
  }

  /** @param {MessageRow} row */
  failure({ id, reasonCode, reason }) {
    const retry = element("button", { type: "button", class: "link-button" }, TEXTS.retry);
    const discard = element("button", { type: "button", class: "link-button" }, TEXTS.discard);
    retry.onclick = () => this.hooks.onRetry(id);
    discard.onclick = () => this.hooks.onDiscard(id);
    const text = `${TEXTS.notSent}. ${TEXTS.refusal(reasonCode, reason)}`;
    return element("div", { class: "failure" }, element("span", {}, text), retry, discard);
  }
}

/**
 * Whether two drawings of a message differ in its state alone.
 *
 * @param {MessageRow} before
 * @param {MessageRow} now
 */
function isSameText(before, now) {
  if (before.status === "failed" || now.status === "failed") return false;
  /** @type {Array<keyof MessageRow>} */
  const drawn = ["id", "from", "name", "body", "at", "editedAt", "deleted", "first", "last"];
  return drawn.every((field) => before[field] === now[field]);
}

/** @param {MessageRow} row */
function titleFor({ at, editedAt }) {
  return editedAt === undefined ? fullTime(at) : `${fullTime(at)}\n${TEXTS.editedAt(fullTime(editedAt))}`;
}

/** @param {MessageRow} row */
function timeLine({ at, editedAt }) {
  return editedAt === undefined ? [clockTime(at)] : [TEXTS.edited, clockTime(at)];
}

/** @param {MessageRow} row */
function metaNodes(row) {
  const time = element("time", { datetime: new Date(row.at).toISOString() }, clockTime(row.at));
  const nodes = row.editedAt === undefined ? [time] : [element("span", { class: "edited" }, TEXTS.edited), time];
  const { text, name } = stateOf(row);
  if (!text) return nodes;
  const mark = element("span", { class: "state", title: text }, icon(name));
  return [...nodes, mark, element("span", { class: "visually-hidden" }, text)];
}

/**
 * What an own message's mark says, and its icon.
 *
 * @param {MessageRow} row
 */
function stateOf({ own, deleted, status, receipt, seq, seenBy = [] }) {
  if (!own || deleted) return { text: "", name: "" };
  if (receipt) {
    const text = seenBy.length > 0 ? TEXTS.readBy(seenBy) : TEXTS.receipt[receipt];
    return { text, name: receipt === "stored" ? "sent" : receipt };
  }
  if (seq !== undefined) return { text: "", name: "" }; // stored, in a conversation where receipts are not told
  return { text: TEXTS.status[status], name: status };
}

/** @param {HTMLLIElement} node @returns {HTMLButtonElement | null} */
function moreButton(node) {
  return node.querySelector(/** @type {"button"} */ (".more"));
}

/**
 * @param {HTMLLIElement} node
 * @param {Exclude<Row, MessageRow>} row
 */
function drawLine(node, row) {
  node.className = `row row-${row.kind}`;
  const text = row.kind === "day" ? dayName(row.at) : row.kind === "unread" ? TEXTS.unreadHere : row.text;
  node.replaceChildren(element("span", row.kind === "system" ? { title: fullTime(row.at), dir: "auto" } : {}, text));
}

/** @param {{text: string, href?: string}} piece */
function pieceNode({ text, href }) {
  if (href === undefined) return text;
  return element("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, text);
}

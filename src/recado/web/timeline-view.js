// @ts-check
/**
 * The messages of the open conversation: draws the rows, keeps the place while they change, and says when the end and
 * the beginning come into view. A row's element lives as long as its key, so nothing flickers and a selection stays.
 */

import { avatar } from "./conversation-list.js";
import { byId, element, icon } from "./element.js";
import { clockTime, dayName, fullTime, linkPieces, nameFor } from "./format.js";
import { TEXTS } from "./texts.js";

/** @import {MessageRow, Row} from "./timeline.js" */

const END_PX = 48;
const NEAR_START_PX = 400;

/**
 * @typedef {object} TimelineHooks
 * @property {() => void} onEnd the newest message is in view
 * @property {() => void} onNearStart older history would be welcome
 * @property {(messageId: string) => void} onRetry
 * @property {(messageId: string) => void} onDiscard
 */

export class TimelineView {
  /** @param {TimelineHooks} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    this.frame = byId("timeline", HTMLDivElement);
    this.list = byId("rows", HTMLOListElement);
    this.pill = byId("new-messages", HTMLButtonElement);
    /** @type {Map<string, {node: HTMLLIElement, drawn: string}>} */
    this.drawn = new Map();
    this.atEnd = true;
    this.unseen = 0;
    this.frame.onscroll = () => this.scrolled();
    this.pill.onclick = () => this.toEnd();
    new ResizeObserver(() => this.atEnd && this.toEnd()).observe(this.frame);
  }

  /** Starts on another conversation. */
  clear() {
    this.drawn.clear();
    this.list.replaceChildren();
    this.atEnd = true;
    this.unseen = 0;
    this.showPill();
  }

  /**
   * @param {Row[]} rows
   * @param {string} me
   */
  render(rows, me) {
    const wasAtEnd = this.atEnd;
    const anchor = this.anchor();
    const last = this.list.lastElementChild;
    const nodes = rows.map((row) => this.nodeFor(row, me));
    this.reconcile(nodes);
    this.forgetAllBut(rows);
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

  /**
   * @param {Row} row
   * @param {string} me
   */
  nodeFor(row, me) {
    const drawn = JSON.stringify(row) + (row.kind === "day" ? dayName(row.at) : "");
    const known = this.drawn.get(row.key);
    if (known?.drawn === drawn) return known.node;
    const node = known?.node ?? element("li");
    if (row.kind === "message") this.drawMessage(node, row, me);
    else drawLine(node, row);
    this.drawn.set(row.key, { node, drawn });
    return node;
  }

  /**
   * @param {HTMLLIElement} node
   * @param {MessageRow} row
   * @param {string} me
   */
  drawMessage(node, row, me) {
    node.className = ["row", "row-message", row.own ? "own" : "other", row.first && "first", row.last && "last"]
      .filter(Boolean)
      .join(" ");
    Object.assign(node.dataset, { testid: "message", id: row.id, status: row.status });
    if (row.seq !== undefined) node.dataset.seq = String(row.seq);
    const bubble = element("div", { class: "bubble", title: fullTime(row.at) });
    const name = element(
      "span",
      { class: row.own || !row.first ? "visually-hidden" : "sender" },
      nameFor(row.from, me),
    );
    const pieces = linkPieces(row.body).map(pieceNode);
    const text = element("p", { class: "body", dir: "auto", "data-time": clockTime(row.at) }, ...pieces);
    bubble.append(name, text, this.meta(row));
    const parts = row.own
      ? [bubble]
      : [row.last ? avatar(row.from) : element("span", { class: "avatar-space" }), bubble];
    node.replaceChildren(...parts);
    if (row.status === "failed") node.append(this.failure(row));
  }

  /** @param {MessageRow} row */
  meta(row) {
    const time = element("time", { datetime: new Date(row.at).toISOString() }, clockTime(row.at));
    const meta = element("span", { class: "meta" }, time);
    if (!row.own) return meta;
    meta.append(icon(row.status), element("span", { class: "visually-hidden" }, TEXTS.status[row.status]));
    return meta;
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

// @ts-check
/** The open conversation: its head, its messages, who is typing, and the composer; decides what counts as read. */

import { Composer } from "./composer.js";
import { avatar, avatarUser } from "./conversation-list.js";
import { byId, element } from "./element.js";
import { memberLine, titleOf } from "./format.js";
import { ApiError, SignedOut } from "./http-api.js";
import { isMessage } from "./log-changes.js";
import { otherIsOnline, presenceText } from "./presence-text.js";
import { TEXTS } from "./texts.js";
import { timelineRows } from "./timeline.js";
import { TimelineView } from "./timeline-view.js";

/** @import {ConversationClient} from "./conversation-client.js" */
/** @import {ConversationLog} from "./conversation-log.js" */

export class ConversationView {
  /** @param {ConversationClient} client */
  constructor(client) {
    this.client = client;
    this.section = byId("conversation", HTMLElement);
    this.top = byId("timeline-top", HTMLParagraphElement);
    /** @type {string | null} */
    this.id = null;
    /** @type {number | null} */
    this.unreadAfter = null;
    this.loading = false; // the first page of history is not here yet
    this.opening = false; // nothing counts as read before the view stands where it should
    this.loadFailed = false;
    this.loadingOlder = false;
    this.hasPush = false; // whether the server notifies anybody, so that there is something to mute
    this.muteButton = byId("mute", HTMLButtonElement);
    this.muteButton.onclick = () => void this.toggleMuted();
    this.timeline = new TimelineView({
      onEnd: () => this.seen(),
      onNearStart: () => this.wantOlder(),
      onRetry: (messageId) => this.client.retry(messageId),
      onDiscard: (messageId) => this.client.discard(messageId),
      onEdit: (message) => this.composer.edit(message),
      onDelete: ({ seq }) => void this.change((id) => this.client.changes.delete(id, seq)),
    });
    this.composer = new Composer({
      onSend: (body) => this.send(body),
      onEdit: (seq, body) => this.change((id) => this.client.changes.edit(id, seq, body)),
      onTyping: () => this.id !== null && this.client.typing(this.id),
      onChange: () => this.showRefusal(""),
    });
  }

  /**
   * @param {string | null} id null closes it
   * @returns {Promise<void>}
   */
  async open(id) {
    this.id = id;
    this.unreadAfter = null;
    this.loadFailed = false;
    this.timeline.clear();
    this.composer.open(id);
    if (id === null) {
      this.client.close();
      return this.render();
    }
    this.opening = this.loading = true;
    this.timeline.frame.setAttribute("aria-busy", "true"); // or a screen reader reads the whole page of history out
    this.render();
    const found = await this.client.open(id).catch((error) => this.failed(error));
    if (this.id !== id) return;
    this.loading = false;
    const log = this.client.conversations.get(id);
    if (log && log.summary.unread_count > 0) this.unreadAfter = log.summary.read_up_to;
    this.render();
    if (found) this.timeline.showUnread();
    this.opening = false;
    this.timeline.frame.removeAttribute("aria-busy");
    this.render();
  }

  /** @param {unknown} error */
  failed(error) {
    if (!(error instanceof SignedOut)) this.loadFailed = true;
    return this.client.conversations.has(this.id ?? "");
  }

  render() {
    const log = this.id === null ? undefined : this.client.conversations.get(this.id);
    this.section.hidden = log === undefined;
    this.renderBlank(log !== undefined);
    if (!log) return;
    this.renderHead(log);
    this.renderTop(log);
    this.renderRows(log);
    this.renderTyping(log);
    this.composer.show(!log.removed);
    this.endVainEditing(log);
    const notice = byId("removed-notice", HTMLParagraphElement);
    notice.hidden = !log.removed;
    notice.textContent = log.erased ? TEXTS.erasedNotice : log.removed ? TEXTS.removedNotice : "";
    if (this.timeline.atEnd) this.seen();
  }

  /** @param {boolean} conversationShown */
  renderBlank(conversationShown) {
    const blank = byId("blank", HTMLDivElement);
    const missing = this.id !== null && !this.loading && this.client.listLoaded;
    blank.hidden = conversationShown;
    blank.classList.toggle("blank-quiet", this.loading || !this.client.listLoaded);
    byId("blank-title", HTMLHeadingElement).textContent = missing ? TEXTS.notFound : TEXTS.noConversation;
    byId("blank-hint", HTMLParagraphElement).textContent = missing ? TEXTS.notFoundHint : TEXTS.noConversationHint;
    byId("blank-back", HTMLButtonElement).hidden = this.id === null;
  }

  /** @param {ConversationLog} log */
  renderHead(log) {
    const { people } = this.client;
    byId("subject", HTMLHeadingElement).textContent = titleOf(log.summary, people);
    byId("members", HTMLSpanElement).textContent = memberLine(log.summary.members, people);
    const presence = byId("presence", HTMLSpanElement);
    presence.textContent = presenceText(this.client, log);
    presence.classList.toggle("is-online", otherIsOnline(this.client, log));
    const user = avatarUser(log, people.me);
    byId("head-avatar", HTMLSpanElement).replaceChildren(avatar(user, people.nameOf(user)));
    this.renderMute(log);
  }

  /** @param {ConversationLog} log */
  renderMute({ removed, summary }) {
    const muted = summary.muted === true;
    const text = muted ? TEXTS.unmute : TEXTS.mute;
    this.muteButton.hidden = removed || !(this.hasPush || muted);
    this.muteButton.title = text;
    this.muteButton.setAttribute("aria-label", text);
    this.muteButton.dataset.muted = String(muted);
    document.getElementById("mute-icon")?.setAttribute("href", muted ? "#icon-bell-off" : "#icon-bell");
  }

  async toggleMuted() {
    const log = this.id === null ? undefined : this.client.conversations.get(this.id);
    if (!log) return;
    this.muteButton.disabled = true;
    await this.change((id) => this.client.setMuted(id, log.summary.muted !== true));
    this.muteButton.disabled = false;
    this.muteButton.focus({ preventScroll: true }); // a disabled button lets go of it
  }

  /** What stands above the oldest message shown. @param {ConversationLog} log */
  renderTop(log) {
    const empty = log.events.length === 0 && this.client.outbox.of(log.id).length === 0;
    this.top.classList.toggle("timeline-empty", empty && !log.hasOlder);
    if (this.loadFailed) {
      const again = element("button", { type: "button", class: "link-button" }, TEXTS.tryAgain);
      again.onclick = () => this.loadOlder();
      this.top.replaceChildren(`${TEXTS.loadFailed} `, again);
    } else if (log.hasOlder) {
      this.top.replaceChildren(element("span", { class: "spinner", "aria-hidden": "true" }), TEXTS.loadingOlder);
    } else {
      this.top.replaceChildren(log.erased ? "" : empty ? TEXTS.noMessages : TEXTS.beginning);
    }
  }

  /** @param {ConversationLog} log */
  renderRows(log) {
    if (this.loading && log.hasOlder) return; // drawn once, when the first page is here
    const { people, outbox } = this.client;
    const { events, summary } = log;
    if (!this.isWatched() && summary.unread_count > 0 && !this.opening) this.unreadAfter ??= summary.read_up_to;
    const { unreadAfter } = this;
    const receiptOf = (/** @type {number} */ seq) => log.receiptOf(seq);
    const rows = timelineRows({ events, outbox: outbox.of(log.id), people, unreadAfter, receiptOf });
    this.timeline.render(rows, !log.removed);
  }

  /** @param {ConversationLog} log */
  renderTyping(log) {
    const names = log.typists().map((user) => this.client.people.nameOf(user));
    const line = byId("typing", HTMLParagraphElement);
    const text = names.length > 0 ? TEXTS.typing(names) : "";
    if (line.dataset.text === text) return;
    line.dataset.text = text;
    const dots = element("span", { class: "dots", "aria-hidden": "true" }, element("i"), element("i"), element("i"));
    line.replaceChildren(...(text ? [dots, text] : []));
  }

  isWatched() {
    return document.visibilityState === "visible" && this.timeline.atEnd;
  }

  /** The user sees the end of the conversation. */
  seen() {
    const log = this.id === null ? undefined : this.client.conversations.get(this.id);
    if (log && !this.opening && this.isWatched()) this.client.markRead(log.id, log.cursor);
  }

  wantOlder() {
    const log = this.id === null ? undefined : this.client.conversations.get(this.id);
    if (log && log.hasOlder && !this.opening && !this.loadFailed && !this.loadingOlder) void this.loadOlder();
  }

  async loadOlder() {
    const id = this.id;
    if (id === null) return;
    this.loadFailed = false;
    this.loadingOlder = true;
    await this.client.loadOlder(id).catch((error) => this.failed(error));
    this.loadingOlder = false;
    this.render();
  }

  /** @param {string} body */
  send(body) {
    if (this.id === null) return;
    this.unreadAfter = null;
    this.client.send(this.id, body);
    this.timeline.toEnd();
  }

  /**
   * Asks the server for a change of an own message; what it refuses is said in words.
   *
   * @param {(id: string) => Promise<void>} ask
   * @returns {Promise<boolean>} whether the server agreed
   */
  async change(ask) {
    const { id } = this;
    if (id === null) return false;
    this.showRefusal("");
    try {
      await ask(id);
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.id === id) this.showRefusal(TEXTS.changeRefusal(error.status, error.message));
      return false;
    }
  }

  /** @param {string} text */
  showRefusal(text) {
    byId("refusal", HTMLParagraphElement).textContent = text;
  }

  /** The message that is being edited was deleted, perhaps in another tab. @param {ConversationLog} log */
  endVainEditing(log) {
    const seq = this.composer.editing?.seq;
    const entry = log.events.find((event) => event.seq === seq);
    if (seq === undefined || (entry && isMessage(entry) && !log.removed)) return;
    this.composer.stopEditing();
    if (!log.removed) this.showRefusal(TEXTS.changeRefusal(409, ""));
  }

  /** Puts the focus where writing or reading goes on; a phone's keyboard stays down. */
  focus() {
    if (this.section.hidden) return;
    if (matchMedia("(pointer: coarse)").matches || this.composer.form.hidden) byId("subject", HTMLElement).focus();
    else this.composer.focus();
  }
}

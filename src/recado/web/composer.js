// @ts-check
/**
 * Where messages are written: grows with the text, sends on Enter, keeps a draft per conversation in this tab. An own
 * message is edited here too; its draft comes back when that is saved or cancelled.
 */

import { byId, icon } from "./element.js";
import { TEXTS } from "./texts.js";

const DRAFT = "recado.draft/";

export class Composer {
  /**
   * @param {object} hooks
   * @param {(body: string) => void} hooks.onSend
   * @param {(seq: number, body: string) => Promise<boolean>} hooks.onEdit whether it was saved
   * @param {() => void} hooks.onTyping
   * @param {() => void} hooks.onChange the text or the mode has changed
   */
  constructor(hooks) {
    this.hooks = hooks;
    this.form = byId("composer-form", HTMLFormElement);
    this.field = byId("composer", HTMLTextAreaElement);
    this.button = byId("send", HTMLButtonElement);
    /** @type {string | null} */
    this.conversation = null;
    /** @type {{seq: number, body: string} | null} the message that is being edited, as it was */
    this.editing = null;
    this.saving = false;
    this.bar = byId("edit-bar", HTMLDivElement);
    byId("edit-label", HTMLSpanElement).textContent = TEXTS.editing;
    const cancel = byId("edit-cancel", HTMLButtonElement);
    cancel.setAttribute("aria-label", TEXTS.cancelEditing);
    cancel.onclick = () => this.stopEditing();
    this.field.oninput = () => this.edited();
    this.field.onkeydown = (event) => this.pressed(event);
    this.form.onsubmit = (event) => this.submitted(event);
    this.button.onpointerdown = (event) => event.preventDefault(); // a tap on "send" must not close a phone's keyboard
  }

  /** @param {string | null} conversation */
  open(conversation) {
    this.conversation = conversation;
    this.setMode(null);
  }

  /** @param {{seq: number, body: string}} message */
  edit(message) {
    this.setMode(message);
    this.focus();
    this.field.setSelectionRange(this.field.value.length, this.field.value.length);
  }

  stopEditing() {
    const wasHere = this.bar.contains(document.activeElement);
    this.setMode(null);
    if (wasHere) this.focus();
  }

  /** @param {{seq: number, body: string} | null} editing */
  setMode(editing) {
    this.editing = editing;
    this.saving = false;
    const draft = (this.conversation && sessionStorage.getItem(DRAFT + this.conversation)) || "";
    this.field.value = editing?.body ?? draft;
    this.bar.hidden = editing === null;
    this.field.setAttribute("aria-label", editing ? TEXTS.editing : TEXTS.write);
    this.button.setAttribute("aria-label", editing ? TEXTS.save : TEXTS.send);
    this.button.replaceChildren(icon(editing ? "sent" : "send"));
    this.fit();
    this.hooks.onChange();
  }

  focus() {
    this.field.focus({ preventScroll: true });
  }

  /** @param {boolean} shown */
  show(shown) {
    this.form.hidden = !shown;
    this.bar.hidden = !shown || this.editing === null;
  }

  edited() {
    const { value } = this.field;
    this.hooks.onChange();
    if (this.editing) return this.fit(); // it is no draft, and nobody waits for a new message
    if (value === "") sessionStorage.removeItem(DRAFT + this.conversation);
    else sessionStorage.setItem(DRAFT + this.conversation, value);
    this.fit();
    if (value.trim() !== "") this.hooks.onTyping();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.key === "Escape" && this.editing && !event.isComposing) {
      event.stopPropagation(); // or it would close the conversation too
      return this.stopEditing();
    }
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  /** @param {SubmitEvent} event */
  submitted(event) {
    event.preventDefault();
    const body = this.field.value.trim();
    if (body === "") return;
    if (this.editing) return void this.save(this.editing, body);
    this.field.value = "";
    this.edited();
    this.hooks.onSend(body);
    this.focus();
  }

  /**
   * @param {{seq: number, body: string}} message
   * @param {string} body
   */
  async save(message, body) {
    if (this.saving) return;
    if (body === message.body) return this.stopEditing();
    this.saving = true;
    this.fit();
    const saved = await this.hooks.onEdit(message.seq, body);
    if (this.editing !== message) return;
    this.saving = false;
    if (saved) this.stopEditing();
    else this.fit();
  }

  /** As high as the text; the style sheet sets the limit. */
  fit() {
    this.button.disabled = this.saving || this.field.value.trim() === "";
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }
}

// @ts-check
/** Where messages are written: grows with the text, sends on Enter, keeps a draft per conversation in this tab. */

import { byId } from "./element.js";

const DRAFT = "recado.draft/";

export class Composer {
  /**
   * @param {object} hooks
   * @param {(body: string) => void} hooks.onSend
   * @param {() => void} hooks.onTyping
   */
  constructor(hooks) {
    this.hooks = hooks;
    this.form = byId("composer-form", HTMLFormElement);
    this.field = byId("composer", HTMLTextAreaElement);
    this.button = byId("send", HTMLButtonElement);
    /** @type {string | null} */
    this.conversation = null;
    this.field.oninput = () => this.edited();
    this.field.onkeydown = (event) => this.pressed(event);
    this.form.onsubmit = (event) => this.submitted(event);
    this.button.onpointerdown = (event) => event.preventDefault(); // a tap on "send" must not close a phone's keyboard
  }

  /** @param {string | null} conversation */
  open(conversation) {
    this.conversation = conversation;
    this.field.value = (conversation && sessionStorage.getItem(DRAFT + conversation)) || "";
    this.fit();
  }

  focus() {
    this.field.focus({ preventScroll: true });
  }

  /** @param {boolean} shown */
  show(shown) {
    this.form.hidden = !shown;
  }

  edited() {
    const { value } = this.field;
    if (value === "") sessionStorage.removeItem(DRAFT + this.conversation);
    else sessionStorage.setItem(DRAFT + this.conversation, value);
    this.fit();
    if (value.trim() !== "") this.hooks.onTyping();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  /** @param {SubmitEvent} event */
  submitted(event) {
    event.preventDefault();
    const body = this.field.value.trim();
    if (body === "") return;
    this.field.value = "";
    this.edited();
    this.hooks.onSend(body);
    this.focus();
  }

  /** As high as the text; the style sheet sets the limit. */
  fit() {
    this.button.disabled = this.field.value.trim() === "";
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }
}

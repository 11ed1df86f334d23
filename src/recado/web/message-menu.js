// @ts-check
/** The menu of an own message, and the question before a delete. Keyboard: arrows, Enter, Escape, as in any menu. */

import { byId, icon } from "./element.js";
import { TEXTS } from "./texts.js";

const EDGE_PX = 8;
const STEPS = new Map([
  ["ArrowDown", 1],
  ["ArrowUp", -1],
  ["Home", -Infinity],
  ["End", Infinity],
]);

/**
 * @typedef {object} MenuMessage
 * @property {number} seq
 * @property {string} body
 *
 * @typedef {object} MenuHooks
 * @property {(message: MenuMessage) => void} onEdit
 * @property {(message: MenuMessage) => void} onDelete the user has confirmed it
 */

export class MessageMenu {
  /** @param {MenuHooks} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    this.menu = byId("message-menu", HTMLDivElement);
    this.dialog = byId("delete-dialog", HTMLDialogElement);
    /** @type {{opener: HTMLButtonElement, message: MenuMessage} | null} */
    this.opened = null;
    const edit = labelled("menu-edit", "edit", TEXTS.edit);
    const remove = labelled("menu-delete", "delete", TEXTS.delete);
    this.items = [edit, remove];
    edit.onclick = () => this.chosen(hooks.onEdit);
    remove.onclick = () => this.chosen((message) => this.ask(message));
    this.menu.setAttribute("aria-label", TEXTS.messageMenu);
    this.menu.onkeydown = (event) => this.pressed(event);
    this.menu.addEventListener("focusout", (event) => this.left(event));
    this.prepareDialog();
  }

  /**
   * @param {HTMLButtonElement} opener
   * @param {MenuMessage} message
   */
  toggle(opener, message) {
    const wasOpen = this.opened?.opener === opener;
    this.close();
    if (wasOpen) return;
    this.opened = { opener, message };
    opener.setAttribute("aria-expanded", "true");
    this.menu.hidden = false;
    this.place(opener);
    this.items[0]?.focus();
  }

  close() {
    if (!this.opened) return;
    const { opener } = this.opened;
    this.opened = null;
    opener.setAttribute("aria-expanded", "false");
    if (this.menu.contains(document.activeElement)) opener.focus({ preventScroll: true });
    this.menu.hidden = true;
  }

  /** The message was deleted under the menu. @param {HTMLElement} nextFocus */
  closeIfHomeless(nextFocus) {
    if (!this.opened || (this.opened.opener.isConnected && !this.opened.opener.hidden)) return;
    const hadFocus = this.menu.contains(document.activeElement);
    this.close();
    if (hadFocus) nextFocus.focus({ preventScroll: true });
  }

  /**
   * The list has moved under the menu: a message came in, or somebody scrolls. The menu stays with its message until
   * that is out of sight.
   *
   * @param {HTMLElement} frame
   */
  follow(frame) {
    if (!this.opened) return;
    const { opener } = this.opened;
    const button = opener.getBoundingClientRect();
    const view = frame.getBoundingClientRect();
    if (button.bottom < view.top || button.top > view.bottom) this.close();
    else this.place(opener);
  }

  /** Below the button, or above it where there is no room. @param {HTMLButtonElement} opener */
  place(opener) {
    const frame = /** @type {HTMLElement} */ (this.menu.offsetParent).getBoundingClientRect();
    const button = opener.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = this.menu;
    const below = button.bottom - frame.top;
    const fits = below + offsetHeight + EDGE_PX <= frame.height;
    const left = Math.min(button.left - frame.left, frame.width - offsetWidth - EDGE_PX);
    this.menu.style.top = `${fits ? below : Math.max(EDGE_PX, button.top - frame.top - offsetHeight)}px`;
    this.menu.style.left = `${Math.max(EDGE_PX, left)}px`;
  }

  /** @param {(message: MenuMessage) => void} action */
  chosen(action) {
    const message = this.opened?.message;
    this.close();
    if (message) action(message);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const step = STEPS.get(event.key);
    if (event.key === "Escape") {
      event.stopPropagation(); // or it would close the conversation too
      this.close();
    } else if (step !== undefined) {
      event.preventDefault();
      const at = this.items.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
      this.items[Math.max(0, Math.min(this.items.length - 1, at + step))]?.focus();
    } else if (event.key === "Tab") this.close();
  }

  /** @param {FocusEvent} event */
  left({ relatedTarget }) {
    if (relatedTarget instanceof Node && this.menu.contains(relatedTarget)) return;
    if (relatedTarget !== this.opened?.opener) this.close(); // the button closes it itself
  }

  prepareDialog() {
    const { dialog } = this;
    byId("delete-question", HTMLHeadingElement).textContent = TEXTS.deleteQuestion;
    byId("delete-hint", HTMLParagraphElement).textContent = TEXTS.deleteHint;
    const cancel = byId("delete-cancel", HTMLButtonElement);
    cancel.textContent = TEXTS.cancel;
    cancel.onclick = () => dialog.close();
    byId("delete-confirm", HTMLButtonElement).textContent = TEXTS.delete;
    dialog.onkeydown = (event) => event.stopPropagation(); // Escape closes the question, not the conversation
    dialog.onclick = (event) => event.target === dialog && dialog.close();
  }

  /** @param {MenuMessage} message */
  ask(message) {
    byId("delete-confirm", HTMLButtonElement).onclick = () => {
      this.dialog.close();
      this.hooks.onDelete(message);
    };
    this.dialog.showModal();
  }
}

/**
 * @param {string} id
 * @param {string} iconName
 * @param {string} text
 */
function labelled(id, iconName, text) {
  const button = byId(id, HTMLButtonElement);
  button.replaceChildren(icon(iconName), text);
  return button;
}

// @ts-check
/** The line below the list where the user switches this browser's notifications on and off. */

import { byId } from "./element.js";
import { TEXTS } from "./texts.js";

/** @import {NotificationState, Notifications} from "./notifications.js" */

/** @type {Record<NotificationState, {text: string, button: string}>} */
const SHOWN = {
  none: { text: "", button: "" },
  off: { text: TEXTS.notifyHint, button: TEXTS.notify },
  on: { text: TEXTS.notifyOn, button: TEXTS.notifyStop },
  denied: { text: TEXTS.notifyDenied, button: "" },
};

export class NotificationBar {
  /** @param {Notifications} notifications */
  constructor(notifications) {
    this.notifications = notifications;
    this.hasFailed = false;
    this.button = byId("notify", HTMLButtonElement);
    this.button.onclick = () => void this.pressed();
  }

  async pressed() {
    const { notifications } = this;
    this.hasFailed = false;
    this.button.disabled = true;
    try {
      await (notifications.state === "on" ? notifications.switchOff() : notifications.switchOn());
    } catch {
      this.hasFailed = true;
    }
    this.button.disabled = false;
    this.render();
  }

  render() {
    const { state } = this.notifications;
    const { text, button } = SHOWN[state];
    const bar = byId("notify-bar", HTMLDivElement);
    bar.hidden = state === "none";
    bar.dataset.state = state;
    byId("notify-text", HTMLParagraphElement).textContent = this.hasFailed ? TEXTS.notifyFailed : text;
    document.getElementById("notify-icon")?.setAttribute("href", state === "denied" ? "#icon-bell-off" : "#icon-bell");
    this.button.textContent = button;
    this.button.hidden = button === "";
  }
}

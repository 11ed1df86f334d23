// @ts-check
/**
 * The open conversation in the address: `#conversation=order-4711`, next to the demo's `demo=<code>`, which stays there
 * so that a reload signs in again. A conversation opened from the list goes back to it by the browser's own "back".
 */

export class Router {
  /** @param {(conversation: string | null) => void} onRoute */
  constructor(onRoute) {
    this.onRoute = onRoute;
    this.demoCode = parameters().get("demo");
    addEventListener("hashchange", () => this.changed());
    addEventListener("popstate", () => this.changed());
    this.current = this.conversation;
  }

  get conversation() {
    return parameters().get("conversation");
  }

  /** @param {string} conversation */
  hrefOf(conversation) {
    const hash = parameters();
    hash.set("conversation", conversation);
    return `#${hash}`;
  }

  /** @param {string} conversation */
  open(conversation) {
    const fromList = this.conversation === null || history.state?.fromList === true;
    if (this.conversation === null) history.pushState({ fromList }, "", this.hrefOf(conversation));
    else history.replaceState({ fromList }, "", this.hrefOf(conversation));
    this.changed();
  }

  close() {
    if (history.state?.fromList === true) return history.back();
    const hash = parameters();
    hash.delete("conversation");
    history.replaceState(null, "", `#${hash}`);
    this.changed();
  }

  /** A demo link that works no more must not be tried again at the next reload. */
  forgetDemo() {
    const hash = parameters();
    hash.delete("demo");
    this.demoCode = null;
    history.replaceState(history.state, "", `#${hash}`);
  }

  changed() {
    if (parameters().get("demo") !== this.demoCode) return location.reload();
    if (this.conversation === this.current) return;
    this.current = this.conversation;
    this.onRoute(this.current);
  }
}

function parameters() {
  return new URLSearchParams(location.hash.slice(1));
}

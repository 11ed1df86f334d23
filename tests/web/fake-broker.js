/**
 * A Recado for the tests whose MQTT comes from an external broker: topics that only their user reads, no `after`, no
 * messages up; those, and what a page reports, come over HTTP.
 */

import { FakeRecadoOfAllLinks } from "./fake-links.js";
import { answer } from "./fake-recado.js";

export class FakeRecadoWithBroker extends FakeRecadoOfAllLinks {
  /** whether what is said reaches the broker's clients */
  brings = true;
  /** what was reported, in order: [what, content] */
  reports = [];
  renewS = 30;

  topicOf(conversation) {
    return `u/${this.user}/c/${conversation}`;
  }

  session() {
    const { mqtt, ...session } = super.session();
    const events = `u/${this.user}/c/{conversation}`;
    const topics = { subscribe: [`u/${this.user}/#`], events, live: `${events}/live`, send: null };
    return { ...session, mqtt: { ...mqtt, username: `at-broker-${this.user}`, password: "of-the-broker", topics } };
  }

  handle(socket, packet) {
    if (packet.type === "connect" && this.refusesUsers) return this.refuse(socket);
    super.handle(socket, packet);
  }

  refuse(socket) {
    socket.push({ type: "connack", sessionPresent: false, reasonCode: 0x87 });
    socket.drop();
  }

  deliver(id, event) {
    if (!this.brings) return;
    super.deliver(id, event);
  }

  handleSubscribe(socket, { packetId, subscriptions }) {
    socket.push({ type: "suback", packetId, reasonCodes: subscriptions.map(({ qos }) => qos) });
  }

  handlePublish(socket) {
    socket.drop(); // a client of that broker may not publish
  }

  callLinks = this.fetch;

  fetch = async (url, init) => {
    const [, , place, id, what] = url.pathname.split("/");
    const { method, body } = init;
    const isRefused = this.refuseTokens || init.headers.Authorization !== `Bearer ${this.token}`;
    if (isRefused) return this.callLinks(url, init);
    if (place === "presence") return this.page(method, id, body);
    if (what !== "delivered") return this.callLinks(url, init);
    this.reports.push(["delivered", { id, ...JSON.parse(body) }]);
    const status = this.deliveredAnswers?.shift() ?? 204;
    return { status, ok: status < 300, json: async () => ({}) };
  };

  page(method, id, body) {
    this.reports.push(method === "PUT" ? ["page", JSON.parse(body)] : ["page closed", { page: id }]);
    return method === "PUT" ? answer(200, { renew_s: this.renewS }) : { status: 204, ok: true };
  }

  reported(kind) {
    return this.reports.filter(([what]) => what === kind).map(([, content]) => content);
  }
}

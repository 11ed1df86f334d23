// @ts-check
/** Topic names to and from conversation ids, by the templates that `GET /v1/session` gives (`c/{conversation}`). */

const PLACE = "{conversation}";

export class TopicTemplates {
  /**
   * @param {string} eventsTemplate
   * @param {string} liveTemplate
   * @param {string} sendTemplate
   */
  constructor(eventsTemplate, liveTemplate, sendTemplate) {
    this.eventsTemplate = eventsTemplate;
    this.liveTemplate = liveTemplate;
    this.sendTemplate = sendTemplate;
  }

  /** @param {string} id */
  live(id) {
    return this.liveTemplate.replace(PLACE, id);
  }

  /** @param {string} id */
  send(id) {
    return this.sendTemplate.replace(PLACE, id);
  }

  /**
   * @param {string} topicName
   * @returns {{id: string, live: boolean} | null}
   */
  match(topicName) {
    const live = matched(this.liveTemplate, topicName);
    if (live !== null) return { id: live, live: true };
    const id = matched(this.eventsTemplate, topicName);
    return id === null ? null : { id, live: false };
  }
}

/**
 * @param {string} template
 * @param {string} topicName
 */
function matched(template, topicName) {
  const [head = "", tail = ""] = template.split(PLACE);
  if (!topicName.startsWith(head) || !topicName.endsWith(tail)) return null;
  const id = topicName.slice(head.length, topicName.length - tail.length);
  return /^[\w-]{1,64}$/.test(id) ? id : null;
}

// What is said at a table.

import { fill, h, toast } from "/assets/dom.js";
import { ask } from "/assets/live.js";

const TEXT_MAX = 500;
/** Older ones leave the page. */
const LINES_MAX = 200;

export class Chat {
  #lines = h("ol", { class: "lines", tabindex: "0", "aria-label": "Messages" });
  #input = h("input", { type: "text", name: "text", maxlength: TEXT_MAX, autocomplete: "off",
    placeholder: "Say something kind", "aria-label": "Message" });
  #mine;

  constructor(gameId, mine) {
    this.#mine = mine;
    const send = async (event) => {
      event.preventDefault();
      const text = this.#input.value.trim();
      if (!text) return;
      try {
        await ask("chat", { gameId, text });
        this.#input.value = "";
      } catch (error) {
        toast(error.message, { kind: "bad" });
      }
    };
    this.element = h("section", { class: "chat", "aria-label": "Chat" },
      h("h2", {}, "Chat"),
      this.#lines,
      h("form", { class: "say", onsubmit: send }, this.#input, h("button", { class: "button quiet" }, "Send")));
    this.fill([]);
  }

  fill(messages) {
    fill(this.#lines, h("li", { class: "empty" }, "Nothing has been said yet."));
    for (const message of messages) this.add(message);
  }

  add({ userId, username, text, timestamp }) {
    this.#lines.querySelector(".empty")?.remove();
    const at = new Date(timestamp);
    const line = h("li", { class: userId === this.#mine ? "mine" : "" },
      h("strong", {}, username),
      h("time", { datetime: timestamp }, at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })),
      h("p", {}, text));
    this.#lines.append(line);
    while (this.#lines.children.length > LINES_MAX) this.#lines.firstChild.remove();
    this.#lines.scrollTop = this.#lines.scrollHeight;
  }
}

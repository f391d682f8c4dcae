// Clocks that run down between two messages of the server.

import { h } from "/assets/dom.js";
import { serverNow } from "/assets/live.js";

/** Below this, tenths of a second are shown. */
const SHORT_MS = 20_000;

export function spelled(ms) {
  const left = Math.max(0, ms);
  if (left < SHORT_MS) return `0:${(Math.floor(left / 100) / 10).toFixed(1).padStart(4, "0")}`;
  const seconds = Math.ceil(left / 1000);
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const short = `${minutes}:${String(rest).padStart(2, "0")}`;
  return hours ? `${hours}:${short.padStart(5, "0")}` : short;
}

export class Clock {
  #text = h("span", { class: "time" });
  #bar = h("span", { class: "left" });
  #timer = 0;
  #said = "";

  constructor() {
    this.element = h("div", { class: "clock", role: "timer" }, this.#text, h("span", { class: "track" }, this.#bar));
  }

  /** `ms` was left when it was last stopped; it runs since `since`, a time of the server, or not at all. */
  set({ ms, initialMs, since }) {
    clearTimeout(this.#timer);
    this.element.classList.toggle("running", since !== null);
    const draw = () => {
      const left = since === null ? ms : ms - Math.max(0, serverNow() - since);
      const text = spelled(left);
      if (text !== this.#said) this.#text.textContent = this.#said = text;
      this.#bar.style.transform = `scaleX(${Math.min(1, Math.max(0, left / initialMs))})`;
      this.element.classList.toggle("short", left < SHORT_MS);
      // Only when it says something else: each frame would keep the page busy that is to show the next move.
      const unit = left > SHORT_MS ? 1000 : 100;
      if (since !== null && left > 0) this.#timer = setTimeout(draw, left % unit + 1);
    };
    draw();
  }

  stop() {
    clearTimeout(this.#timer);
  }
}

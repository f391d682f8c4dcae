// What was played, and the board as it was after each move.

import { get } from "/assets/api.js";
import { fill, h, toast } from "/assets/dom.js";

/** States that are kept; others are asked for again. */
const STATES_MAX = 400;

export class History {
  /** The state that is looked at instead of the newest, or null. */
  past = null;
  #gameId;
  #changed;
  #moves = [];
  #ply = null;
  #states = new Map();
  #versions = null;
  #list = h("ol", { class: "plies", tabindex: "0", "aria-label": "Moves" });
  #live = h("button", { class: "button quiet small", type: "button", "data-action": "live", hidden: true,
    onclick: () => this.#look(null) }, "Back to now");

  constructor(gameId, changed) {
    this.#gameId = gameId;
    this.#changed = changed;
    const stepper = (text, label, step) => h("button", { class: "icon-button", type: "button", "aria-label": label,
      onclick: () => this.step(step) }, text);
    this.element = h("section", { class: "history", "aria-label": "Moves" },
      h("div", { class: "row" }, h("h2", {}, "Moves"), this.#live,
        stepper("‹", "One move back", -1), stepper("›", "One move on", 1)),
      this.#list);
  }

  /** A state that the server told. */
  take(state) {
    const count = state.moves.length;
    this.#states.set(count, state);
    if (this.#states.size > STATES_MAX) this.#states.delete(this.#states.keys().next().value);
    if (count === this.#moves.length && count > 0) return;
    this.#moves = state.moves;
    this.#draw();
  }

  step(by) {
    const now = this.#ply ?? this.#moves.length;
    const next = Math.min(this.#moves.length, Math.max(0, now + by));
    if (next !== now) this.#look(next === this.#moves.length ? null : next);
  }

  /** Shows the board as it was after so many moves. */
  async #look(ply) {
    this.#ply = ply;
    this.#mark();
    if (ply === null) this.past = null;
    else if (ply === 0) this.past = { board: null, lastMove: null };
    else {
      const found = this.#states.get(ply) ?? (await this.#ask(ply));
      if (this.#ply !== ply || !found) return;
      this.past = found;
    }
    this.#changed();
  }

  /** The game's events tell which version each move made. */
  async #ask(ply) {
    try {
      if (!this.#versions || this.#versions.length < ply) {
        const events = await get(`/games/${this.#gameId}/events`);
        this.#versions = events.filter((event) => event.type === "moved").map((event) => event.version);
      }
      const state = await get(`/games/${this.#gameId}?version=${this.#versions[ply - 1]}`);
      this.#states.set(ply, state);
      return state;
    } catch (error) {
      toast(error.message, { kind: "bad" });
      return null;
    }
  }

  #draw() {
    const button = (move, index) => h("button", { class: "ply", type: "button", "data-ply": index + 1,
      onclick: () => this.#look(index + 1 === this.#moves.length ? null : index + 1) }, move.notation);
    const rows = [];
    for (let index = 0; index < this.#moves.length; index += 2) {
      const pair = this.#moves.slice(index, index + 2);
      rows.push(h("li", {}, h("span", { class: "number" }, `${index / 2 + 1}.`),
        pair.map((move, offset) => button(move, index + offset))));
    }
    fill(this.#list, rows.length === 0 ? h("li", { class: "empty" }, "No move yet.") : rows);
    this.#mark();
  }

  #mark() {
    const at = this.#ply ?? this.#moves.length;
    for (const button of this.#list.querySelectorAll(".ply")) {
      const isShown = Number(button.dataset.ply) === at;
      button.setAttribute("aria-current", String(isShown));
      if (isShown) this.#scrollTo(button);
    }
    this.#live.hidden = this.#ply === null;
  }

  /** Within the list only: the page stays where it is. */
  #scrollTo(button) {
    const list = this.#list;
    const top = button.offsetTop;
    if (top < list.scrollTop || top + button.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 2;
    }
  }
}

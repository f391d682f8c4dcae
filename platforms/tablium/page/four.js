// The board of connect four: a click on a column drops a disc.

import { h } from "/assets/dom.js";

const COLUMNS = 7;
const ROWS = 6;

export const START = { rows: Array.from({ length: ROWS }, () => Array(COLUMNS).fill(0)), line: null };

export class FourBoard {
  #discs = new Map();
  #layer = h("div", { class: "discs" });
  #columns = [];
  #play;

  constructor(play) {
    this.#play = play;
    this.#columns = Array.from({ length: COLUMNS }, (_, column) => h("button", {
      class: "column", type: "button", "data-column": column,
      onclick: () => this.#play({ column }),
      onkeydown: (event) => this.#key(event, column),
    }));
    this.element = h("div", { class: "board four" },
      h("div", { class: "well" }, this.#layer, h("div", { class: "plate" })),
      h("div", { class: "columns", role: "group", "aria-label": "Connect four board" }, this.#columns));
  }

  /** Shows a position; `playable` says whether whoever looks may move now. */
  show({ board, legalMoves, playable, mover }) {
    this.element.classList.toggle("playable", playable);
    this.element.dataset.mover = mover ?? "";
    const next = new Map();
    board.rows.forEach((row, top) => row.forEach((disc, column) => disc && next.set(`${top}-${column}`, disc)));
    for (const [cell, disc] of this.#discs) if (next.get(cell) !== disc.seat) this.#remove(cell);
    for (const [cell, seat] of next) if (!this.#discs.has(cell)) this.#drop(cell, seat);
    const line = new Set((board.line ?? []).map(([top, column]) => `${top}-${column}`));
    for (const [cell, { element }] of this.#discs) element.classList.toggle("won", line.has(cell));
    this.element.classList.toggle("decided", line.size > 0);
    const open = new Set(legalMoves.map((move) => move.column));
    this.#columns.forEach((button, column) => {
      const free = board.rows.filter((row) => row[column] === 0).length;
      button.disabled = !playable || !open.has(column);
      button.setAttribute("aria-label", `Column ${"ABCDEFG"[column]}, ${free} free`);
    });
    this.rows = board.rows;
  }

  /** Shows a move that the server has yet to take. */
  preview({ column }, seat) {
    const top = this.rows.map((row) => row[column]).lastIndexOf(0);
    if (top >= 0) this.#drop(`${top}-${column}`, seat);
    this.element.classList.remove("playable");
    for (const button of this.#columns) button.disabled = true;
  }

  restore() {
    // The state that is shown next takes away what was not played.
  }

  #drop(cell, seat) {
    const [top, column] = cell.split("-").map(Number);
    const element = h("span", { class: `disc ${seat === 1 ? "first" : "second"}` });
    element.style.setProperty("--column", column);
    element.style.setProperty("--row", top);
    this.#layer.append(element);
    this.#discs.set(cell, { seat, element });
  }

  #remove(cell) {
    this.#discs.get(cell).element.remove();
    this.#discs.delete(cell);
  }

  #key(event, column) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    let next = column + step;
    while (this.#columns[next]?.disabled) next += step;
    this.#columns[next]?.focus();
  }
}


// The board of chess: pieces that move by a click on two squares, by dragging, or from the keyboard.

import { drawing, fill, h } from "/assets/dom.js";

const NAMES = { p: "pawn", n: "knight", b: "bishop", r: "rook", q: "queen", k: "king" };
const PROMOTIONS = ["queen", "rook", "bishop", "knight"];
const FILES = "abcdefgh";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export const START = { fen: "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1", check: false };

/** What stands on which square: `e1` → `K`; white's are upper case. */
export function pieces(fen) {
  const found = new Map();
  fen.split(" ")[0].split("/").forEach((row, index) => {
    let file = 0;
    for (const letter of row) {
      if (letter >= "1" && letter <= "8") file += Number(letter);
      else found.set(FILES[file++] + (8 - index), letter);
    }
  });
  return found;
}

const isWhite = (letter) => letter === letter.toUpperCase();

export function pieceDrawing(letter, className = "piece") {
  const name = NAMES[letter.toLowerCase()];
  return drawing(`piece-${name}`, `${className} ${isWhite(letter) ? "white" : "black"}`);
}

const WORTH = { p: 1, n: 3, b: 3, r: 5, q: 9 };
const BEGUN_WITH = { p: 8, n: 2, b: 2, r: 2, q: 1 };

/** What each side has taken: `{first: {taken: ["p", …], ahead: 2}, second: …}`. */
export function captured(fen) {
  const left = { first: {}, second: {} };
  let ahead = 0;
  for (const letter of pieces(fen).values()) {
    const kind = letter.toLowerCase();
    const side = isWhite(letter) ? "first" : "second";
    left[side][kind] = (left[side][kind] ?? 0) + 1;
    ahead += (WORTH[kind] ?? 0) * (side === "first" ? 1 : -1);
  }
  // A pawn that became something else was not taken.
  const taken = (from) => {
    const more = (kind) => Math.max(0, (left[from][kind] ?? 0) - BEGUN_WITH[kind]);
    const promoted = more("q") + more("r") + more("b") + more("n");
    const missing = (kind) => BEGUN_WITH[kind] - (left[from][kind] ?? 0) - (kind === "p" ? promoted : 0);
    return Object.keys(WORTH).flatMap((kind) => Array(Math.max(0, missing(kind))).fill(kind));
  };
  return {
    first: { taken: taken("second"), ahead: Math.max(0, ahead) },
    second: { taken: taken("first"), ahead: Math.max(0, -ahead) },
  };
}

export class ChessBoard {
  #standing = new Map();
  #squares = new Map();
  #shown = null;
  #selected = null;
  #drag = null;
  #focused = "e2";
  #pieces = h("div", { class: "pieces" });
  #grid = h("div", { class: "squares", role: "group", "aria-label": "Chess board" });
  #play;

  constructor(play) {
    this.#play = play;
    this.element = h("div", { class: "board chess" }, this.#grid, this.#pieces);
    this.#grid.addEventListener("pointerdown", (event) => this.#down(event));
    this.#grid.addEventListener("click", (event) => event.detail === 0 && this.#activate(squareOf(event.target)));
    this.#grid.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Shows a position; `playable` says whether whoever looks may move now. */
  show({ board, lastMove, legalMoves, flipped, playable }) {
    const turned = this.#shown?.flipped !== flipped;
    this.#shown = { board, lastMove, legalMoves, flipped, playable, pieces: pieces(board.fen) };
    if (turned) this.#lay();
    this.#end();
    this.#select(null);
    this.#place(this.#shown.pieces, lastMove);
    this.#mark();
  }

  /** Shows a move that the server has yet to take. */
  preview({ from, to }) {
    const next = new Map(this.#shown.pieces);
    const moved = next.get(from);
    if (!moved) return;
    next.delete(from);
    next.set(to, moved);
    this.#select(null);
    this.#place(next, { from, to });
  }

  restore() {
    this.#place(this.#shown.pieces, null);
  }

  #lay() {
    const ranks = [8, 7, 6, 5, 4, 3, 2, 1];
    const files = [...FILES];
    if (this.#shown.flipped) ranks.reverse(), files.reverse();
    this.#squares.clear();
    const squares = ranks.flatMap((rank, row) => files.map((file, column) => {
      const name = file + rank;
      const shade = (row + column) % 2 === 0 ? "light" : "dark";
      const square = h("button", { class: `square ${shade}`, type: "button", "data-square": name },
        column === 0 && h("span", { class: "rank", "aria-hidden": "true" }, rank),
        row === 7 && h("span", { class: "file", "aria-hidden": "true" }, file));
      this.#squares.set(name, square);
      return square;
    }));
    fill(this.#grid, squares);
    for (const [square, standing] of this.#standing) this.#put(standing.element, square);
  }

  #place(next, move) {
    const free = new Map(this.#standing);
    const placed = new Map();
    const coming = [];
    for (const [square, letter] of next) {
      const standing = free.get(square);
      if (standing?.letter === letter) {
        placed.set(square, standing);
        free.delete(square);
      } else coming.push([square, letter]);
    }
    for (const [square, letter] of coming) {
      const fits = [...free].filter(([, standing]) => standing.letter === letter);
      const [from, standing] = fits.find(([from]) => from === move?.from) ?? fits[0] ?? [];
      if (from) free.delete(from);
      const element = standing?.element ?? this.#pieces.appendChild(pieceDrawing(letter));
      placed.set(square, { letter, element });
    }
    for (const { element } of free.values()) element.remove();
    this.#standing = placed;
    for (const [square, { element }] of placed) this.#put(element, square);
  }

  #put(element, square) {
    const { x, y } = this.#cell(square);
    element.style.transform = `translate(${x * 100}%, ${y * 100}%)`;
  }

  #cell(square) {
    const x = FILES.indexOf(square[0]);
    const y = 8 - Number(square[1]);
    return this.#shown.flipped ? { x: 7 - x, y: 7 - y } : { x, y };
  }

  #mark() {
    const { board, lastMove, pieces: on, playable } = this.#shown;
    const king = board.fen.split(" ")[1] === "w" ? "K" : "k";
    const targets = new Set(this.#movesFrom(this.#selected).map((move) => move.to));
    for (const [name, square] of this.#squares) {
      const letter = on.get(name);
      square.classList.toggle("last", name === lastMove?.from || name === lastMove?.to);
      square.classList.toggle("check", board.check && letter === king);
      square.classList.toggle("selected", name === this.#selected);
      square.classList.toggle("target", targets.has(name));
      square.classList.toggle("occupied", targets.has(name) && letter !== undefined);
      square.classList.toggle("movable", playable && this.#movesFrom(name).length > 0);
      square.tabIndex = name === this.#focused ? 0 : -1;
      const stands = letter ? `, ${isWhite(letter) ? "white" : "black"} ${NAMES[letter.toLowerCase()]}` : "";
      square.setAttribute("aria-label", `${name}${stands}${targets.has(name) ? ", can be moved to" : ""}`);
    }
  }

  #movesFrom(square) {
    return this.#shown.playable ? this.#shown.legalMoves.filter((move) => move.from === square) : [];
  }

  #select(square) {
    this.#selected = square;
    this.#mark();
  }

  #activate(square) {
    if (!square) return;
    this.#focused = square;
    if (this.#movesFrom(this.#selected).some((move) => move.to === square)) this.#move(this.#selected, square);
    else this.#select(square !== this.#selected && this.#movesFrom(square).length > 0 ? square : null);
  }

  #down(event) {
    const square = squareOf(event.target);
    if (!square || event.button !== 0) return;
    const wasSelected = square === this.#selected;
    const isTarget = this.#movesFrom(this.#selected).some((move) => move.to === square);
    if (isTarget || this.#movesFrom(square).length === 0) return void this.#activate(square);
    this.#focused = square;
    this.#select(square);
    this.#lift(event, square, wasSelected);
  }

  /** From here on the piece follows the pointer. */
  #lift(event, from, wasSelected) {
    const { element } = this.#standing.get(from);
    const start = { x: event.clientX, y: event.clientY };
    const ends = new AbortController();
    this.#drag = { ends, element };
    const on = (name, listener) => addEventListener(name, listener, { signal: ends.signal });
    on("pointermove", (event) => {
      const box = this.#grid.getBoundingClientRect();
      if (Math.hypot(event.clientX - start.x, event.clientY - start.y) > 4) element.classList.add("dragged");
      const x = ((event.clientX - box.left) / box.width) * 800 - 50;
      const y = ((event.clientY - box.top) / box.height) * 800 - 50;
      if (element.classList.contains("dragged")) element.style.transform = `translate(${x}%, ${y}%)`;
    });
    on("pointercancel", () => this.#end());
    on("pointerup", (event) => {
      const to = squareOf(document.elementFromPoint(event.clientX, event.clientY));
      this.#end();
      if (to && to !== from && this.#movesFrom(from).some((move) => move.to === to)) this.#move(from, to);
      else if (to === from && wasSelected) this.#select(null);
    });
  }

  #end() {
    if (!this.#drag) return;
    const { ends, element } = this.#drag;
    this.#drag = null;
    ends.abort();
    element.classList.remove("dragged");
    for (const [square, standing] of this.#standing) if (standing.element === element) this.#put(element, square);
  }

  #move(from, to) {
    const fits = this.#movesFrom(from).filter((move) => move.to === to);
    if (fits.some((move) => move.promotion)) this.#choose(from, to);
    else this.#play({ from, to });
  }

  /** Asks what the pawn becomes. */
  #choose(from, to) {
    const white = this.#shown.board.fen.split(" ")[1] === "w";
    const { x, y } = this.#cell(to);
    const close = () => { chooser.remove(); this.#select(null); };
    const choices = PROMOTIONS.map((promotion) => {
      const letter = Object.keys(NAMES).find((key) => NAMES[key] === promotion);
      return h("button", { type: "button", "aria-label": promotion, "data-promotion": promotion,
        onclick: () => { close(); this.#play({ from, to, promotion }); } },
      pieceDrawing(white ? letter.toUpperCase() : letter, "choice"));
    });
    const chooser = h("div", { class: `promotion ${y === 0 ? "down" : "up"}`, role: "dialog", "aria-label": "Promote to",
      onkeydown: (event) => event.key === "Escape" && close() }, choices);
    chooser.style.setProperty("--column", x);
    this.element.append(chooser);
    choices[0].focus();
    addEventListener("pointerdown", (event) => chooser.contains(event.target) || close(), { once: true });
  }

  #key(event) {
    if (event.key === "Escape") return void this.#select(null);
    const step = ARROWS[event.key];
    const square = squareOf(event.target);
    if (!step || !square) return;
    event.preventDefault();
    event.stopPropagation();
    const { x, y } = this.#cell(square);
    const inside = (at) => Math.min(7, Math.max(0, at));
    const next = this.#grid.children[inside(y + step[1]) * 8 + inside(x + step[0])];
    this.#squares.get(this.#focused).tabIndex = -1;
    this.#focused = next.dataset.square;
    next.tabIndex = 0;
    next.focus();
  }
}

function squareOf(element) {
  return element?.closest?.("[data-square]")?.dataset.square ?? null;
}

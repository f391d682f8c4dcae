// A player at the table: name, clock, and what they have taken.

import { captured, pieceDrawing } from "/assets/chess.js";
import { Clock } from "/assets/clock.js";
import { avatar, fill, h } from "/assets/dom.js";

export class PlayerCard {
  clock = new Clock();
  #name = h("strong", { class: "name" });
  #face = h("span", { class: "face" });
  #taken = h("span", { class: "taken" });
  #note = h("span", { class: "note" });
  #seat = null;
  #username = null;

  constructor() {
    this.element = h("div", { class: "player" }, this.#face,
      h("div", { class: "identity" }, h("div", { class: "row" }, this.#name, this.#note), this.#taken), this.clock.element);
  }

  show(state, seat, mySeat) {
    const player = state.players.find((player) => player.seat === seat);
    const isTurn = state.status === "active" && state.turn === seat;
    this.#seat = seat;
    this.element.dataset.seat = seat;
    this.element.classList.toggle("turn", isTurn);
    this.element.classList.toggle("winner", state.outcome?.winner === seat);
    this.element.classList.toggle("vacant", !player);
    this.#note.textContent = seat === mySeat ? "you" : "";
    if (this.#username !== (player?.username ?? "")) {
      this.#username = player?.username ?? "";
      this.#name.textContent = player?.username ?? "Waiting for a player…";
      fill(this.#face, player ? avatar(player.username) : h("span", { class: "avatar none", "aria-hidden": "true" }),
        h("i", { class: `colour ${state.kind} ${seat}`, title: colourOf(state.kind, seat) }));
    }
    const { initialMs, runningSince } = state.clock;
    const since = isTurn && runningSince ? Date.parse(runningSince) : null;
    this.clock.set({ ms: player?.clockMs ?? initialMs, initialMs, since });
  }

  showPresent(isPresent) {
    this.element.classList.toggle("away", !isPresent);
  }

  showTaken(kind, board) {
    if (kind !== "chess") return void fill(this.#taken);
    const { taken, ahead } = captured(board.fen)[this.#seat];
    const letter = (name) => (this.#seat === "first" ? name : name.toUpperCase());
    fill(this.#taken, taken.map((name) => pieceDrawing(letter(name), "piece tiny")), ahead > 0 && h("b", {}, `+${ahead}`));
  }
}

function colourOf(kind, seat) {
  if (kind === "chess") return seat === "first" ? "White" : "Black";
  return seat === "first" ? "Red" : "Yellow";
}

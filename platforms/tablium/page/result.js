// How a game stands, in words, and what is shown over the board when it is over.

import { fill, h, points } from "/assets/dom.js";

const REASONS = {
  "four-in-a-row": "four in a row",
  checkmate: "checkmate",
  stalemate: "stalemate",
  repetition: "repetition",
  "fifty-moves": "fifty quiet moves",
  material: "too little material",
  "board-full": "a full board",
  resignation: "resignation",
  time: "time",
  agreement: "agreement",
  cancelled: "cancellation",
};

/** One line on whose turn it is, or how it ended, for who sits at `seat` or nowhere. */
export function headline(state, seat) {
  const name = (of) => state.players.find((player) => player.seat === of)?.username ?? "?";
  if (state.status === "cancelled") return "This game was called off.";
  if (state.outcome) {
    const { winner, reason } = state.outcome;
    if (!winner) return `Draw by ${REASONS[reason] ?? reason}.`;
    return `${winner === seat ? "You" : name(winner)} won by ${REASONS[reason] ?? reason}.`;
  }
  if (state.status === "waiting") return state.players.length < 2 ? "Waiting for an opponent." : "Setting the stakes aside…";
  const check = state.board.check ? " Check!" : "";
  return state.turn === seat ? `Your turn.${check}` : `${name(state.turn)} is thinking.${check}`;
}

export class Result {
  #answer;
  #wish = h("p", { class: "wish", role: "status", hidden: true });
  element = h("div", { class: "result", hidden: true });

  constructor(answer) {
    this.#answer = answer;
  }

  show(state, seat) {
    const { winner, reason } = state.outcome;
    const title = !winner ? "Draw" : !seat ? "Game over" : winner === seat ? "You won" : "You lost";
    const answer = (what) => () => this.#answer(what);
    this.element.className = `result ${!winner ? "drawn" : winner === seat ? "won" : seat ? "lost" : "drawn"}`;
    fill(this.element, h("div", { class: "result-card", role: "dialog", "aria-label": title },
      h("button", { class: "icon-button close", type: "button", "aria-label": "Look at the board", onclick: () => { this.element.hidden = true; } }, "×"),
      h("h2", {}, title),
      h("p", {}, seat && winner ? `by ${REASONS[reason] ?? reason}` : headline(state, seat)),
      seat && state.stake && h("p", { class: "stake", "data-stake": true }, brought(state.stake, winner, seat)),
      this.#wish,
      h("div", { class: "row centre" },
        seat && h("button", { class: "button main", type: "button", "data-action": "result-rematch", onclick: answer("rematch") }, "Rematch"),
        h("button", { class: "button quiet", type: "button", "data-action": "result-lobby", onclick: answer("lobby") }, "Back to lobby"))));
    this.element.hidden = false;
  }

  /** The other would like to play again. */
  asked(text) {
    this.#wish.textContent = text;
    this.#wish.hidden = false;
  }
}

/** What the stake came to. */
function brought(stake, winner, seat) {
  if (!winner) return `Your ${points(stake)} come back.`;
  return winner === seat ? `+${points(stake)}` : `−${points(stake)}`;
}

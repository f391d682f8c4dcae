// A table: the board, its players and their clocks, what was played and said, and how it ended.

import { list, me, post } from "/assets/api.js";
import { Chat } from "/assets/chat.js";
import { ChessBoard, START as CHESS_START } from "/assets/chess.js";
import { confirmed, fill, h, points, toast } from "/assets/dom.js";
import { FourBoard, START as FOUR_START } from "/assets/four.js";
import { History } from "/assets/history.js";
import { ask, isUp, on } from "/assets/live.js";
import { clockText, joinGame, kindMark, TITLES } from "/assets/lobby.js";
import { refreshing } from "/assets/refresh.js";
import { PlayerCard } from "/assets/player.js";
import { headline, Result } from "/assets/result.js";

export function table(view, gameId) {
  const shown = new Table(view, gameId);
  return () => shown.leave();
}

class Table {
  #view;
  #gameId;
  #state = null;
  #seat = null;
  #board = null;
  #history;
  #result = new Result((what) => this.#after(what));
  #cards = { first: new PlayerCard(), second: new PlayerCard() };
  #chat;
  #status = h("p", { class: "status", role: "status" });
  #watchers = h("span", { class: "watchers" });
  #actions = h("div", { class: "actions" });
  #said = new Set();
  #presence = null;
  #ends = [];
  #hasLeft = false;

  constructor(view, gameId) {
    this.#view = view;
    this.#gameId = gameId;
    this.#chat = new Chat(gameId, me().userId);
    this.#history = new History(gameId, () => this.#drawBoard());
    fill(view, h("p", { class: "loading" }, "Loading…"));
    const mine = (data) => data?.gameId === gameId;
    this.#hear("up", () => this.#join());
    this.#hear("game-updated", (data) => mine(data) && this.#take(data.state));
    this.#hear("presence", (data) => mine(data) && this.#present(data));
    this.#hear("chat-message", (data) => mine(data) && this.#hearSaid(data));
    const key = (event) => this.#key(event);
    addEventListener("keydown", key);
    this.#ends.push(() => removeEventListener("keydown", key));
    if (isUp()) this.#join();
  }

  #hear(event, listener) {
    this.#ends.push(on(event, listener));
  }

  leave() {
    this.#hasLeft = true;
    for (const end of this.#ends) end();
    for (const card of Object.values(this.#cards)) card.clock.stop();
    if (isUp()) ask("leave-game", this.#gameId).catch(() => {});
  }

  /** Comes to the table, again after each reconnection. */
  async #join() {
    try {
      const found = await ask("join-game", this.#gameId);
      if (this.#hasLeft) return;
      for (const said of found?.chat ?? []) this.#hearSaid(said);
      if (found?.state) this.#take(found.state);
    } catch (error) {
      if (!this.#hasLeft && !this.#state) this.#invite(error);
    }
  }

  /** A game that can't be seen may be a private one whose link somebody was given. */
  #invite(error) {
    const join = async () => {
      await joinGame(this.#gameId).then(() => this.#join(), () => {});
    };
    fill(this.#view, h("section", { class: "card invitation" },
      h("h1", {}, "A private game"),
      h("p", {}, "Only its players can see it. If a friend gave you this link, the place opposite may be yours."),
      h("p", { class: "hint" }, error.message),
      h("div", { class: "row" },
        h("button", { class: "button main", type: "button", onclick: join }, "Join the game"),
        h("a", { class: "button quiet", href: "#/" }, "Back to the lobby"))));
  }

  /** Messages may come twice or late: an older state changes nothing. */
  #take(state) {
    if (this.#hasLeft || (this.#state && state.version < this.#state.version)) return;
    const isFirst = this.#state === null;
    const before = this.#state;
    this.#state = state;
    this.#seat = state.players.find((player) => player.userId === me().userId)?.seat ?? null;
    if (isFirst) this.#lay();
    this.#history.take(state);
    this.#draw();
    const hasEnded = state.outcome && state.status !== "cancelled";
    if (hasEnded && !before?.outcome) this.#end(state);
  }

  /** Over the board, and until the table is left whether the other asks for a rematch. */
  #end(state) {
    this.#result.show(state, this.#seat);
    const opponent = state.players.find((player) => player.seat !== this.#seat);
    if (!this.#seat || !opponent) return;
    const [first] = this.#gameId.split(".r");
    const isAsked = (game) => game.gameId.startsWith(`${first}.r`) && game.gameId !== this.#gameId
      && game.players.length === 1 && game.players[0].userId === opponent.userId;
    const ask = (games) => games.some(isAsked) && this.#result.asked(`${opponent.username} wants to play again.`);
    this.#ends.push(refreshing(() => list("/games?status=waiting"), ask, () => {}));
  }

  #lay() {
    const Board = this.#state.kind === "chess" ? ChessBoard : FourBoard;
    this.#board = new Board((move) => this.#play(move));
    this.frame = h("div", { class: `stage ${this.#state.kind}` });
    fill(this.#view, h("section", { class: "table" }, this.frame,
      h("aside", { class: "side" },
        h("div", { class: "card about" },
          h("div", { class: "row" }, kindMark(this.#state.kind), h("h1", {}, TITLES[this.#state.kind]), this.#watchers),
          h("p", { class: "hint" }, [clockText(this.#state.clock), this.#state.stake && `${points(this.#state.stake)} each`,
            this.#state.private && "private"].filter(Boolean).join(" · ")),
          this.#status, this.#actions),
        h("div", { class: "card moves" }, this.#history.element),
        h("div", { class: "card talk" }, this.#chat.element))));
  }

  get #below() {
    return this.#seat === "second" ? "second" : "first";
  }

  #draw() {
    const state = this.#state;
    const below = this.#below;
    const above = below === "first" ? "second" : "first";
    if (this.frame.dataset.below !== below) {
      this.frame.dataset.below = below;
      fill(this.frame, this.#cards[above].element,
        h("div", { class: "board-frame" }, this.#board.element, this.#result.element), this.#cards[below].element);
    }
    for (const seat of ["first", "second"]) this.#cards[seat].show(state, seat, this.#seat);
    this.#status.textContent = headline(state, this.#seat);
    const isTurn = this.#seat && state.turn === this.#seat && state.status === "active";
    document.title = `${isTurn ? "● Your turn" : TITLES[state.kind]} · Tablium`;
    this.#drawActions();
    this.#drawBoard();
    if (this.#presence) this.#present(this.#presence);
  }

  #drawBoard() {
    const state = this.#state;
    const past = this.#history.past;
    const shown = past ?? state;
    const isTurn = past === null && state.status === "active" && state.turn !== null && state.turn === this.#seat;
    this.#board.element.dataset.version = state.version;
    this.#board.element.classList.toggle("past", past !== null);
    this.#board.show({
      board: shown.board ?? (state.kind === "chess" ? CHESS_START : FOUR_START),
      lastMove: shown.lastMove,
      legalMoves: isTurn ? state.legalMoves : [],
      flipped: this.#below === "second",
      playable: isTurn,
      mover: this.#seat,
    });
    const taken = shown.board ?? CHESS_START;
    for (const card of Object.values(this.#cards)) card.showTaken(state.kind, taken);
  }

  async #play(move) {
    const { version } = this.#state;
    this.#board.preview(move, this.#seat === "first" ? 1 : 2);
    try {
      const state = await ask("game-move", { gameId: this.#gameId, move, version });
      if (state?.version) this.#take(state);
    } catch (error) {
      toast(error.message, { kind: "bad" });
      this.#board.restore();
      if (!this.#hasLeft) this.#drawBoard();
    }
  }

  async #tell(event, data) {
    try {
      await ask(event, data);
    } catch (error) {
      toast(error.message, { kind: "bad" });
    }
  }

  #drawActions() {
    const { status, drawOffer } = this.#state;
    const button = (text, kind, name, onclick) =>
      h("button", { class: `button ${kind} small`, type: "button", "data-action": name, onclick }, text);
    if (status === "waiting") return void fill(this.#actions, this.#waiting(button));
    if (status !== "active" || !this.#seat) {
      const isOver = status === "completed" && this.#seat;
      return void fill(this.#actions, isOver && button("Rematch", "main", "rematch", () => this.#after("rematch")),
        h("a", { class: "button quiet small", href: "#/" }, "Back to the lobby"));
    }
    const gameId = this.#gameId;
    const answer = (accept) => this.#tell("answer-draw", { gameId, accept });
    const resign = async () => {
      if (await confirmed("Give up this game?", { yes: "Resign", no: "Go on" })) this.#tell("resign", { gameId });
    };
    const isAsked = drawOffer && drawOffer !== this.#seat;
    fill(this.#actions,
      isAsked && h("p", { class: "offer" }, "Your opponent offers a draw."),
      isAsked
        ? [button("Accept draw", "main", "accept-draw", () => answer(true)), button("Decline", "quiet", "decline-draw", () => answer(false))]
        : h("button", { class: "button quiet small", type: "button", "data-action": "offer-draw", disabled: drawOffer === this.#seat,
          onclick: () => this.#tell("offer-draw", { gameId }) }, drawOffer === this.#seat ? "Draw offered" : "Offer draw"),
      button("Resign", "quiet danger-text", "resign", resign));
  }

  /** Nobody sits opposite yet. */
  #waiting(button) {
    const { players, private: isPrivate } = this.#state;
    if (!this.#seat) {
      return players.length < 2 && button("Join this game", "main", "join", () => joinGame(this.#gameId).then(() => this.#join(), () => {}));
    }
    const cancel = async () => {
      try {
        await post(`/games/${this.#gameId}/cancel`);
        location.hash = "#/";
      } catch (error) {
        toast(error.message, { kind: "bad" });
      }
    };
    const copy = async () => {
      link.select();
      await navigator.clipboard?.writeText(link.value).then(() => toast("The link is copied."), () => {});
    };
    const link = h("input", { class: "link-text", readonly: true, value: location.href, "aria-label": "Link to this game",
      onfocus: (event) => event.target.select() });
    return [
      players.length < 2 && isPrivate && h("div", { class: "share" }, link, button("Copy link", "quiet", "copy", copy)),
      players.length < 2 && button("Cancel game", "quiet", "cancel", cancel),
    ];
  }

  #present(presence) {
    this.#presence = presence;
    const { players, spectators } = presence;
    this.#watchers.textContent = spectators ? `${spectators} watching` : "";
    this.#watchers.dataset.count = spectators;
    for (const player of this.#state?.players ?? []) {
      this.#cards[player.seat].showPresent(players.includes(player.userId));
    }
  }

  #hearSaid(message) {
    if (message.messageId && this.#said.has(message.messageId)) return;
    this.#said.add(message.messageId);
    this.#chat.add(message);
  }

  async #after(what) {
    if (what === "lobby") return void (location.hash = "#/");
    try {
      const next = await post(`/games/${this.#gameId}/rematch`);
      location.hash = `#/game/${next.gameId}`;
    } catch (error) {
      toast(error.message, { kind: "bad" });
    }
  }

  /** The arrows go through the moves, where they are not needed otherwise. */
  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const isBusy = event.target.closest?.("input, dialog, [role=group]");
    if (!step || isBusy || !this.#state) return;
    event.preventDefault();
    this.#history.step(step);
  }
}


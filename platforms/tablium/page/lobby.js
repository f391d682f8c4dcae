// Games to join and to watch, and a new one.

import { list, me, post } from "/assets/api.js";
import { drawing, fill, h, points, toast } from "/assets/dom.js";
import { refreshing } from "/assets/refresh.js";

const CLOCKS = [[3, 2], [5, 0], [10, 0], [15, 10]];
export const TITLES = { "connect-four": "Connect four", chess: "Chess" };

export function clockText({ initialMs, incrementMs }) {
  return `${Math.round(initialMs / 60000)} min${incrementMs ? ` + ${incrementMs / 1000} s` : ""}`;
}

export function kindMark(kind) {
  return kind === "chess"
    ? h("span", { class: "kind chess" }, drawing("piece-knight", "piece white"))
    : h("span", { class: "kind four" }, h("i", {}), h("i", {}), h("i", {}), h("i", {}));
}

export function lobby(view) {
  const open = h("ul", { class: "games", id: "open" });
  const played = h("ul", { class: "games", id: "played" });
  fill(view, h("section", { class: "lobby" },
    h("div", { class: "lists" },
      h("section", { class: "card flush" }, h("h2", {}, "Open games"), open),
      h("section", { class: "card flush" }, h("h2", {}, "Being played"), played)),
    newGame()));
  const load = () => Promise.all([list("/games?status=waiting"), list("/games?status=active")]);
  const show = ([waiting, active]) => {
    redraw(open, waiting, "No open games. Create one, and somebody will join.");
    redraw(played, active, "Nobody plays at the moment.");
  };
  return refreshing(load, show, (error) => fill(open, h("li", { class: "empty" }, error.message)));
}

function redraw(element, games, otherwise) {
  fill(element, games.length === 0 ? h("li", { class: "empty" }, otherwise) : games.map(row));
}

function row(game) {
  const seated = game.players.some((player) => player.userId === me().userId);
  const isOpen = game.status === "waiting";
  const names = game.players.map((player) => player.username);
  const go = () => { location.hash = `#/game/${game.gameId}`; };
  const join = async (event) => {
    event.target.disabled = true;
    await joinGame(game.gameId).catch(() => { event.target.disabled = false; });
  };
  const action = isOpen && !seated
    ? h("button", { class: "button main small", type: "button", "data-join": game.gameId, onclick: join }, "Join")
    : h("button", { class: "button quiet small", type: "button", "data-watch": game.gameId, onclick: go }, seated ? "Go on" : "Watch");
  return h("li", {},
    kindMark(game.kind),
    h("div", { class: "what" },
      h("strong", {}, isOpen ? names[0] ?? "?" : names.join(" – ")),
      h("span", { class: "hint" }, [TITLES[game.kind], clockText(game.clock), game.stake && points(game.stake),
        game.private && "private"].filter(Boolean).join(" · "))),
    action);
}

/** Takes the free place and goes there. */
export async function joinGame(gameId) {
  try {
    await post(`/games/${gameId}/join`);
    location.hash = `#/game/${gameId}`;
  } catch (error) {
    toast(error.message, { kind: "bad" });
    throw error;
  }
}

function newGame() {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const balance = h("span", { class: "hint" });
  const showBalance = () => list(`/users/${me().userId}/wallets`).then(([wallet]) => {
    if (wallet) balance.textContent = `You have ${points(wallet.balance)}.`;
  }, () => {});
  const choice = (name, value, isChosen, ...label) => h("label", { class: "choice" },
    h("input", { type: "radio", name, value, checked: isChosen }), h("span", {}, ...label));
  const send = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const [minutes, incrementSeconds] = form.get("clock").split("+").map(Number);
    const amount = form.get("stake").trim();
    const button = event.target.querySelector("[type=submit]");
    button.disabled = true;
    try {
      const game = await post("/games", {
        kind: form.get("kind"),
        clock: { minutes, incrementSeconds },
        private: form.get("private") === "on",
        ...(Number(amount) > 0 ? { stake: { amount, currency: "PTS" } } : {}),
      });
      location.hash = `#/game/${game.gameId}`;
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      button.disabled = false;
    }
  };
  return h("form", { class: "card new-game", onsubmit: send },
    h("h2", {}, "New game"),
    h("fieldset", { class: "kinds" }, h("legend", {}, "Game"),
      choice("kind", "connect-four", true, kindMark("connect-four"), "Connect four"),
      choice("kind", "chess", false, kindMark("chess"), "Chess")),
    h("fieldset", { class: "clocks" }, h("legend", {}, "Clock"),
      CLOCKS.map(([minutes, increment]) => choice("clock", `${minutes}+${increment}`, minutes === 5,
        h("b", {}, minutes), increment ? ` + ${increment}` : " min"))),
    h("label", { class: "field" }, h("span", {}, "Stake"),
      h("span", { class: "with-unit" },
        h("input", { name: "stake", onfocus: showBalance, inputmode: "decimal", pattern: "\\d*([.]\\d{1,2})?", placeholder: "none", autocomplete: "off",
          title: "Points, with at most two decimals" }),
        h("span", { class: "unit" }, "PTS")), balance),
    h("label", { class: "switch" }, h("input", { type: "checkbox", name: "private" }),
      h("span", {}, h("strong", {}, "Private"), h("span", { class: "hint" }, "Only whoever has the link can join."))),
    problem,
    h("button", { class: "button main", type: "submit" }, "Create game"),
    h("p", { class: "hint" }, "Whoever creates a game moves first."));
}


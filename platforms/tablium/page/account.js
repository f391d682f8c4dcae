// Signing in, a player's profile, and the leaderboard.

import { get, list, me, post, signIn } from "/assets/api.js";
import { avatar, drawing, fill, h, points } from "/assets/dom.js";
import { refreshing } from "/assets/refresh.js";

/** The first screen: an account is made here, or entered. */
export function signInScreen(view, done) {
  let isNew = true;
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const send = async (event) => {
    event.preventDefault();
    const { email, username, password } = Object.fromEntries(new FormData(event.target));
    const button = event.target.querySelector("[type=submit]");
    button.disabled = true;
    try {
      const found = isNew
        ? await post("/auth/register", { email, username, password })
        : await post("/auth/login", { username, password });
      signIn(found);
      done();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      button.disabled = false;
    }
  };
  const field = (label, name, attributes) => h("label", { class: "field" }, h("span", {}, label),
    h("input", { name, required: true, ...attributes }));
  const draw = () => {
    document.title = "Tablium";
    problem.hidden = true;
    fill(view, h("section", { class: "welcome" },
      h("div", { class: "pitch" },
        h("h1", {}, "A quiet place to play."),
        h("p", {}, "Connect four and chess, with a clock and a friend, for fun or for points. Watch others while you wait."),
        h("div", { class: "parade", "aria-hidden": "true" },
          ["king", "queen", "rook", "bishop", "knight", "pawn"].map((name, index) =>
            drawing(`piece-${name}`, `piece ${index % 2 ? "black" : "white"}`)))),
      h("form", { class: "card sign-in", onsubmit: send },
        h("div", { class: "tabs", role: "group", "aria-label": "Account" },
          tab("New player", true), tab("Sign in", false)),
        field("Username", "username", { autocomplete: "username", minlength: 3, maxlength: 30, pattern: "[A-Za-z0-9._\\-]+",
          title: "Letters, digits, dots and dashes", autofocus: true }),
        isNew && field("Email", "email", { type: "email", autocomplete: "email", maxlength: 254 }),
        field("Password", "password", { type: "password", autocomplete: isNew ? "new-password" : "current-password",
          minlength: 8, maxlength: 200 }),
        isNew && h("p", { class: "hint" }, "At least eight characters."),
        problem,
        h("button", { class: "button main", type: "submit" }, isNew ? "Create account" : "Sign in"))));
    view.querySelector("[name=username]").focus();
  };
  const tab = (text, value) => h("button", { type: "button", class: "tab", "aria-pressed": String(isNew === value),
    onclick: () => { isNew = value; draw(); } }, text);
  draw();
}

const numbers = (statistics) => [
  ["Played", statistics.played], ["Won", statistics.won], ["Lost", statistics.lost], ["Drawn", statistics.drawn],
  ["Best run", statistics.winsInARow],
];

/** What a player has done; what they own only they see. */
export function profile(view, userId) {
  const isMine = userId === me().userId;
  fill(view, h("p", { class: "loading" }, "Loading…"));
  const load = () => Promise.all([
    get(isMine ? "/users/me" : `/users/${userId}`),
    isMine ? list(`/users/${userId}/wallets`) : [],
  ]);
  return refreshing(load, ([found, wallets]) => fill(view, person(found, wallets)), (error) => {
    const text = isMine && error.status === 404 ? "Your profile is being made…" : error.message;
    fill(view, h("p", { class: "loading" }, text));
  });
}

function person(found, wallets) {
  const date = (at) => new Date(at).toLocaleDateString([], { dateStyle: "medium" });
  return h("section", { class: "profile" },
    h("div", { class: "card person" },
      avatar(found.username),
      h("div", {}, h("h1", {}, found.displayName || found.username), h("p", { class: "hint" }, found.email ?? "Player")),
      wallets.map((wallet) => h("div", { class: "wallet" },
        h("span", { class: "hint" }, "Balance"), h("strong", {}, points(wallet.balance))))),
    h("dl", { class: "card numbers" }, numbers(found.statistics).map(([name, value]) =>
      h("div", {}, h("dt", {}, name), h("dd", {}, value ?? 0)))),
    h("section", { class: "card" },
      h("h2", {}, "Achievements"),
      found.achievements.length === 0
        ? h("p", { class: "empty" }, "None yet. The first one comes with the first game.")
        : h("ul", { class: "medals" }, found.achievements.map((earned) => h("li", {},
          h("span", { class: "medal", "aria-hidden": "true" }, "★"),
          h("span", {}, h("strong", {}, earned.title || earned.achievement),
            h("span", { class: "hint" }, date(earned.earnedAt))))))));
}

export function leaderboard(view) {
  fill(view, h("p", { class: "loading" }, "Loading…"));
  return refreshing(() => list("/leaderboard"), (leaders) => fill(view, leadersTable(leaders)),
    (error) => fill(view, h("p", { class: "problem" }, error.message)));
}

function leadersTable(leaders) {
  const row = (leader, index) => h("tr", { class: leader.userId === me()?.userId ? "mine" : "" },
    h("td", { class: "place" }, index + 1),
    h("td", {}, h("a", { class: "person-link", href: `#/player/${leader.userId}` }, avatar(leader.username), leader.username)),
    h("td", { class: "strong" }, leader.score),
    [leader.played, leader.won, leader.drawn, leader.lost].map((count) => h("td", { class: "wide" }, count)));
  return h("section", { class: "leaders" },
    h("h1", {}, "Leaderboard"),
    h("p", { class: "lead" }, "Three points for a win, one for a draw."),
    leaders.length === 0
      ? h("p", { class: "card empty" }, "Nobody has finished a game yet.")
      : h("div", { class: "card flush" }, h("table", {},
        h("thead", {}, h("tr", {}, ["#", "Player", "Score"].map((name) => h("th", { scope: "col" }, name)),
          ["Played", "Won", "Drawn", "Lost"].map((name) => h("th", { scope: "col", class: "wide" }, name)))),
        h("tbody", {}, leaders.map(row)))));
}

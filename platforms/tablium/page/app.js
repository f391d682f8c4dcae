// Which screen is shown, and who is signed in.

import { me, signOut } from "/assets/api.js";
import { drawing, fill, h, toast } from "/assets/dom.js";
import { connect, disconnect, on } from "/assets/live.js";
import { leaderboard, profile, signInScreen } from "/assets/account.js";
import { lobby } from "/assets/lobby.js";
import { table } from "/assets/table.js";

const view = document.getElementById("view");
const nav = document.getElementById("nav");
const banner = document.getElementById("banner");

/** Ends what the screen before has begun. */
let leave = () => {};

const SCREENS = [
  [/^\/$/, "Play", lobby],
  [/^\/game\/([\w.-]{1,64})$/, "Game", table],
  [/^\/leaderboard$/, "Leaderboard", leaderboard],
  [/^\/player\/([\w.-]{1,64})$/, "Player", profile],
];

function show() {
  leave();
  leave = () => {};
  const path = location.hash.slice(1) || "/";
  if (!me()) {
    showNav(null);
    leave = signInScreen(view, started) ?? leave;
    return;
  }
  const found = SCREENS.find(([pattern]) => pattern.test(path));
  if (!found) return void (location.hash = "#/");
  const [pattern, title, screen] = found;
  document.title = `${title} · Tablium`;
  showNav(path);
  leave = screen(view, ...pattern.exec(path).slice(1)) ?? leave;
  scrollTo(0, 0);
}

function showNav(path) {
  nav.hidden = path === null;
  if (path === null) return;
  const link = (to, text, ...more) => h("a", { href: `#${to}`, "aria-current": path === to ? "page" : null }, ...more, text);
  fill(nav,
    link("/", "Play"),
    link("/leaderboard", "Leaderboard"),
    h("a", { href: `#/player/${me().userId}`, class: "who", "aria-current": path === `/player/${me().userId}` ? "page" : null,
      title: "Your profile" }, drawing("piece-pawn", "piece white"), h("span", {}, me().username)),
    h("button", { class: "link", type: "button", onclick: signedOut }, "Sign out"));
}

function started() {
  connect();
  show();
}

function signedOut() {
  signOut();
  disconnect();
  banner.hidden = true;
  if (location.hash !== "#/" && !location.hash.startsWith("#/game/")) location.hash = "#/";
  show();
}

on("up", () => { banner.hidden = true; });
on("down", (text) => { banner.textContent = text; banner.hidden = false; });
on("achievement", (earned) => toast(earned.title || earned.achievement, { title: "Achievement", kind: "good" }));
addEventListener("hashchange", show);
addEventListener("signed-out", () => {
  if (nav.hidden) return;
  toast("Please sign in again.");
  signedOut();
});

if (me()) connect();
show();

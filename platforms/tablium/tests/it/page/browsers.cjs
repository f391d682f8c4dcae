// Browsers that play on the page: what the scenarios have in common.
"use strict";

const assert = require("node:assert/strict");
const net = require("node:net");
const path = require("node:path");
const { chromium } = require("playwright-core");

/** Long enough for anything that ends by itself. */
const SOON = 30_000;
const WIDE = { width: 1280, height: 860 };
const NARROW = { width: 390, height: 844 };

const [url, folder] = process.argv.slice(2);

/** Starts a browser, has it used, and checks that nothing was complained about. */
async function run(scenario) {
  // Root has no sandbox.
  const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args });
  const complaints = [];
  const players = [];
  try {
    await scenario({
      open: async (name, options) => {
        players.push(await open(browser, complaints, name, options));
        return players.at(-1);
      },
    });
  } catch (error) {
    for (const player of players) {
      await player.shot(`failed-${player.name}`);
      console.error(`\n${player.name} saw, at ${player.page.url()}:\n${await player.text("body")}\n`);
    }
    console.error(complaints.join("\n"));
    throw error;
  } finally {
    await browser.close();
  }
  assert.deepEqual(complaints, [], "the browsers' consoles");
}

/** A browser of its own: nothing is shared with the others. */
async function open(browser, complaints, name, { viewport = WIDE, at = url, scheme = "light", quiet = false } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: scheme, reducedMotion: "reduce" });
  context.setDefaultTimeout(SOON);
  const page = await context.newPage();
  const complain = (text) => quiet || complaints.push(`${name}: ${text}`);
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complain(`${message.text()} ${message.location().url}`));
  page.on("pageerror", (error) => complain(error.stack));
  await page.addInitScript(watch);
  await page.goto(at);
  return new Player(name, page);
}

/** Within the page: violations of the policy are told, and when a version came to the board is noted. */
function watch() {
  document.addEventListener("securitypolicyviolation", (event) => console.error("policy", event.violatedDirective, event.blockedURI));
  const now = () => performance.timeOrigin + performance.now();
  window.shownAt = {};
  window.clickedAt = 0;
  for (const press of ["pointerdown", "click"]) addEventListener(press, () => { window.clickedAt = now(); }, true);
  const note = () => {
    const version = document.querySelector(".board")?.dataset.version;
    if (version) window.shownAt[version] ??= now();
  };
  new MutationObserver(note).observe(document, { subtree: true, childList: true, attributeFilter: ["data-version"] });
}

class Player {
  constructor(name, page) {
    this.name = name;
    this.page = page;
  }

  async registers() {
    await this.page.fill("[name=username]", this.name);
    await this.page.fill("[name=email]", `${this.name}@example.com`);
    await this.page.fill("[name=password]", "correct horse");
    await this.page.click("[type=submit]");
    await this.page.waitForSelector("#open");
    return this;
  }

  /** Opens a table and gives its id. */
  async creates({ kind, stake, isPrivate }) {
    await this.page.goto(new URL("/#/", this.page.url()).href);
    await this.page.click(`.new-game label:has([value="${kind}"])`);
    if (stake) await this.page.fill("[name=stake]", stake);
    if (isPrivate) await this.page.click("label.switch");
    await this.page.click(".new-game [type=submit]");
    await this.page.waitForSelector(".stage");
    return this.gameId();
  }

  gameId() {
    return new URL(this.page.url()).hash.replace("#/game/", "");
  }

  /** Finds the table in the lobby and takes the place that is free. */
  async joins(gameId) {
    await this.page.goto(new URL("/#/", this.page.url()).href);
    await this.page.click(`[data-join="${gameId}"]`);
    await this.page.waitForSelector(".player.turn");
  }

  async watches(gameId) {
    await this.page.goto(new URL("/#/", this.page.url()).href);
    await this.page.click(`[data-watch="${gameId}"]`);
    await this.page.waitForSelector(".stage");
  }

  /** A move by clicks: a column, or two squares such as `e2e4`. */
  async moves(move) {
    if (/^\d$/.test(move)) return this.page.click(`[data-column="${move}"]:not(:disabled)`);
    await this.page.click(`[data-square="${move.slice(0, 2)}"].movable`);
    await this.page.click(`[data-square="${move.slice(2, 4)}"].target`);
    const promotion = move.slice(4);
    if (promotion) await this.page.click(`[data-promotion="${promotion}"]`);
  }

  /** Waits until so many moves have been shown. */
  async sees(count) {
    await this.page.waitForSelector(`.ply[data-ply="${count}"]`);
  }

  async reads(selector, text) {
    const found = this.page.locator(selector, { hasText: text });
    await found.first().waitFor();
  }

  async says(text) {
    await this.page.fill("[name=text]", text);
    await this.page.click(".say button");
  }

  text(selector) {
    return this.page.locator(selector).first().innerText();
  }

  /** What the board shows: discs or pieces by their place, as who looks sees it. */
  board() {
    return this.page.evaluate(() => {
      const discs = [...document.querySelectorAll(".disc")];
      if (discs.length) {
        const at = (disc, name) => disc.style.getPropertyValue(name);
        return discs.map((disc) => `${at(disc, "--column")}/${at(disc, "--row")} ${disc.classList[1]}`).sort();
      }
      const labels = [...document.querySelectorAll(".square")].map((square) => square.getAttribute("aria-label").split(", can")[0]);
      return labels.filter((label) => label.includes(",")).sort();
    });
  }

  async acts(name) {
    await this.page.click(`[data-action="${name}"]`);
  }

  async shot(name) {
    await this.page.screenshot({ path: path.join(folder, `${name}.png`) });
  }
}

/** Plays the moves by turns; everybody sees each before the next. Gives how long each took, in milliseconds. */
async function plays(first, second, moves, watchers = []) {
  const took = [];
  // Versions begin anew with each game.
  for (const player of [first, second]) await player.page.evaluate(() => { window.shownAt = {}; });
  let count = await first.page.locator(".ply").count();
  for (const move of moves) {
    const mover = count % 2 === 0 ? first : second;
    await mover.moves(move);
    count += 1;
    for (const player of [first, second, ...watchers]) await player.sees(count);
    took.push(await timed(mover, [first, second]));
  }
  return took;
}

/** From the click until the later of both boards had the server's answer. */
async function timed(mover, players) {
  const version = await mover.page.locator(".board").getAttribute("data-version");
  const clicked = await mover.page.evaluate(() => window.clickedAt);
  const shown = await Promise.all(players.map((player) =>
    player.page.evaluate((version) => Math.min(...Object.entries(window.shownAt).filter(([at]) => Number(at) >= Number(version)).map(([, when]) => when)), version)));
  return Math.max(...shown) - clicked;
}

/** Tells how long moves took: measured, not asserted. */
function tell(what, took) {
  const sorted = [...took].sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))].toFixed(1);
  console.log(`${what}: ${sorted.length} moves, from the click to both boards p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`);
}

/** A way to the site that can be cut. */
async function way(to) {
  const { hostname, port } = new URL(to);
  const open = new Set();
  let isCut = false;
  const server = net.createServer((near) => {
    if (isCut) return void near.destroy();
    const far = net.connect(Number(port), hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      open.add(one);
      one.on("error", () => {}).on("close", () => { open.delete(one); other.destroy(); });
      one.pipe(other);
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut: () => { isCut = true; for (const socket of open) socket.destroy(); },
    heal: () => { isCut = false; },
    close: () => { for (const socket of open) socket.destroy(); server.close(); },
  };
}

module.exports = { assert, run, plays, tell, way, url, NARROW, WIDE };

// Connect four to its end, for a stake, while somebody watches and everybody talks.
"use strict";

const { assert, run, plays, tell, NARROW } = require("./browsers.cjs");

const MARKUP = `<img src=x onerror="document.title='owned'"> & <b>good luck</b>`;

run(async ({ open }) => {
  const ada = await open("ada", {});
  await ada.shot("sign-in");
  await ada.registers();
  const grace = await (await open("grace", { viewport: NARROW })).registers();
  const hedy = await (await open("hedy", { scheme: "dark" })).registers();

  const game = await ada.creates({ kind: "connect-four", stake: "25" });
  await ada.reads(".status", "Waiting for an opponent.");
  await hedy.page.waitForSelector(`[data-join="${game}"]`);
  await hedy.shot("lobby");
  await grace.joins(game);
  await ada.reads(".status", "Your turn.");
  await grace.reads(".status", "ada is thinking.");
  await hedy.watches(game);
  await ada.reads(".watchers", "1 watching");
  assert.equal(await hedy.page.locator("[data-action=resign]").count(), 0, "who watches can't resign");

  await grace.says(MARKUP);
  for (const player of [ada, grace, hedy]) {
    await player.reads(".lines p", "good luck");
    assert.equal(await player.text(".lines p"), MARKUP);
    assert.equal(await player.page.locator(".lines img, .lines b").count(), 0, "what is said is no markup");
  }
  await ada.says("Thank you.");
  await grace.reads(".lines p", "Thank you.");

  const took = await plays(ada, grace, ["3", "3", "2", "4", "2", "2", "4", "1"], [hedy]);
  await ada.page.mouse.move(0, 0);
  await ada.shot("connect-four");
  await grace.shot("connect-four-narrow");
  await hedy.shot("connect-four-dark");
  assert.equal(await grace.page.locator(".column:disabled").count(), 7, "it is not grace's turn");
  took.push(...(await plays(ada, grace, ["5", "5", "4", "5", "4", "1", "4"], [hedy])));

  await ada.reads(".result h2", "You won");
  await grace.reads(".result h2", "You lost");
  await hedy.reads(".result p", "ada won by four in a row.");
  await ada.reads(".result p", "four in a row");
  await ada.reads("[data-stake]", "+25 PTS");
  await grace.reads("[data-stake]", "−25 PTS");
  assert.deepEqual(await ada.board(), await grace.board());
  assert.deepEqual(await ada.board(), await hedy.board());
  assert.equal(await hedy.page.locator(".disc.won").count(), 4);
  await ada.reads(".toast", "First win");
  await ada.shot("connect-four-won");

  await ada.acts("result-lobby");
  await ada.page.waitForSelector("#open");
  await ada.page.click(".who");
  await ada.reads(".wallet", "1025 PTS");
  await ada.reads(".medals", "Four in a row");
  await ada.shot("profile");
  await grace.page.goto(new URL("/#/leaderboard", grace.page.url()).href);
  await grace.reads("tr", "ada");
  await grace.shot("leaderboard-narrow");
  assert.ok(await ada.page.evaluate(() => document.fonts.check("16px Inter")), "the typeface is the page's own");
  tell("connect four", took);
}).catch(fail);

function fail(error) {
  console.error(error);
  process.exit(1);
}

// Chess: a draw that is declined, the board as it was, a lost connection, mate; then a rematch that is given up.
"use strict";

const { assert, run, plays, tell, way, url, NARROW } = require("./browsers.cjs");

run(async ({ open }) => {
  const line = await way(url);
  const ada = await (await open("ada", {})).registers();
  // A browser says on its console that a connection failed: this one's will.
  const grace = await (await open("grace", { viewport: NARROW, at: line.url, quiet: true })).registers();

  const game = await ada.creates({ kind: "chess" });
  await grace.joins(game);
  await ada.reads(".status", "Your turn.");
  const took = await plays(ada, grace, ["e2e4", "e7e5", "d1h5"]);

  await illegalAndKeyboard(ada, grace);
  took.push(...(await plays(ada, grace, ["f1c4"])));
  await drawDeclined(ada, grace);
  await lookingBack(ada, grace);
  await ada.shot("chess");
  await cutOff(ada, grace, line);
  took.push(...(await plays(ada, grace, ["h5f7"])));

  await ada.reads(".result p", "by checkmate");
  await grace.reads(".result h2", "You lost");
  assert.deepEqual(await ada.board(), await grace.board());
  assert.equal(await grace.page.locator(".square.check").getAttribute("data-square"), "e8");
  await ada.shot("chess-won");
  await grace.shot("chess-lost-narrow");

  await rematchGivenUp(ada, grace, game);
  line.close();
  tell("chess", took);
}).catch(fail);

/** A square that can't be gone to does nothing; a move without a mouse is a move. */
async function illegalAndKeyboard(ada, grace) {
  await grace.page.click('[data-square="b8"]');
  assert.equal(await grace.page.locator(".square.target").count(), 2, "a knight's squares are marked");
  await grace.page.click('[data-square="b5"]');
  assert.equal(await grace.page.locator(".square.target").count(), 0);
  await grace.page.focus('[data-square="b8"]');
  await grace.page.keyboard.press("Enter");
  await grace.page.focus('[data-square="c6"]');
  await grace.page.keyboard.press("Enter");
  await ada.sees(4);
}

async function drawDeclined(ada, grace) {
  await ada.acts("offer-draw");
  await grace.reads(".offer", "offers a draw");
  await grace.acts("decline-draw");
  await grace.page.waitForSelector(".offer", { state: "detached" });
  await ada.reads("[data-action=offer-draw]:not(:disabled)", "Offer draw");
}

/** The board as it was, also for who has just come and has to ask for it. */
async function lookingBack(ada, grace) {
  const now = await grace.board();
  await grace.page.reload();
  await grace.sees(5);
  await grace.page.click('[data-ply="2"]');
  await grace.page.waitForSelector('.board.past .square.last[data-square="e5"]');
  const then = await grace.board();
  assert.ok(then.includes("f1, white bishop") && then.includes("e5, black pawn") && then.includes("d1, white queen"), then.join());
  assert.equal(await grace.page.locator(".square.movable").count(), 0, "what was can't be changed");
  await grace.acts("live");
  await grace.page.waitForSelector(".board:not(.past)");
  assert.deepEqual(await grace.board(), now);
  assert.deepEqual(await grace.board(), await ada.board());
}

/** Who was cut off is told, and sees what they missed. */
async function cutOff(ada, grace, line) {
  await grace.moves("g8f6");
  await ada.sees(6);
  line.cut();
  await grace.page.waitForSelector("#banner:not([hidden])");
  await ada.page.waitForSelector('.player.away[data-seat="second"]');
  assert.match(await grace.text("#banner"), /connecting|Trying again/);
  await ada.says("Are you there?");
  await ada.reads(".lines p", "Are you there?");
  line.heal();
  await grace.page.waitForSelector("#banner", { state: "hidden" });
  await ada.page.waitForSelector('.player:not(.away)[data-seat="second"]');
  await grace.reads(".lines p", "Are you there?");
}

/** The places are exchanged, and who resigns has lost. */
async function rematchGivenUp(ada, grace, before) {
  await ada.acts("result-rematch");
  await ada.page.waitForFunction((before) => !location.hash.endsWith(before), before);
  await grace.reads(".wish", "ada wants to play again.");
  await grace.acts("result-rematch");
  await ada.reads(".status", "grace is thinking.");
  await grace.reads(".status", "Your turn.");
  assert.equal(await grace.gameId(), await ada.gameId());
  await plays(grace, ada, ["e2e4"]);
  await ada.acts("resign");
  await ada.page.click("dialog .danger");
  await grace.reads(".result h2", "You won");
  await ada.reads(".result h2", "You lost");
  await ada.reads(".result p", "by resignation");
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

// How long a move takes from the click to both boards: for a site that runs, such as `cargo run --release -p tablium`.
//
//   CHROMIUM=$(which chromium) NODE_PATH=target/engines/node/node_modules node measure.cjs http://127.0.0.1:8080 /tmp [games]
"use strict";

const { run, plays, tell } = require("./browsers.cjs");

/** A game of connect four that nobody wins: 42 moves. */
const DRAWN = [..."abababbababacdcdcddcdcdcefefeffefefegggggg"].map((column) => String("abcdefg".indexOf(column)));
const games = Number(process.argv[4] ?? 5);

run(async ({ open }) => {
  const run = Date.now().toString(36);
  const ada = await (await open(`ada-${run}`, {})).registers();
  const grace = await (await open(`grace-${run}`, {})).registers();
  const took = [];
  for (let game = 0; game < games; game += 1) {
    const id = await ada.creates({ kind: "connect-four" });
    await grace.joins(id);
    await ada.page.waitForSelector(".player.turn");
    took.push(...(await plays(ada, grace, DRAWN)));
    await ada.reads(".result h2", "Draw");
  }
  tell("connect four", took);
}).catch((error) => {
  console.error(error);
  process.exit(1);
});

// A private table is joined by its link and seen by nobody else.
"use strict";

const { assert, run, url } = require("./browsers.cjs");

run(async ({ open }) => {
  const ada = await (await open("ada", {})).registers();
  const game = await ada.creates({ kind: "chess", isPrivate: true });
  const link = await ada.page.inputValue(".link-text");
  assert.equal(link, `${url.replace(/\/$/, "")}/#/game/${game}`);
  await ada.shot("private");

  // The link leads there also for who has no account yet.
  const grace = await open("grace", { at: link });
  await grace.page.waitForSelector("[name=username]");
  await grace.page.fill("[name=username]", "grace");
  await grace.page.fill("[name=email]", "grace@example.com");
  await grace.page.fill("[name=password]", "correct horse");
  await grace.page.click("[type=submit]");
  await grace.page.click(".invitation .main");
  await grace.reads(".status", "ada is thinking.");
  await ada.reads(".status", "Your turn.");

  const hedy = await (await open("hedy", {})).registers();
  assert.equal(await hedy.page.locator(`[data-watch="${game}"], [data-join="${game}"]`).count(), 0);
  await hedy.page.goto(`${url}/#/game/${game}`);
  await hedy.reads(".invitation h1", "A private game");
  assert.equal(await hedy.page.locator(".board").count(), 0);

  await grace.acts("offer-draw");
  await ada.acts("accept-draw");
  await ada.reads(".result h2", "Draw");
  await grace.reads(".status", "Draw by agreement.");
}).catch((error) => {
  console.error(error);
  process.exit(1);
});

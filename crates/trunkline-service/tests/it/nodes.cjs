// Players at two nodes, one of which is killed: node nodes.cjs URL OTHER READY
const { io } = require("socket.io-client");
const assert = require("node:assert");
const fs = require("node:fs");
const net = require("node:net");

const [url, other, ready] = process.argv.slice(2);
const port = (url) => Number(new URL(url).port);
const once = (socket, event) => new Promise((done) => socket.once(event, (...args) => done(args)));
const until = async (holds) => {
  while (!holds()) await new Promise((done) => setTimeout(done, 5));
};
const player = async (token, at) => {
  const means = { transports: ["websocket"], reconnectionDelay: 50, reconnectionDelayMax: 100 };
  const socket = io(`${at}/games`, { ...means, auth: { token }, forceNew: true });
  await new Promise((done, failed) => {
    socket.once("connect", done);
    socket.once("connect_error", failed);
  });
  return socket;
};

// A place that leads to one node and then to the other, as a balancer does.
let leads = port(url);
const between = net.createServer((from) => {
  const to = net.connect(leads, "127.0.0.1");
  from.pipe(to).pipe(from);
  from.on("error", () => to.destroy());
  to.on("error", () => from.destroy());
  to.on("close", () => from.destroy());
});

const play = async () => {
  await new Promise((done) => between.listen(0, "127.0.0.1", done));
  const ada = await player("ada", `http://127.0.0.1:${between.address().port}`);
  const bob = await player("bob", other);
  for (const one of [ada, bob]) await one.emitWithAck("join-game", { game: "1" });

  // From node to node, and to nobody twice.
  const heard = once(bob, "said");
  await ada.emitWithAck("say", { game: "1" });
  assert.deepStrictEqual((await heard)[0], { by: "ada" });

  // An event of the bus, whichever node reads it.
  const seen = { ada: [], bob: [] };
  let last;
  ada.on("game-updated", (update, offset) => {
    seen.ada.push(update.text);
    last = offset;
  });
  bob.on("game-updated", (update) => seen.bob.push(update.text));
  const first = ["e4", "e5", "Nf3", "Nc6"];
  for (const [n, text] of first.entries()) {
    await [ada, bob][n % 2].emitWithAck("game-move", { game_id: "1", text });
    // Each node has a store and so an outbox of its own: what is in both has no order.
    await until(() => seen.ada.length > n && seen.bob.length > n);
  }
  assert.deepStrictEqual(seen, { ada: first, bob: first });

  // Her node is killed, and the game goes on.
  const id = ada.id;
  const gone = once(ada, "disconnect");
  const back = once(ada, "connect");
  leads = port(other);
  fs.writeFileSync(ready, "");
  await gone;
  const second = ["Bb5", "a6"];
  for (const text of second) await bob.emitWithAck("game-move", { game_id: "1", text });
  await back;
  if (!ada.recovered) {
    assert.strictEqual(await ada.emitWithAck("join-game", { game: "1", last }), true);
  } else {
    assert.strictEqual(ada.id, id);
  }
  await until(() => seen.ada.length >= 6 && seen.bob.length >= 6);
  await bob.emitWithAck("game-move", { game_id: "1", text: "Ba4" });
  await until(() => seen.ada.length >= 7 && seen.bob.length >= 7);
  const all = [...first, ...second, "Ba4"];
  assert.deepStrictEqual(seen, { ada: all, bob: all });
};

setTimeout(() => {
  console.error("it did not end");
  process.exit(2);
}, 60_000).unref();
play().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

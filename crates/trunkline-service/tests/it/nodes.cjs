// Players at two nodes, one of which is killed: node nodes.cjs URL OTHER READY, or through one gateway: URL through READY
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
const player = async (token, at, transports = "websocket") => {
  const means = { transports: transports.split(","), reconnectionDelay: 50, reconnectionDelayMax: 100 };
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

  // Each node knows who is at the other.
  const eve = await player("eve", url);
  eve.io.reconnection(false);
  await eve.emitWithAck("join-game", { game: "1" });
  const second_bob = await player("bob", url);
  await second_bob.emitWithAck("join-game", { game: "1" });
  const present = async (expected) => {
    for (const one of [ada, bob]) {
      for (;;) {
        const found = await one.emitWithAck("present", "1");
        try {
          assert.deepStrictEqual(found, expected);
          break;
        } catch {
          await new Promise((done) => setTimeout(done, 200));
        }
      }
    }
  };
  await present({ ada: 1, bob: 2, eve: 1 });
  second_bob.disconnect();
  await present({ ada: 1, bob: 1, eve: 1 });

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
  assert.ok(ada.recovered, "she is who she was, although her node could not say goodbye");
  assert.strictEqual(ada.id, id);
  assert.strictEqual(await ada.emitWithAck("join-game", { game: "1", last }), true);
  await until(() => seen.ada.length >= 6 && seen.bob.length >= 6);
  await bob.emitWithAck("game-move", { game_id: "1", text: "Ba4" });
  await until(() => seen.ada.length >= 7 && seen.bob.length >= 7);
  const all = [...first, ...second, "Ba4"];
  assert.deepStrictEqual(seen, { ada: all, bob: all });
  // Eve was there too.
  await present({ ada: 1, bob: 1 });
};

// Players by every means, behind a gateway that chooses their nodes.
const through = async () => {
  const players = [];
  const all = ["websocket", "polling", "polling,websocket"];
  const places = new Set();
  // Until there is somebody at each node.
  for (let n = 0; n < 6 || places.size < 2; n++) {
    const means = all[n % 3];
    const socket = await player(`player-${n}`, url, means);
    const one = { socket, seen: [], last: undefined };
    socket.on("game-updated", (update, offset) => {
      one.seen.push(update.text);
      one.last = offset;
    });
    await socket.emitWithAck("join-game", { game: "1" });
    socket.on("connect", async () => {
      if (!socket.recovered) {
        assert.strictEqual(await socket.emitWithAck("join-game", { game: "1", last: one.last }), true);
      }
    });
    places.add(await socket.emitWithAck("where", null));
    players.push(one);
  }
  const moves = [];
  const move = async (text, from) => {
    moves.push(text);
    await from.socket.emitWithAck("game-move", { game_id: "1", text });
    await until(() => players.every((one) => one.seen.length >= moves.length));
    for (const one of players) assert.deepStrictEqual(one.seen, moves);
  };
  for (const one of players) await move(`from ${one.socket.id}`, one);
  fs.writeFileSync(ready, "");
  // Of the node that is killed nobody can move; the others go on, and those who come back have missed nothing.
  const gone = players.map((one) => once(one.socket, "disconnect").then(() => one));
  const first = await Promise.race(gone.map((one) => one));
  await once(first.socket, "connect");
  await move("after", first);
  for (const one of players) {
    await until(() => one.socket.connected);
    await move(`again from ${one.socket.id}`, one);
  }
};

setTimeout(() => {
  console.error("it did not end");
  process.exit(2);
}, 60_000).unref();
(other === "through" ? through() : play()).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

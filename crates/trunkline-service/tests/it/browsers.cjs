// Two players and their game: node browsers.cjs URL TRANSPORTS [plays|stays|leaves|resumes …]
const { io } = require("socket.io-client");
const assert = require("node:assert");
const fs = require("node:fs");

const [url, transports, what, ready, short] = process.argv.slice(2);
const player = async (token, space = "/games") => {
  const socket = io(url + space, { transports: transports.split(","), auth: { token }, forceNew: true });
  await new Promise((done, failed) => {
    socket.once("connect", done);
    socket.once("connect_error", failed);
  });
  return socket;
};

const stays = async () => {
  const ada = await player("ada");
  const gone = new Promise((done) => ada.once("disconnect", done));
  fs.writeFileSync(ready, "");
  assert.strictEqual(await gone, "transport close");
};

const signedIn = async (token) => {
  for (const wrong of [undefined, "nonsense", token.slice(0, -2)]) {
    await assert.rejects(player(wrong, "/signed"), (error) => error.data.code.startsWith("token_"));
  }
  const ada = await player(token, "/signed");
  assert.strictEqual(await ada.emitWithAck("who", null), "ada");
  const brief = await player(short, "/signed");
  const [error] = await new Promise((done) => brief.once("error", (...all) => done(all)));
  assert.strictEqual(error.code, "token_expired");
};

// Ada sees one move and goes; what she saw last is printed. Bob makes another.
const leaves = async () => {
  const [ada, bob] = [await player("ada"), await player("bob")];
  await ada.emitWithAck("join-game", "1");
  const seen = new Promise((done) => ada.once("game-updated", (update, offset) => done([update.text, offset])));
  await bob.emitWithAck("game-move", { game: "1", text: "e4" });
  const [text, offset] = await seen;
  assert.strictEqual(text, "e4");
  ada.disconnect();
  await bob.emitWithAck("join-game", "1");
  const told = new Promise((done) => bob.once("game-updated", done));
  await bob.emitWithAck("game-move", { game: "1", text: "e5" });
  await told;
  await bob.emitWithAck("game-move", { game: "2", text: "elsewhere" });
  console.log(offset);
};

// The same namespace without Socket.IO.
const plain = async () => {
  const WebSocket = require("ws");
  const ws = new WebSocket(`${url.replace("http", "ws")}/ws/games?token=eve`);
  const frames = [];
  ws.on("message", (data) => frames.push(JSON.parse(data)));
  await new Promise((done, failed) => ws.once("open", done).once("error", failed));
  ws.send(JSON.stringify({ type: "join-game", data: "7", id: 1 }));
  ws.send(JSON.stringify({ type: "game-move", data: { game: "7", text: "d4" }, id: 2 }));
  const types = () => frames.map((frame) => frame.type);
  while (!types().includes("game-updated")) await new Promise((done) => ws.once("message", done));
  assert.deepStrictEqual(types().slice(0, 2), ["connected", "ack"]);
  const updated = frames.find((frame) => frame.type === "game-updated");
  assert.deepStrictEqual(updated.data, { game_id: "7", by: "eve", text: "d4" });
  assert.ok(frames.some((frame) => frame.id === 2 && frame.data.taken === "d4"));
  ws.close();
};

// And comes back to a server that knows her no more.
const resumes = async (last) => {
  const ada = await player("ada");
  const seen = [];
  ada.on("game-updated", (update) => seen.push(update.text));
  assert.strictEqual(await ada.emitWithAck("resume-game", { game: "1", last }), true);
  assert.deepStrictEqual(seen, ["e5"]);
  const next = new Promise((done) => ada.once("game-updated", done));
  await ada.emitWithAck("game-move", { game: "1", text: "Nf3" });
  await next;
  assert.deepStrictEqual(seen, ["e5", "Nf3"]);
  const fresh = await player("bob");
  fresh.on("game-updated", () => assert.fail("it saw nothing before"));
  for (const last of [null, "1-1", "nonsense"]) {
    assert.strictEqual(await fresh.emitWithAck("resume-game", { game: "1", last }), false);
    await fresh.emitWithAck("leave-game", "1");
  }
};

const play = async () => {
  await assert.rejects(player(undefined), (error) => error.data.code === "token_missing");
  const [ada, bob] = [await player("ada"), await player("bob")];
  await ada.emitWithAck("join-game", "1");
  const joined = new Promise((done) => ada.once("user-joined", done));
  await bob.emitWithAck("join-game", "1");
  assert.deepStrictEqual(await joined, { user: "bob" });
  const heard = { said: [], considered: [], counted: [] };
  Object.keys(heard).forEach((event) => bob.on(event, (text) => heard[event].push(text)));
  bob.on("glimpsed", (text) => assert.strictEqual(text, "e4"));
  const own = new Promise((done) => ada.once("moves", done));
  bob.on("moves", () => assert.fail("of ada's moves"));
  const counted = new Promise((done) => bob.once("counted", done));
  const seen = Promise.all([ada, bob].map((one) => new Promise((done) => one.once("game-updated", done))));
  assert.deepStrictEqual(await ada.emitWithAck("game-move", { game: "1", text: "e4" }), { taken: "e4" });
  const update = { game_id: "1", by: "ada", text: "e4" };
  assert.deepStrictEqual(await seen, [update, update]);
  // What fails is undone, and told to nobody else.
  bob.on("game-updated", (update) => assert.notStrictEqual(update.text, "illegal"));
  const refused = await bob.emitWithAck("game-move", { game: "1", text: "illegal" });
  assert.strictEqual(refused.error.code, "move_illegal");
  assert.strictEqual((await bob.emitWithAck("game-move", "nonsense")).error.code, "payload_invalid");
  const unfit = (await bob.emitWithAck("game-move", { game: 5, text: "x" })).error;
  assert.strictEqual(unfit.message, "argument 0 at `game`: invalid type: integer `5`, expected a string");
  const long = (await bob.emitWithAck("game-move", "x".repeat(10_000))).error;
  assert.ok(long.message.length < 300, long.message);
  assert.deepStrictEqual(await bob.emitWithAck("moves", "1"), ["e4"]);
  // What a handler sends is sent when its work has committed, unless it says otherwise.
  await counted;
  assert.strictEqual(await own, "e4");
  assert.deepStrictEqual(heard, { said: ["e4"], considered: ["e4", "illegal"], counted: ["e4"] });
  await signedIn(ready);
  await plain();
};

setTimeout(() => process.exit(2), 40_000).unref();
({ stays, leaves, resumes: () => resumes(ready) }[what] ?? play)().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

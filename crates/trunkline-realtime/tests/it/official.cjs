// Scenarios for the official client: node official.cjs SCENARIO URL TRANSPORTS
const { io } = require("socket.io-client");
const assert = require("node:assert");

const [scenario, url, transports, otherUrl] = process.argv.slice(2);
const sockets = [];
const options = { transports: transports.split(","), reconnectionDelay: 20, reconnectionDelayMax: 50 };
const client = (space = "", more = {}, at = url) => {
  const socket = io(at + space, { ...options, forceNew: true, ...more });
  sockets.push(socket);
  return socket;
};
const once = (socket, event) => new Promise((done) => socket.once(event, (...args) => done(args)));
const connected = async (space, more, at) => {
  const socket = client(space, more, at);
  await new Promise((done, failed) => {
    socket.once("connect", done);
    socket.once("connect_error", failed);
  });
  return socket;
};
const until = async (holds) => {
  while (!holds()) await new Promise((done) => setTimeout(done, 5));
};

const scenarios = {
  async acknowledgements() {
    const socket = await connected();
    assert.deepStrictEqual(await socket.emitWithAck("echo", { deep: [1, "ü", null] }), { deep: [1, "ü", null] });
    const nothing = await new Promise((done) => socket.emit("nothing", (...args) => done(args)));
    assert.deepStrictEqual(nothing, []);
    socket.on("question", (text, answer) => answer(text.length));
    assert.strictEqual(await socket.emitWithAck("ask me"), 9);
  },

  async bytes() {
    const socket = await connected();
    socket.emit("bytes", Buffer.from([1, 2, 255]));
    const [count, bytes] = await once(socket, "bytes back");
    assert.strictEqual(count, 1);
    assert.deepStrictEqual([...new Uint8Array(bytes)], [255, 2, 1]);
  },

  async errors_go_to_the_sender() {
    const [one, other] = [await connected(), await connected()];
    other.on("error", () => assert.fail("not for the other"));
    one.emit("fails");
    assert.deepStrictEqual(await once(one, "error"), [{ code: "move_illegal", message: "that is no move" }]);
    const refused = await one.emitWithAck("fails");
    assert.deepStrictEqual(refused, { error: { code: "move_illegal", message: "that is no move" } });
    assert.strictEqual((await one.emitWithAck("breaks")).error.message, "something went wrong");
    assert.strictEqual((await one.emitWithAck("panics")).error.code, "internal");
    assert.strictEqual((await one.emitWithAck("unheard of")).error.code, "event_unknown");
    assert.strictEqual((await one.emitWithAck("join", 5)).error.code, "payload_invalid");
    assert.strictEqual((await one.emitWithAck("bytes", "none")).error.code, "payload_invalid");
    assert.strictEqual(await other.emitWithAck("echo", 1), 1);
  },

  async rooms() {
    const [one, two, three] = [await connected(), await connected(), await connected()];
    await one.emitWithAck("join", "blue");
    const joined = once(one, "joined");
    await two.emitWithAck("join", "blue");
    assert.deepStrictEqual(await joined, [{ id: two.id, room: "blue" }]);
    three.on("said", () => assert.fail("not in the room"));
    const heard = Promise.all([once(one, "said"), once(two, "said")]);
    await three.emitWithAck("say", "blue", "hello");
    assert.deepStrictEqual(await heard, [["hello"], ["hello"]]);
    // Everybody is a room of their own.
    const alone = once(two, "said");
    await one.emitWithAck("say", two.id, "you");
    assert.deepStrictEqual(await alone, ["you"]);
    await two.emitWithAck("leave", "blue");
    two.on("said", () => assert.fail("left the room"));
    const still = once(one, "said");
    await three.emitWithAck("say", "blue", "again");
    await still;
    two.emitWithAck("join", "blue").then(() => two.disconnect());
    const [gone] = await once(one, "left");
    assert.deepStrictEqual(gone.why, "client namespace disconnect");
  },

  async namespaces_and_tokens() {
    await assert.rejects(connected("/games"), (e) => e.message === "expected a token" && e.data.code === "token_missing");
    await assert.rejects(connected("/games", { auth: { token: "wrong-ada" } }), (e) => e.data.code === "token_invalid");
    await assert.rejects(connected("/nowhere"), (e) => e.message === "Invalid namespace");
    const ada = client("/games", { auth: { token: "secret-ada" } });
    assert.deepStrictEqual((await once(ada, "hello"))[0], { user: "ada", recovered: false });
    const mallory = client("/games", { auth: { token: "secret-mallory" } });
    assert.strictEqual((await once(mallory, "error"))[0].code, "user_unwanted");
    if (mallory.connected) await once(mallory, "disconnect");
    assert.deepStrictEqual(await ada.emitWithAck("who"), ["ada"]);
    // One connection carries several namespaces.
    const both = io(url, options);
    const games = both.io.socket("/games", { auth: { token: "short-eve" } });
    sockets.push(both, games);
    games.connect();
    await once(games, "hello");
    assert.strictEqual(await both.emitWithAck("echo", 1), 1);
    assert.strictEqual((await once(games, "error"))[0].code, "token_expired");
    if (games.connected) await once(games, "disconnect");
    assert.ok(both.connected);
  },

  async order() {
    const socket = await connected();
    const answers = [];
    for (let n = 0; n < 150; n++) socket.emit("echo", n, (answer) => answers.push(answer));
    await until(() => answers.length === 150);
    assert.deepStrictEqual(answers, [...Array(150).keys()]);
  },

  async volatile_and_latest() {
    const socket = await connected();
    const odds = [];
    socket.on("odds", (value) => odds.push(value));
    await socket.emitWithAck("odds", 50_000);
    await until(() => odds.at(-1) === 49_999);
    assert.ok(odds.length < 50_000, `${odds.length} of them`);
    assert.deepStrictEqual([...odds].sort((a, b) => a - b), odds);
  },

  async who_is_cut_off_comes_back() {
    const auth = { token: "secret-ada" };
    const ada = client("/games", { auth, reconnectionDelay: 300, reconnectionDelayMax: 300 });
    await once(ada, "hello");
    const bob = await connected("/games", { auth: { token: "secret-bob" } });
    const moves = [];
    ada.on("moved", (move) => moves.push(move));
    await ada.emitWithAck("join-game", "1");
    await bob.emitWithAck("move", "1", "e4");
    await until(() => moves.length === 1);
    const id = ada.id;
    ada.io.engine.transport.ws?.terminate?.();
    ada.io.engine.close();
    for (const move of ["e5", "Nf3"]) await bob.emitWithAck("move", "1", move);
    await bob.emitWithAck("move", "2", "in another game");
    await once(ada, "connect");
    assert.ok(ada.recovered, "it is the same one");
    assert.strictEqual(ada.id, id);
    await until(() => moves.length === 3);
    await bob.emitWithAck("move", "1", "Nc6");
    await until(() => moves.length === 4);
    assert.deepStrictEqual(moves, ["e4", "e5", "Nf3", "Nc6"]);
    assert.ok((await ada.emitWithAck("join-game", "1")).includes("game:1"));
  },

  async who_says_goodbye_does_not_come_back() {
    const ada = await connected("/games", { auth: { token: "secret-ada" } });
    await ada.emitWithAck("join-game", "1");
    const id = ada.id;
    ada.disconnect();
    ada.connect();
    await once(ada, "connect");
    assert.ok(!ada.recovered && ada.id !== id);
  },

  async server_disconnects() {
    const socket = await connected();
    socket.emit("go away");
    assert.deepStrictEqual((await once(socket, "disconnect"))[0], "io server disconnect");
  },

  async rates() {
    const ada = await connected("/games", { auth: { token: "secret-ada" } });
    const answers = await Promise.all([...Array(8)].map(() => ada.emitWithAck("who")));
    const limited = answers.filter((answer) => answer.error?.code === "rate_limited");
    assert.ok(limited.length >= 2, JSON.stringify(answers));
    const other = await connected("/games", { auth: { token: "secret-bob" } });
    await other.emitWithAck("join-game", "1");
    await other.emitWithAck("join-game", "2");
    assert.strictEqual((await other.emitWithAck("join-game", "3")).error.code, "rooms_full");
  },

  async large() {
    const socket = await connected();
    const text = "x".repeat(900_000);
    assert.strictEqual(await socket.emitWithAck("echo", text), text);
    const gone = once(socket, "disconnect");
    socket.emit("echo", "x".repeat(1_100_000));
    await gone;
    await once(socket, "connect");
  },

  async upgrades_under_traffic() {
    const socket = client();
    const ticks = [];
    socket.on("tick", (number) => ticks.push(number));
    await once(socket.io.engine, "upgrade");
    const then = ticks.at(-1) ?? 0;
    await until(() => ticks.at(-1) > then + 100);
    for (let n = 1; n < ticks.length; n++) assert.strictEqual(ticks[n], ticks[n - 1] + 1, "nothing is lost or torn");
  },

  async two_nodes() {
    const [one, two] = [await connected(), await connected("", {}, otherUrl)];
    await one.emitWithAck("join", "blue");
    const joined = once(one, "joined");
    await two.emitWithAck("join", "blue");
    assert.deepStrictEqual((await joined)[0], { id: two.id, room: "blue" });
    const heard = Promise.all([once(one, "said"), once(two, "said")]);
    await two.emitWithAck("say", "blue", "hello");
    assert.deepStrictEqual((await heard).map(([text]) => text), ["hello", "hello"]);
    const alone = once(two, "said");
    await one.emitWithAck("say", two.id, "you");
    assert.strictEqual((await alone)[0], "you");
  },

  async comes_back_at_another() {
    // A middle man, so that the client's own address stays the same.
    const net = require("node:net");
    let port = Number(new URL(url).port);
    const open = new Set();
    const between = net.createServer((from) => {
      const to = net.connect(port, "127.0.0.1");
      open.add(from).add(to);
      from.pipe(to).pipe(from);
      from.on("error", () => to.destroy());
      to.on("error", () => from.destroy());
    });
    await new Promise((done) => between.listen(0, "127.0.0.1", done));
    const game = String(Math.random());
    const token = { token: "secret-ada" };
    const ada = client("/games", { auth: token, reconnectionDelay: 300, reconnectionDelayMax: 300 }, `http://127.0.0.1:${between.address().port}`);
    await once(ada, "hello");
    const bob = await connected("/games", { auth: { token: "secret-bob" } });
    const moves = [];
    ada.on("moved", (move) => moves.push(move));
    await ada.emitWithAck("join-game", game);
    await bob.emitWithAck("move", game, "e4");
    await until(() => moves.length === 1);
    const id = ada.id;
    port = Number(new URL(otherUrl).port);
    open.forEach((socket) => socket.destroy());
    for (const move of ["e5", "Nf3"]) await bob.emitWithAck("move", game, move);
    await once(ada, "connect");
    assert.ok(ada.recovered, "it is the same one");
    assert.strictEqual(ada.id, id);
    await until(() => moves.length === 3);
    await bob.emitWithAck("move", game, "Nc6");
    await until(() => moves.length === 4);
    assert.deepStrictEqual(moves, ["e4", "e5", "Nf3", "Nc6"]);
  },

  async heard_once() {
    const [one, two] = [await connected(), await connected("", {}, otherUrl)];
    const said = [];
    two.on("said", (text) => said.push(text));
    await two.emitWithAck("join", "blue");
    await one.emitWithAck("say", "blue", "a");
    await one.emitWithAck("say", "blue", "b");
    await until(() => said.includes("b"));
    assert.deepStrictEqual(said, ["a", "b"]);
  },

  async server_stops() {
    const socket = client("", { reconnection: false });
    const [why] = await once(socket, "disconnect");
    assert.strictEqual(why, "transport close");
  },

  async answers_pings() {
    const socket = await connected();
    await new Promise((done) => setTimeout(done, 700));
    assert.ok(socket.connected);
    assert.strictEqual(await socket.emitWithAck("echo", 1), 1);
  },

  async is_silent() {
    const socket = await connected("", { reconnection: false });
    socket.io.engine.transport.ws.pause();
    process.exit(0);
  },
};

const late = setTimeout(() => {
  console.error(`${scenario} did not end`);
  process.exit(2);
}, 30_000);
scenarios[scenario]().then(
  () => {
    clearTimeout(late);
    sockets.forEach((socket) => socket.disconnect());
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

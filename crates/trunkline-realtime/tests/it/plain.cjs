// A client of plain WebSocket: node plain.cjs SCENARIO URL
const { io } = require("socket.io-client");
const WebSocket = require("ws");
const assert = require("node:assert");

const [scenario, url] = process.argv.slice(2);

// A connection whose frames are read one after the other.
const connect = async (query) => {
  const ws = new WebSocket(`${url.replace("http", "ws")}/ws/games?${new URLSearchParams(query)}`);
  const frames = [];
  const waiting = [];
  ws.on("message", (data) => {
    const frame = JSON.parse(data);
    waiting.length ? waiting.shift()(frame) : frames.push(frame);
  });
  const closed = new Promise((done) => ws.once("close", done));
  await new Promise((done, failed) => ws.once("open", done).once("error", failed));
  const next = () => (frames.length ? frames.shift() : new Promise((done) => waiting.push(done)));
  const say = (frame) => ws.send(JSON.stringify(frame));
  return { ws, next, say, closed };
};

const ada = { token: "secret-ada" };

const scenarios = {
  async plays() {
    const plain = await connect(ada);
    const connected = await plain.next();
    assert.strictEqual(connected.type, "connected");
    assert.ok(connected.data.sid && connected.data.pid);
    const hello = await plain.next();
    assert.deepStrictEqual([hello.type, hello.data], ["hello", { user: "ada", recovered: false }]);
    plain.say({ type: "join-game", data: "1", id: 1 });
    assert.deepStrictEqual(await plain.next(), { type: "ack", id: 1, data: ["game:1"] });
    const bob = io(`${url}/games`, { auth: { token: "secret-bob" }, transports: ["websocket"] });
    await new Promise((done) => bob.once("connect", done));
    await bob.emitWithAck("join-game", "1");
    await bob.emitWithAck("move", "1", "e4");
    const moved = await plain.next();
    assert.deepStrictEqual([moved.type, moved.data, typeof moved.offset], ["moved", "e4", "string"]);
    plain.say({ type: "who", id: 2 });
    assert.deepStrictEqual(await plain.next(), { type: "ack", id: 2, data: ["ada", "bob"] });
    plain.say({ type: "join-game", data: 5, id: 3 });
    assert.strictEqual((await plain.next()).error.code, "payload_invalid");
    plain.say({ type: "unheard of" });
    const told = await plain.next();
    assert.deepStrictEqual([told.type, told.data.code], ["error", "event_unknown"]);
    for (let id = 0; id < 9; id++) plain.say({ type: "who", id });
    const answers = [];
    for (let id = 0; id < 9; id++) answers.push(await plain.next());
    assert.ok(answers.some((answer) => answer.error?.code === "rate_limited"));
  },

  async comes_back() {
    const plain = await connect(ada);
    const { sid, pid } = (await plain.next()).data;
    const { offset } = await plain.next();
    plain.say({ type: "join-game", data: "1", id: 1 });
    await plain.next();
    plain.ws.terminate();
    await plain.closed;
    const bob = await connect({ token: "secret-bob" });
    await bob.next();
    await bob.next();
    bob.say({ type: "join-game", data: "1", id: 1 });
    await bob.next();
    for (;;) {
      const back = await connect({ ...ada, pid, offset });
      const connected = (await back.next()).data;
      if (connected.sid === sid) {
        assert.deepStrictEqual((await back.next()).data, { user: "ada", recovered: true });
        return;
      }
      // The server has not noticed yet.
      back.ws.terminate();
    }
  },

  async refused() {
    for (const query of [{}, { token: "wrong-ada" }]) {
      const plain = await connect(query);
      const told = await plain.next();
      assert.strictEqual(told.type, "connect_error");
      assert.ok(told.data.code.startsWith("token_"), JSON.stringify(told));
      await plain.closed;
    }
    for (const wrong of ["", "[]", "nonsense", "42[]", JSON.stringify({ type: 7 }), "x".repeat(1_100_000)]) {
      const plain = await connect(ada);
      await plain.next();
      plain.ws.send(wrong);
      await plain.closed;
    }
    const unwanted = await connect({ token: "secret-mallory" });
    assert.strictEqual((await unwanted.next()).type, "connected");
    assert.strictEqual((await unwanted.next()).data.code, "user_unwanted");
    assert.strictEqual((await unwanted.next()).type, "disconnected");
    await unwanted.closed;
    const brief = await connect({ token: "short-eve" });
    await brief.next();
    await brief.next();
    assert.strictEqual((await brief.next()).data.code, "token_expired");
    await brief.closed;
    const answer = await fetch(`${url}/ws/games`);
    assert.strictEqual(answer.status, 400);
  },

  async stays() {
    const plain = await connect(ada);
    await plain.next();
    let pings = 0;
    await new Promise((done) => plain.ws.on("ping", () => ++pings === 20 && done()));
    plain.say({ type: "who", id: 1 });
    await plain.next();
    assert.strictEqual(plain.ws.readyState, WebSocket.OPEN);
  },
};

setTimeout(() => {
  console.error(`${scenario} did not end`);
  process.exit(2);
}, 30_000).unref();
scenarios[scenario]().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);

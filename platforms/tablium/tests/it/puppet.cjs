// Browsers as a test moves them: one command a line in, answers and events out. With the official client.
const { io } = require("socket.io-client");
const readline = require("node:readline");

const sockets = new Map();
// Where each is at a table, also after it was cut off.
const tables = new Map();
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const told = (error) => ({ code: error?.data?.code ?? "refused", message: error?.message ?? String(error) });

const connect = ({ name, url, token, transports }) => {
  const socket = io(url + "/games", {
    transports: transports ?? ["websocket"], auth: { token }, forceNew: true, reconnectionDelay: 100, reconnectionDelayMax: 300,
  });
  sockets.set(name, socket);
  socket.onAny((event, data) => say({ name, event, data }));
  socket.on("connect", () => {
    for (const game of tables.get(name) ?? []) socket.emit("join-game", game);
    say({ name, event: "up", data: { recovered: socket.recovered } });
  });
  socket.on("disconnect", (reason) => say({ name, event: "down", data: reason }));
  socket.on("connect_error", (error) => say({ name, event: "refused", data: told(error) }));
};

const actions = {
  connect,
  ask: async ({ name, event, data, within }) => {
    const socket = sockets.get(name);
    if (!socket.connected) {
      await new Promise((done) => setTimeout(done, 20));
      throw new Error("not connected");
    }
    if (event === "join-game") tables.set(name, (tables.get(name) ?? new Set()).add(data));
    let gone;
    const cutOff = new Promise((_, failed) => {
      gone = () => failed(new Error("cut off"));
      socket.once("disconnect", gone);
    });
    const answered = socket.timeout(within ?? 10_000).emitWithAck(event, data);
    return Promise.race([answered, cutOff]).finally(() => socket.off("disconnect", gone));
  },
  send: ({ name, event, data, times }) => {
    for (let n = 0; n < (times ?? 1); n += 1) sockets.get(name).emit(event, data);
  },
  raw: ({ name, text }) => sockets.get(name).io.engine.write(text),
  close: ({ name }) => sockets.get(name).close(),
  // Comes back to another node under the same name.
  move: ({ name, url, token }) => {
    sockets.get(name).close();
    connect({ name, url, token });
  },
  // Reads nothing any more, and says nothing.
  stop: ({ name }) => sockets.get(name).io.engine.transport.ws._socket.pause(),
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, action, ...what } = JSON.parse(line);
  try {
    say({ id, answer: (await actions[action](what)) ?? null });
  } catch (error) {
    say({ id, failed: told(error) });
  }
}).on("close", () => process.exit(0));

// The connection to the realtime service.

import { io } from "/assets/socket.io-4.8.4.esm.min.js";
import { me } from "/assets/api.js";

/** Longer than any answer takes; then the move is told as not taken. */
const ANSWER_MS = 8000;

let socket = null;
let skew = 0;
let isSkewKnown = false;
const listeners = new Map();

/** Hears an event of the server, or `up` and `down`; gives what ends it. */
export function on(event, listener) {
  if (!listeners.has(event)) listeners.set(event, new Set());
  listeners.get(event).add(listener);
  return () => listeners.get(event).delete(listener);
}

function tell(event, data) {
  for (const listener of listeners.get(event) ?? []) listener(data);
}

/** Connects as whoever is signed in. */
export function connect() {
  disconnect();
  socket = io("/games", { auth: (give) => give({ token: me()?.token }), transports: ["websocket", "polling"] });
  const mine = socket;
  mine.on("connect", () => tell("up"));
  mine.on("disconnect", (reason) => {
    if (mine !== socket) return;
    tell("down", "Connection lost. Reconnecting…");
    // What the server ended is not opened again by itself.
    if (reason === "io server disconnect") mine.connect();
  });
  mine.on("connect_error", (error) => {
    if (error.data?.code?.startsWith("token_")) dispatchEvent(new CustomEvent("signed-out"));
    else if (mine === socket) tell("down", "No connection. Trying again…");
  });
  mine.onAny((event, data) => {
    if (typeof data?.timestamp === "string") learn(Date.parse(data.timestamp));
    if (event === "error" && data?.code === "token_expired") dispatchEvent(new CustomEvent("signed-out"));
    tell(event, data);
  });
}

export function disconnect() {
  const old = socket;
  socket = null;
  old?.disconnect();
}

export function isUp() {
  return socket?.connected === true;
}

/** Sends an event and gives its answer; an error of the server, or none in time, is thrown. */
export async function ask(event, data) {
  if (!socket) throw new Error("There is no connection.");
  const answer = await socket.timeout(ANSWER_MS).emitWithAck(event, data).catch(() => {
    throw new Error("The server did not answer in time.");
  });
  if (answer?.error) throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
  return answer;
}

/** The server's clock is ours and the least that its messages were behind. */
function learn(sent) {
  const seen = sent - Date.now();
  if (!Number.isFinite(seen)) return;
  skew = isSkewKnown ? Math.max(skew, seen) : seen;
  isSkewKnown = true;
}

/** The server's time. */
export function serverNow() {
  return Date.now() + skew;
}

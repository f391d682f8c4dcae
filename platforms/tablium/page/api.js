// The platform's REST interface, and who is signed in.

const KEPT = "tablium.session";

/** What went wrong, with the platform's stable code. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let session = read();

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT));
    return kept && typeof kept.token === "string" ? kept : null;
  } catch {
    return null;
  }
}

/** Who is signed in: `{token, userId, username}`, or null. */
export function me() {
  return session;
}

export function signIn(found) {
  session = { token: found.token, userId: found.userId, username: found.username };
  localStorage.setItem(KEPT, JSON.stringify(session));
}

export function signOut() {
  session = null;
  localStorage.removeItem(KEPT);
}

async function call(method, path, body) {
  const headers = {};
  if (session) headers.authorization = `Bearer ${session.token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  // The same request sent again by the browser is the same request.
  if (method === "POST") headers["idempotency-key"] = crypto.randomUUID();
  let response;
  try {
    response = await fetch(`/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
  } catch {
    throw new ApiError(0, "unreachable", "The server can't be reached.");
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return answer;
  const code = answer?.code ?? "unknown";
  const wasSignedIn = session && response.status === 401 && !path.startsWith("/auth/");
  if (wasSignedIn) {
    signOut();
    dispatchEvent(new CustomEvent("signed-out"));
  }
  throw new ApiError(response.status, code, answer?.detail ?? answer?.title ?? "Something went wrong.");
}

export const get = (path) => call("GET", path);
export const post = (path, body = {}) => call("POST", path, body);

/** A list, whether it comes bare or in an object. */
export async function list(path) {
  const answer = await get(path);
  if (Array.isArray(answer)) return answer;
  return Object.values(answer ?? {}).find(Array.isArray) ?? [];
}

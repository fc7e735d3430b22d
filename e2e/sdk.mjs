// A page with the SDK in it, in Node: signs in, connects, waits for messages or
// writes one. The SDK is the stand-in that the demo uses (whisp-client.js).
//
//   node sdk.mjs '{"origin":"http://localhost:1234","sdk":"file:///…/whisp-client.js","cookie":"…","authorization":"Bearer …"}'
//
// As in a browser, cookies ride along on every call, and those that answers set
// are kept. Authorization is the page's own and goes to sign-in only: below
// /whisp the SDK puts Whisp's JWT there.
//
// Prints {"userId","username"} once connected, then {"from","message"} for each message.
// With "to" and "message" it makes a chat with that person, renews its JWT,
// writes, and ends once its own message is back. Else it ends with its standard
// input. Whatever goes wrong: {"error":"…"}.

import WebSocket from "ws";

const options = JSON.parse(process.argv[2]);
const { Whisp } = await import(options.sdk);

const jar = new Map(options.cookie.split("; ").filter(Boolean).map((pair) => pair.split(/=(.*)/s, 2)));
const cookie = () => [...jar].map((pair) => pair.join("=")).join("; ");
const say = (line) => console.log(JSON.stringify(line));

const plainFetch = globalThis.fetch;
globalThis.fetch = async (url, init = {}) => {
  const own = { Origin: options.origin, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", Cookie: cookie() };
  const answer = await plainFetch(url, { ...init, headers: { ...init.headers, ...own } });
  for (const line of answer.headers.getSetCookie()) {
    const [name, value] = line.split(";")[0].split(/=(.*)/s, 2);
    if (value && !/;\s*max-age=0/i.test(line)) jar.set(name, value);
    else jar.delete(name);
  }
  return answer;
};

class PageSocket extends WebSocket {
  constructor(url) {
    super(url, { headers: { Origin: options.origin, Cookie: cookie() } });
  }
}

function fail(text) {
  say({ error: text });
  process.exit(0);
}

try {
  const answer = await fetch(`${options.origin}/auth/whisp/sign-in`, {
    method: "POST",
    headers: options.authorization ? { Authorization: options.authorization } : {},
  });
  const text = await answer.text();
  if (!answer.ok) fail(`sign-in: ${answer.status} ${text}`);
  const signedIn = JSON.parse(text);
  const whisp = new Whisp({ baseUrl: `${options.origin}/whisp`, webSocketImpl: PageSocket });
  whisp.setAuth(signedIn);
  whisp.realtime.on("disconnected", (code) => fail(`disconnected: ${code}`));
  whisp.realtime.on("error", (message) => fail(`STOMP ERROR: ${message}`));
  await whisp.connect();
  whisp.realtime.on("message", ({ senderId, message }) => {
    say({ from: senderId, message });
    if (options.to && senderId === signedIn.userId) process.exit(0);
  });
  say({ userId: signedIn.userId, username: signedIn.username });
  if (options.to) {
    const { chatId } = await whisp.createChat("Tokens", [signedIn.username, options.to]);
    if (!(await whisp.refresh())) fail("the refresh was refused");
    await whisp.getMessages(chatId);
    whisp.sendMessage(chatId, options.message);
  }
} catch (error) {
  fail(`${error.stack}`);
}
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));

// STOMP 1.2 frames over a WebSocket: just what whisp-client.js needs.
// https://stomp.github.io/stomp-specification-1.2.html
//
// One WebSocket message is taken to hold whole frames, as every STOMP-over-
// WebSocket server sends them; frames split over messages are not reassembled.

const ESCAPES = { "\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c" };
const UNESCAPES = { "\\\\": "\\", "\\r": "\r", "\\n": "\n", "\\c": ":" };

// CONNECT and CONNECTED carry their header values unescaped ("Value Encoding").
const RAW_HEADERS = new Set(["CONNECT", "CONNECTED"]);

const escape = (text) => text.replace(/[\\\r\n:]/g, (c) => ESCAPES[c]);
const unescape = (text) => text.replace(/\\[\\rnc]/g, (c) => UNESCAPES[c]);

/** Encodes one frame. A body is sent with its content-length in bytes. */
export function encodeFrame(command, headers = {}, body = "") {
  const raw = RAW_HEADERS.has(command);
  const all = { ...headers };
  if (body !== "") all["content-length"] = new TextEncoder().encode(body).length;
  const lines = Object.entries(all).map(([name, value]) =>
    raw ? `${name}:${value}` : `${escape(name)}:${escape(String(value))}`,
  );
  return `${[command, ...lines].join("\n")}\n\n${body}\0`;
}

/** Decodes the frames of one message; heart-beats (lone newlines) give none. */
export function decodeFrames(data) {
  const frames = [];
  let rest = data.replace(/^[\r\n]+/, "");
  while (rest !== "") {
    const head = /\r?\n\r?\n/.exec(rest);
    if (!head) break; // not a frame: the server's fault, nothing to salvage
    const [command, ...lines] = rest.slice(0, head.index).split(/\r?\n/);
    const headers = decodeHeaders(lines, RAW_HEADERS.has(command));
    const { body, end } = takeBody(rest, head.index + head[0].length, headers["content-length"]);
    frames.push({ command, headers, body });
    rest = rest.slice(end).replace(/^[\r\n]+/, "");
  }
  return frames;
}

function decodeHeaders(lines, raw) {
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon < 0) continue;
    const name = raw ? line.slice(0, colon) : unescape(line.slice(0, colon));
    const value = raw ? line.slice(colon + 1) : unescape(line.slice(colon + 1));
    if (!(name in headers)) headers[name] = value; // of repeated headers the first counts
  }
  return headers;
}

// content-length counts bytes and lets a body hold NUL; without it the body
// ends at the first NUL.
function takeBody(text, start, contentLength) {
  if (contentLength !== undefined) {
    const bytes = new TextEncoder().encode(text.slice(start));
    const body = new TextDecoder().decode(bytes.subarray(0, Number(contentLength)));
    return { body, end: start + body.length + 1 };
  }
  const nul = text.indexOf("\0", start);
  const stop = nul < 0 ? text.length : nul;
  return { body: text.slice(start, stop), end: stop + 1 };
}

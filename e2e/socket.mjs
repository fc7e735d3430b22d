// A chat from Node: sockjs-client on one of its transports, or @stomp/stompjs on
// the plain WebSocket (package ws).
//
//   node socket.mjs '{"transport":"xhr-streaming","origin":"http://localhost:1234","cookie":"…","chatId":"…","message":"…"}'
//
// Prints {"event":{…},"version":"1.2","transport":"…"} or {"error":"…"}. Sends what a browser would:
// the page's cookies and Origin on every request.

import { createRequire } from "node:module";
import * as stomp from "@stomp/stompjs";
import WebSocket from "ws";
import { chat, prepare } from "./chatter.mjs";

const require = createRequire(import.meta.url);
const options = JSON.parse(process.argv[2]);
const headers = { Cookie: options.cookie, Origin: options.origin };

// sockjs-client and its EventSource take no headers in Node: put them below.
const http = require("http");
const request = http.request;
http.request = (target, ...rest) => request({ ...target, headers: { ...target.headers, ...headers } }, ...rest);
const SockJS = require("sockjs-client");

let transport = "plain";

function open(ticket) {
  const url = `${options.origin}/whisp/api/wsConnect?ticket=${ticket}`;
  if (options.transport === "plain") {
    return () => new WebSocket(url.replace(/^http/, "ws"), ["v12.stomp", "v11.stomp", "v10.stomp"], { headers });
  }
  const socket = new SockJS(url, null, {
    transports: [options.transport],
    transportOptions: { websocket: { headers } },
    timeout: 60_000,
  });
  const opened = () => (transport = socket.transport);
  socket.addEventListener("open", opened);
  return () => socket;
}

try {
  const session = await prepare((path, init = {}) =>
    fetch(options.origin + path, { ...init, headers: { ...init.headers, ...headers } }),
  );
  const result = await chat(stomp, open(session.ticket), { ...session, ...options });
  console.log(JSON.stringify({ ...result, transport }));
} catch (error) {
  console.log(JSON.stringify({ error: `${error.message}` }));
}
process.exit(0);

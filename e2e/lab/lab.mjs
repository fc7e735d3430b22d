// In the browser what socket.mjs is in Node: window.lab(transport, chatId, message) chats once
// over sockjs-client's transport of that name, or over the plain WebSocket.

import { chat, prepare } from "./chatter.mjs";

window.lab = async ({ transport, chatId, message }) => {
  const session = await prepare((path, init) => fetch(path, init));
  const url = `${location.origin}/whisp/api/wsConnect?ticket=${session.ticket}`;
  let used = "plain";
  const open = () => {
    if (transport === "plain") return new WebSocket(url.replace(/^http/, "ws"), ["v12.stomp", "v11.stomp", "v10.stomp"]);
    const socket = new window.SockJS(url, null, { transports: [transport], timeout: 60_000 });
    socket.addEventListener("open", () => (used = socket.transport));
    return socket;
  };
  const result = await chat(window.StompJs, open, { ...session, chatId, message });
  return { ...result, transport: used };
};
document.getElementById("ready").textContent = "ready";

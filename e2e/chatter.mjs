// One chat over one STOMP connection, for Node and browsers alike: connect,
// subscribe, send one message, wait until it comes back to us.

/**
 * stomp: the module @stomp/stompjs. open: makes the WebSocket-like object.
 * Resolves with the event that came back and the STOMP version agreed on.
 */
export function chat({ Client }, open, { jwt, userId, chatId, message }) {
  return new Promise((resolve, reject) => {
    const client = new Client({
      webSocketFactory: open,
      connectHeaders: { Authorization: `Bearer ${jwt}` },
      reconnectDelay: 0,
      heartbeatIncoming: 10_000,
      heartbeatOutgoing: 10_000,
    });
    client.onConnect = () => {
      client.subscribe(`/user/${userId}/queue/messages`, ({ body }) => {
        const event = JSON.parse(body);
        if (event.type !== "SEND_MSG" || event.message !== message) return;
        const version = client.connectedVersion;
        client.onWebSocketClose = () => {}; // from here on it is ours
        client.deactivate().then(() => resolve({ event, version }), reject);
      });
      client.publish({
        destination: "/api/chat",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ type: "SEND_MSG", chatId, message }),
      });
    };
    client.onStompError = (frame) => reject(new Error(`STOMP ERROR: ${frame.headers.message}`));
    client.onWebSocketClose = (event) => reject(new Error(`socket closed: ${event?.code} ${event?.reason}`));
    client.activate();
  });
}

/** What a page does before: sign in, and fetch a ticket. `call` is fetch, with the session. */
export async function prepare(call) {
  const signedIn = await answer(call, "/auth/whisp/sign-in", { method: "POST" });
  const { ticket } = await answer(call, "/whisp/api/auth/getTicket", {
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${signedIn.jwt}` },
  });
  return { jwt: signedIn.jwt, userId: signedIn.userId, ticket };
}

async function answer(call, path, options) {
  const response = await call(path, options);
  const text = await response.text();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

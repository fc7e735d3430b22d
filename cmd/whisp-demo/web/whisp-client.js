// A STAND-IN for the vendor's JavaScript SDK, whisp-sdk 0.1.3. It is NOT the
// vendor's code: whisp-bff's authors wrote it from their notes on what that
// SDK does on the wire, so that the demo and the end-to-end tests meet the
// same behaviour, its surprising parts included (marked "As the SDK"). In
// your own app use the real whisp-sdk; method names here are our guess at
// its style, the three lines of integration.js are the documented ones.
//
// One client is one person in one tab. It keeps tokens in memory only.

import { decodeFrames, encodeFrame } from "./stomp-frame.js";

// What the SDK calls the realtime events, by their type on the wire.
const EVENT_NAMES = {
  SEND_MSG: "message",
  EDIT_MSG: "messageEdited",
  DELETE_MSG: "messageDeleted",
  REPLY: "reply",
  TYPING: "typing",
  REACT: "reaction",
  DELETE_REACT: "reactionDeleted",
  READ_MSG: "messageRead",
  USER_JOIN: "userJoined",
  USER_LEAVE: "userLeft",
  NEW_CHAT: "chatCreated",
  DELETE_CHAT: "chatDeleted",
};

const SUBPROTOCOLS = ["v12.stomp", "v11.stomp", "v10.stomp"];
const HEART_BEAT_MS = 10_000;
const RECONNECT_MAX_MS = 30_000;

/** An HTTP answer that was not 2xx. `message` is fit to show to a person. */
export class WhispError extends Error {
  constructor(status, message, body) {
    super(message);
    this.name = "WhispError";
    this.status = status;
    this.body = body;
  }
}

/** The names in EVENT_NAMES, and "connected", "disconnected" (close code), "error" (text of a STOMP ERROR). */
class Realtime {
  #listeners = new Map();

  on(name, listener) {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
  }

  emit(name, event) {
    for (const listener of this.#listeners.get(name) ?? []) listener(event);
  }
}

export class Whisp {
  realtime = new Realtime();
  #base;
  #webSocketImpl;
  #auth = null; // {jwt, refreshToken, userId}
  #refreshing = null;
  #socket = null;
  #beat = null;
  #retry = null;
  #attempt = 0;
  #wanted = false;
  #settleConnect = null;

  /** baseUrl may have a path: `https://app.example.com/whisp`. */
  constructor({ baseUrl, webSocketImpl = null }) {
    this.#base = baseUrl.replace(/\/+$/, "");
    this.#webSocketImpl = webSocketImpl;
  }

  /** Takes what sign-in answered; other keys than these three are ignored. */
  setAuth({ jwt, refreshToken, userId }) {
    this.#auth = { jwt, refreshToken, userId };
  }

  /** Whether tokens are held. False after any failed refresh. */
  get authenticated() {
    return this.#auth !== null;
  }

  get userId() {
    return this.#auth?.userId ?? null;
  }

  get connected() {
    return this.#socket?.stompReady === true;
  }

  // --- REST ---------------------------------------------------------------

  getUser = () => this.#call("GET", "/api/user/getUser");
  getChats = ({ page = 0, size = 50 } = {}) =>
    this.#call("GET", `/api/chat/getChats?page=${page}&size=${size}`);
  createChat = (chatName, userNames) =>
    this.#call("POST", "/api/chat/createChat", { chatName, userNames });
  getUsers = (chatId) => this.#call("GET", `/api/chat/getUsers/${encodeURIComponent(chatId)}`);
  deleteChat = (chatId) =>
    this.#call("DELETE", `/api/chat/deleteChat?chatId=${encodeURIComponent(chatId)}`);

  /** One page of messages; the server marks them as read. */
  getMessages(chatId, { size = 30, lastMessage = "" } = {}) {
    const before = lastMessage ? `&lastMessage=${encodeURIComponent(lastMessage)}` : "";
    return this.#call("GET", `/api/messages/getMessages/${encodeURIComponent(chatId)}?size=${size}${before}`);
  }

  /** Ends this refresh token. The JWT and open sockets live on until they expire. */
  logout = () => this.#call("POST", "/api/auth/logout", { refreshToken: this.#auth?.refreshToken });
  logoutAll = () => this.#call("POST", "/api/auth/logoutAll");

  // As the SDK: on 401 one refresh (shared by all calls of this tab) and one
  // more try; if that fails the tokens are dropped.
  async #call(method, path, body) {
    if (!this.#auth) throw new WhispError(401, "Not signed in");
    const first = await this.#fetch(method, path, body, this.#auth.jwt);
    if (first.status !== 401) return unwrap(first);
    if (!(await this.#refreshOnce())) throw new WhispError(401, "Session expired");
    const second = await this.#fetch(method, path, body, this.#auth.jwt);
    if (second.status === 401) {
      this.#auth = null;
      throw new WhispError(401, "Session expired");
    }
    return unwrap(second);
  }

  // As the SDK: a JSON content type on every call, GET included.
  #fetch(method, path, body, token) {
    return fetch(this.#base + path, {
      method,
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  }

  // The background refresh takes the header with or without "Bearer ".
  #refreshOnce() {
    this.#refreshing ??= this.#renew((header) => header.replace(/^Bearer\s+/i, "")).finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  /** The public refresh. As the SDK: takes only `Bearer <jwt>`, nothing else. */
  refresh() {
    return this.#renew((header) => (header.startsWith("Bearer ") ? header.slice(7) : ""));
  }

  // As the SDK: ANY failed refresh, 429 and 503 included, drops the tokens.
  async #renew(readHeader) {
    if (!this.#auth) return false;
    const { jwt: expiredJwt, refreshToken } = this.#auth;
    let jwt = "";
    try {
      const answer = await this.#fetch("POST", "/api/auth/refresh", { expiredJwt }, refreshToken);
      if (answer.ok) jwt = readHeader(answer.headers.get("Authorization") ?? "");
    } catch {
      // no connection: the same as a refusal
    }
    if (!jwt || !this.#auth) {
      this.#auth = null;
      return false;
    }
    this.#auth = { ...this.#auth, jwt };
    return true;
  }

  // --- Realtime -----------------------------------------------------------

  /**
   * Opens the socket; resolves once STOMP is connected. As the SDK: if the very
   * first handshake is refused the promise never settles, although the
   * reconnect goes on and may succeed. Rejects if no ticket could be had.
   */
  async connect() {
    this.#drop();
    this.#wanted = true;
    this.#attempt = 0;
    await new Promise((resolve, reject) => {
      this.#settleConnect = resolve;
      this.#open(false).catch(reject);
    });
  }

  /** Closes the socket for good, without a "disconnected" event. */
  disconnect() {
    this.#drop();
  }

  // A socket that is no longer ours is neither listened to nor reconnected.
  #drop() {
    this.#wanted = false;
    clearTimeout(this.#retry);
    clearInterval(this.#beat);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
  }

  // As the SDK: the JWT for STOMP is taken BEFORE the ticket call, which may
  // renew it; the ticket is not URL-encoded.
  async #open(again) {
    if (again && !(await this.refresh())) return; // ends silently, as the SDK
    const jwt = this.#auth?.jwt;
    const { ticket } = await this.#call("GET", "/api/auth/getTicket");
    const url = `${this.#base.replace(/^http/, "ws")}/api/wsConnect?ticket=${ticket}`;
    const socket = this.#webSocketImpl
      ? new this.#webSocketImpl(url) // As the SDK: then no subprotocol is offered
      : new WebSocket(url, SUBPROTOCOLS);
    this.#socket = socket;
    socket.onopen = () => {
      socket.handshaken = true;
      socket.send(
        encodeFrame("CONNECT", {
          "accept-version": "1.2,1.1,1.0",
          host: new URL(url).host,
          "heart-beat": `${HEART_BEAT_MS},${HEART_BEAT_MS}`,
          Authorization: `Bearer ${jwt}`,
        }),
      );
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) decodeFrames(data).forEach((frame) => this.#receive(socket, frame));
    };
    socket.onclose = ({ code }) => this.#lost(socket, code);
  }

  #receive(socket, { command, headers, body }) {
    if (command === "CONNECTED") {
      this.#ready(socket, headers);
    } else if (command === "MESSAGE") {
      const event = JSON.parse(body);
      if (EVENT_NAMES[event.type]) this.realtime.emit(EVENT_NAMES[event.type], event);
    } else if (command === "ERROR") {
      this.realtime.emit("error", headers.message ?? "");
      socket.close();
    }
  }

  #ready(socket, headers) {
    socket.stompReady = true;
    this.#attempt = 0;
    const [, theirs] = (headers["heart-beat"] ?? "0,0").split(",").map(Number);
    if (theirs > 0) this.#beat = setInterval(() => socket.send("\n"), Math.max(HEART_BEAT_MS, theirs));
    socket.send(encodeFrame("SUBSCRIBE", { id: "sub-0", destination: `/user/${this.userId}/queue/messages` }));
    this.realtime.emit("connected");
    this.#settleConnect?.();
    this.#settleConnect = null;
  }

  // As the SDK: any close code leads to a reconnect after 1, 2, 4 … 30 s.
  #lost(socket, code) {
    if (socket !== this.#socket) return;
    clearInterval(this.#beat);
    this.#socket = null;
    if (!socket.handshaken) this.#settleConnect = null; // see connect()
    this.realtime.emit("disconnected", code);
    this.#reconnect();
  }

  // Also when no ticket was given, for any other reason than the session.
  #reconnect() {
    if (!this.#wanted || !this.#auth) return;
    const wait = Math.min(1000 * 2 ** this.#attempt++, RECONNECT_MAX_MS);
    this.#retry = setTimeout(() => this.#open(true).catch(() => this.#reconnect()), wait);
  }

  sendMessage = (chatId, message) => this.#send({ type: "SEND_MSG", chatId, message });
  reply = (chatId, messageId, message) => this.#send({ type: "REPLY", chatId, messageId, message });
  editMessage = (chatId, messageId, message) => this.#send({ type: "EDIT_MSG", chatId, messageId, message });
  deleteMessage = (chatId, messageId) => this.#send({ type: "DELETE_MSG", chatId, messageId });
  typing = (chatId) => this.#send({ type: "TYPING", chatId });
  react = (chatId, messageId, reaction) => this.#send({ type: "REACT", chatId, messageId, reaction });
  deleteReaction = (reactionId) => this.#send({ type: "DELETE_REACT", reactionId });
  readMessage = (chatId, messageId) => this.#send({ type: "READ_MSG", chatId, messageId });

  #send(payload) {
    if (!this.connected) throw new WhispError(0, "Not connected");
    const body = JSON.stringify({ ...payload, senderId: this.userId, timeStamp: new Date().toISOString() });
    this.#socket.send(encodeFrame("SEND", { destination: "/api/chat", "content-type": "application/json" }, body));
  }
}

// As the SDK: a 2xx that is not JSON becomes null without an error.
async function unwrap(answer) {
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new WhispError(answer.status, body?.message ?? `HTTP ${answer.status}`, body);
  return body;
}

// The side bar: my chats, newest first, and colleagues to start one with.

import { avatar, byId, el, icon, shortTime } from "./dom.js";

export class Chats {
  #whisp;
  #people;
  #conversation;
  #notify;
  #chats = new Map(); // chatId -> {chatId, title, members, last, lastTime, unread}

  constructor(whisp, people, conversation, notify) {
    this.#whisp = whisp;
    this.#people = people;
    this.#conversation = conversation;
    this.#notify = notify;
    for (const name of ["message", "reply"]) whisp.realtime.on(name, (event) => this.#message(event));
    for (const name of ["chatCreated", "chatDeleted", "userJoined", "userLeft"]) {
      whisp.realtime.on(name, () => this.load().catch((error) => notify(error.message)));
    }
    addEventListener("hashchange", () => this.#follow());
  }

  /** Fetches all chats and their members; keeps what is unread. */
  async load() {
    const { chats = [] } = (await this.#whisp.getChats()) ?? {};
    const members = await Promise.all(chats.map(({ chatId }) => this.#whisp.getUsers(chatId)));
    const known = this.#chats;
    this.#chats = new Map();
    chats.forEach((chat, i) => {
      const users = members[i]?.users ?? [];
      this.#people.learn(users);
      this.#chats.set(chat.chatId, {
        chatId: chat.chatId,
        members: users.map((user) => user.userId),
        title: this.#title(chat, users),
        last: chat.lastMessage ?? "",
        lastTime: chat.lastMessageTimestamp ?? chat.createdAt ?? "",
        unread: known.get(chat.chatId)?.unread ?? 0,
      });
    });
    this.#render();
    this.#follow();
  }

  // A chat of two is called after the other person, whatever its stored name.
  #title(chat, users) {
    const others = users.filter((user) => user.userId !== this.#people.me.id);
    return others.length === 1 ? this.#people.nameOf(others[0].username) : chat.chatName;
  }

  // The open chat is the one in the address, so that reload and back work.
  #follow() {
    const chat = this.#chats.get(decodeURIComponent(location.hash.slice(1))) ?? null;
    if (chat) chat.unread = 0;
    document.body.dataset.open = String(chat !== null);
    this.#conversation.open(chat).catch((error) => this.#notify(error.message));
    this.#render();
  }

  #message(event) {
    const chat = this.#chats.get(event.chatId);
    if (!chat) return void this.load().catch((error) => this.#notify(error.message));
    chat.last = event.message;
    chat.lastTime = event.timeStamp;
    if (event.senderId !== this.#people.me?.id && !this.#conversation.shows(event.chatId)) chat.unread++;
    this.#render();
  }

  async #start(person) {
    this.#notify("");
    const existing = [...this.#chats.values()].find(
      (chat) => chat.members.length === 2 && chat.members.some((id) => this.#people.username(id) === person.username),
    );
    if (existing) return void (location.hash = existing.chatId);
    try {
      const { me } = this.#people;
      const chat = await this.#whisp.createChat(`${me.name} & ${person.name}`, [me.username, person.username]);
      await this.load();
      location.hash = chat.chatId;
    } catch (error) {
      // Whisp knows only people whose account exists, which the first sign-in makes.
      const hint = `${person.name} (${person.username}) has not signed in yet. Ask them to open this page once.`;
      this.#notify(error.status === 400 ? hint : error.message);
    }
  }

  #render() {
    const chats = [...this.#chats.values()].sort((a, b) => Date.parse(b.lastTime) - Date.parse(a.lastTime));
    byId("chats").replaceChildren(...chats.map((chat) => this.#chatItem(chat)));
    byId("chats-empty").hidden = chats.length > 0;
    byId("people").replaceChildren(...this.#people.colleagues.map((person) => this.#personItem(person)));
    const unread = chats.reduce((sum, chat) => sum + chat.unread, 0);
    document.title = unread > 0 ? `(${unread}) Acme Team` : "Acme Team";
  }

  #chatItem(chat) {
    const current = decodeURIComponent(location.hash.slice(1)) === chat.chatId;
    const badge = chat.unread > 0 && el("span.badge", { "aria-label": `${chat.unread} unread` }, String(chat.unread));
    return el(
      "li",
      {},
      el(
        "a.row",
        { href: `#${encodeURIComponent(chat.chatId)}`, "aria-current": current && "true", "data-chat": chat.chatId },
        avatar(el("span.avatar", { "aria-hidden": "true" }), chat.title),
        el("span.who", {}, el("strong", {}, chat.title), el("small", {}, chat.last || "No messages yet")),
        el("span.end", {}, el("time", { datetime: chat.lastTime }, shortTime(chat.lastTime)), badge || null),
      ),
    );
  }

  #personItem(person) {
    return el(
      "li",
      {},
      el(
        "button.row",
        { type: "button", "data-person": person.username, onclick: () => this.#start(person) },
        avatar(el("span.avatar", { "aria-hidden": "true" }), person.name),
        el("span.who", {}, el("strong", {}, person.name), el("small", {}, person.username)),
        el("span.end", {}, icon("plus")),
      ),
    );
  }
}

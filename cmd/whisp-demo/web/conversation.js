// The open chat: its messages, who is typing, and the composer.

import { avatar, byId } from "./dom.js";
import { MessageList } from "./message-list.js";

const PAGE = 30;
const TYPING_EVERY_MS = 2_000;
const TYPING_SHOWN_MS = 4_000;

export class Conversation {
  #whisp;
  #people;
  #notify;
  #list;
  #chat = null;
  #typers = new Map(); // user id -> timer that ends it
  #lastTyping = 0;

  constructor(whisp, people, notify) {
    this.#whisp = whisp;
    this.#people = people;
    this.#notify = notify;
    this.#list = new MessageList(people, (message, reaction) => this.#react(message, reaction));
    this.#listen();
    byId("composer").addEventListener("submit", (event) => this.#submit(event));
    byId("draft").addEventListener("keydown", (event) => this.#key(event));
    byId("draft").addEventListener("input", () => this.#drafting());
    byId("earlier").addEventListener("click", () => this.#earlier());
  }

  #listen() {
    const here = (name, handle) =>
      this.#whisp.realtime.on(name, (event) => event.chatId === this.#chat?.chatId && handle(event));
    for (const name of ["message", "reply"]) here(name, (event) => this.#arrived(event));
    here("messageEdited", (event) => this.#list.edit(event));
    here("messageDeleted", (event) => this.#list.remove(event.messageId));
    here("reaction", (event) => this.#list.reacted(event));
    here("typing", (event) => this.#typing(event.senderId));
    this.#whisp.realtime.on("reactionDeleted", (event) => this.#list.unreacted(event.messageId));
  }

  /** Whether a person looks at that chat now. */
  shows = (chatId) => this.#chat?.chatId === chatId && document.visibilityState === "visible";

  /** Without a socket nothing can be sent; the draft stays. */
  online(online) {
    byId("send").disabled = !online;
    byId("draft").placeholder = online ? "Write a message" : "Reconnecting…";
  }

  /** Shows a chat (null: none). Opening the one already open does nothing. */
  async open(chat) {
    const same = chat?.chatId === this.#chat?.chatId;
    this.#chat = chat;
    for (const id of ["scroller", "composer", "chat-avatar"]) byId(id).hidden = chat === null;
    byId("welcome").hidden = chat !== null;
    byId("chat-title").textContent = chat?.title ?? "Acme Team";
    if (same || chat === null) return;
    avatar(byId("chat-avatar"), chat.title);
    this.#notify("");
    this.#stopTyping();
    this.#list.clear();
    await this.reload();
    byId("draft").focus({ preventScroll: true });
  }

  /** Fetches the newest page again: at opening, and after a reconnect. */
  async reload() {
    const chat = this.#chat;
    if (!chat) return;
    const { messages = [] } = (await this.#whisp.getMessages(chat.chatId, { size: PAGE })) ?? {};
    if (chat !== this.#chat) return; // another one was opened meanwhile
    this.#list.merge(messages);
    this.#list.toEnd();
    byId("earlier").hidden = messages.length < PAGE;
  }

  async #earlier() {
    const chat = this.#chat;
    try {
      const page = await this.#whisp.getMessages(chat.chatId, { size: PAGE, lastMessage: this.#list.oldest });
      const messages = page?.messages ?? [];
      if (chat !== this.#chat) return;
      this.#list.merge(messages);
      byId("earlier").hidden = messages.length < PAGE;
    } catch (error) {
      this.#notify(error.message);
    }
  }

  #arrived(event) {
    this.#stopTyping(event.senderId);
    this.#list.merge([{ ...event, content: event.message }]);
    const own = event.senderId === this.#people.me.id;
    if (!own && this.shows(event.chatId)) this.#attempt(() => this.#whisp.readMessage(event.chatId, event.messageId));
  }

  #submit(event) {
    event.preventDefault();
    const draft = byId("draft");
    const text = draft.value.trim();
    if (text === "") return;
    if (!this.#attempt(() => this.#whisp.sendMessage(this.#chat.chatId, text))) return;
    draft.value = "";
    this.#lastTyping = 0;
    this.#fit();
    this.#list.toEnd();
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    byId("composer").requestSubmit();
  }

  #drafting() {
    this.#fit();
    if (byId("draft").value === "" || Date.now() - this.#lastTyping < TYPING_EVERY_MS) return;
    this.#lastTyping = Date.now();
    if (this.#whisp.connected) this.#attempt(() => this.#whisp.typing(this.#chat.chatId));
  }

  #fit() {
    const draft = byId("draft");
    draft.rows = Math.min(6, Math.max(1, draft.value.split("\n").length));
  }

  // The same reaction again takes it back.
  #react(message, reaction) {
    const mine = message.reactions.find((r) => r.senderId === this.#people.me.id && r.reaction === reaction);
    this.#attempt(() => {
      if (mine) this.#whisp.deleteReaction(mine.reactionId);
      else this.#whisp.react(this.#chat.chatId, message.messageId, reaction);
    });
  }

  #attempt(action) {
    try {
      action();
      return true;
    } catch (error) {
      this.#notify(error.message);
      return false;
    }
  }

  #typing(userId) {
    if (userId === this.#people.me?.id) return;
    clearTimeout(this.#typers.get(userId));
    this.#typers.set(userId, setTimeout(() => this.#stopTyping(userId), TYPING_SHOWN_MS));
    this.#showTyping();
  }

  #stopTyping(userId) {
    for (const [id, timer] of this.#typers) {
      if (userId !== undefined && id !== userId) continue;
      clearTimeout(timer);
      this.#typers.delete(id);
    }
    this.#showTyping();
  }

  #showTyping() {
    const names = [...this.#typers.keys()].map((id) => this.#people.name(id));
    const text = names.length === 0 ? "" : `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing`;
    if (byId("typing").textContent !== text) byId("typing").textContent = text;
  }
}

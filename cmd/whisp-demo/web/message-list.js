// Messages of one chat, kept in order by time and drawn as bubbles. A node is
// redrawn only when its message changed, so that focus and scroll stay.

import { avatar, byId, el, icon, shortTime } from "./dom.js";

const NEAR_END_PX = 80;
const SAME_BREATH_MS = 5 * 60_000;

// On the wire a reaction is an emoji; these have a picture of their own, so
// that they look alike on every system.
const REACTIONS = new Map([
  ["👍", { icon: "like", name: "Like" }],
  ["❤️", { icon: "love", name: "Love" }],
  ["😂", { icon: "laugh", name: "Laugh" }],
  ["🎉", { icon: "party", name: "Celebrate" }],
  ["👀", { icon: "eyes", name: "Looking" }],
]);

const face = (reaction) => (REACTIONS.has(reaction) ? icon(REACTIONS.get(reaction).icon) : reaction);
const nameOf = (reaction) => REACTIONS.get(reaction)?.name ?? reaction;

export class MessageList {
  #people;
  #react;
  #messages = new Map(); // messageId -> {messageId, senderId, content, timeStamp, edited, replyTo, reactions}
  #drawn = new Map(); // messageId -> {signature, node}
  #picker = null;

  constructor(people, react) {
    this.#people = people;
    this.#react = react;
    document.addEventListener("click", (event) => !this.#picker?.parentNode?.contains(event.target) && this.#unpick());
  }

  get oldest() {
    return this.#ordered()[0]?.messageId ?? "";
  }

  clear() {
    this.#messages.clear();
    this.#draw();
  }

  /** Adds messages, or replaces those already known. */
  merge(messages) {
    for (const { messageId, senderId, content, timeStamp, edited, replyTo, reactions } of messages) {
      const known = this.#messages.get(messageId)?.reactions ?? [];
      this.#messages.set(messageId, {
        messageId, senderId, content, timeStamp, edited: Boolean(edited), replyTo: replyTo ?? null,
        reactions: reactions ?? known,
      });
    }
    this.#draw();
  }

  edit({ messageId, message }) {
    const known = this.#messages.get(messageId);
    if (known) this.#messages.set(messageId, { ...known, content: message, edited: true });
    this.#draw();
  }

  remove(messageId) {
    this.#messages.delete(messageId);
    this.#draw();
  }

  // In the event messageId is the reaction's and parentMessageId the message's;
  // a person's second reaction to a message replaces the first.
  reacted({ messageId: reactionId, parentMessageId, senderId, message: reaction }) {
    const known = this.#messages.get(parentMessageId);
    if (!known) return;
    known.reactions = [...known.reactions.filter((r) => r.senderId !== senderId), { reactionId, senderId, reaction }];
    this.#draw();
  }

  unreacted(reactionId) {
    for (const message of this.#messages.values()) {
      message.reactions = message.reactions.filter((r) => r.reactionId !== reactionId);
    }
    this.#draw();
  }

  toEnd() {
    const scroller = byId("scroller");
    scroller.scrollTop = scroller.scrollHeight;
  }

  #ordered() {
    return [...this.#messages.values()].sort((a, b) => Date.parse(a.timeStamp) - Date.parse(b.timeStamp));
  }

  #draw() {
    const scroller = byId("scroller");
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
    const ordered = this.#ordered();
    const drawn = new Map();
    ordered.forEach((message, i) => {
      const first = !continues(ordered[i - 1], message);
      const last = !ordered[i + 1] || !continues(message, ordered[i + 1]);
      const signature = JSON.stringify([message, first, last, this.#people.name(message.senderId)]);
      const known = this.#drawn.get(message.messageId);
      drawn.set(
        message.messageId,
        known?.signature === signature ? known : { signature, node: this.#bubble(message, first, last) },
      );
    });
    this.#drawn = drawn;
    place(byId("messages"), [...drawn.values()].map(({ node }) => node));
    if (atEnd) this.toEnd();
  }

  #bubble(message, first, last) {
    const own = message.senderId === this.#people.me.id;
    const name = this.#people.name(message.senderId);
    const classes = ["li.message", own ? "own" : "theirs", first && "first", last && "last"].filter(Boolean);
    return el(
      classes.join("."),
      { "data-message": message.messageId },
      !own && avatar(el("span.avatar.small", { "aria-hidden": "true" }), name),
      el(
        "div.stack",
        {},
        first && !own ? el("span.sender", {}, name) : el("span.unseen", {}, own ? "You:" : `${name}:`),
        el(
          "div.bubble",
          {},
          message.replyTo && el("blockquote", {}, message.replyTo.content),
          el("p", {}, message.content),
        ),
        this.#reactions(message),
        last && el("time", { datetime: message.timeStamp }, shortTime(message.timeStamp), message.edited && " · edited"),
      ),
      el("button.react", { type: "button", "aria-label": "React", "aria-haspopup": "true",
        onclick: (event) => this.#pick(event.currentTarget, message.messageId) }, icon("smile")),
    );
  }

  #reactions(message) {
    if (message.reactions.length === 0) return null;
    const groups = Map.groupBy
      ? Map.groupBy(message.reactions, (r) => r.reaction)
      : message.reactions.reduce((m, r) => m.set(r.reaction, [...(m.get(r.reaction) ?? []), r]), new Map());
    const chips = [...groups].map(([reaction, all]) => {
      const who = all.map((r) => this.#people.name(r.senderId)).join(", ");
      const mine = all.some((r) => r.senderId === this.#people.me.id);
      return el(
        "button.chip",
        { type: "button", title: who, "data-reaction": reaction, "aria-pressed": String(mine),
          "aria-label": `${nameOf(reaction)}: ${who}`, onclick: () => this.#react(message, reaction) },
        face(reaction),
        all.length > 1 && el("span", {}, String(all.length)),
      );
    });
    return el("div.reactions", {}, ...chips);
  }

  #pick(button, messageId) {
    const again = this.#picker?.parentNode === button.parentNode;
    this.#unpick();
    if (again) return;
    const choose = (reaction) => {
      this.#unpick();
      this.#react(this.#messages.get(messageId), reaction);
      button.focus();
    };
    this.#picker = el(
      "div.picker",
      { role: "toolbar", "aria-label": "Reactions", onkeydown: (event) => this.#pickerKey(event, button) },
      ...[...REACTIONS].map(([reaction, { icon: picture, name }]) =>
        el("button", { type: "button", "aria-label": name, title: name, "data-pick": reaction,
          onclick: () => choose(reaction) }, icon(picture))),
    );
    button.after(this.#picker);
    this.#picker.firstChild.focus();
  }

  #pickerKey(event, button) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") {
      this.#unpick();
      button.focus();
    } else if (step) {
      const choices = [...this.#picker.children];
      const next = choices.indexOf(document.activeElement) + step;
      choices[(next + choices.length) % choices.length].focus();
    }
  }

  #unpick() {
    this.#picker?.remove();
    this.#picker = null;
  }
}

// Whether b follows a so closely that they share one name and one time.
function continues(a, b) {
  return a?.senderId === b.senderId && new Date(b.timeStamp) - new Date(a.timeStamp) < SAME_BREATH_MS;
}

// Makes nodes the children of parent, in order, moving only what is not in place.
function place(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
}

// Who is who: the app's own list of colleagues, and the Whisp users met in chats.

export class People {
  me = null; // {id, username, name}
  colleagues = []; // {username, name}, without me
  #byId = new Map();

  take(colleagues, { id, username }) {
    this.colleagues = colleagues.filter((person) => person.username !== username);
    const mine = colleagues.find((person) => person.username === username);
    this.me = { id, username, name: mine?.name ?? username };
    this.learn([{ userId: id, username }]);
  }

  /** Remembers members of a chat as Whisp lists them. */
  learn(members) {
    for (const { userId, username } of members) this.#byId.set(userId, username);
  }

  username = (id) => this.#byId.get(id) ?? "";

  /** A person's name by Whisp id; the user name if the app does not know them. */
  name(id) {
    const username = this.#byId.get(id);
    if (username === undefined) return "Somebody";
    return this.nameOf(username);
  }

  nameOf(username) {
    if (username === this.me?.username) return this.me.name;
    return this.colleagues.find((person) => person.username === username)?.name ?? username;
  }
}

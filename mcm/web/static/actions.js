// What changes something: asked for in a dialog first, then sent, then told.

import { byId, make, say } from "./dom.js";
import { clock, count, parts } from "./format.js";

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body ?? {}),
  });
  const text = await answer.json().catch(() => ({ problem: `status ${answer.status}`, hint: "" }));
  if (!answer.ok) throw new Error([text.problem, text.hint].filter(Boolean).join("; "));
  return text;
}

export function toast(words, isBad = false) {
  const one = make("div", isBad ? "toast is-bad" : "toast", words);
  byId("toasts").append(one);
  setTimeout(() => one.remove(), isBad ? 10_000 : 5_000);
}

/** Show a dialog; *act* is called by its button, and what it gives back is told. */
function ask({ title, text, body = null, button, act }) {
  const dialog = byId("dialog"), doIt = byId("dialog-do");
  say(byId("dialog-title"), title);
  say(byId("dialog-text"), text);
  byId("dialog-body").replaceChildren(...(body ? [body] : []));
  doIt.hidden = !act;
  doIt.disabled = false;
  say(doIt, button ?? "");
  doIt.onclick = async () => {
    doIt.disabled = true;
    try {
      toast(await act());
      dialog.close();
    } catch (error) {
      say(byId("dialog-text"), error.message);
      doIt.disabled = false;
    }
  };
  if (!dialog.open) dialog.showModal();
}

export async function rebalance() {
  const title = "Rebalance";
  ask({ title, text: "Asking which topics would move…" });
  let preview;
  try {
    preview = await post("/api/websocket/rebalance", { dry_run: true });
  } catch (error) {
    ask({ title, text: error.message });
    return;
  }
  const { moves } = preview;
  if (!moves.length) {
    ask({ title, text: "Nothing to move: no line is much busier than the others." });
    return;
  }
  const list = make("ol", "moves");
  for (const move of moves) {
    const item = make("li");
    item.append(make("span", "", move.topic), make("span", "dim", `${move.source} → ${move.target}`));
    list.append(item);
  }
  const number = moves.length === 1 ? "1 topic" : `${count(moves.length)} topics`;
  ask({
    title,
    text: `${number} would move. No tick is missed: the old line lets go when the new one has it.`,
    body: list,
    button: `Move ${number}`,
    act: async () => {
      const made = await post("/api/websocket/rebalance", { dry_run: false });
      return `${count(made.moves.length)} topics are moving`;
    },
  });
}

const LINE_ACTIONS = {
  restart: { verb: "Restart", text: "Its line is closed and dialled again; topics that nobody else carries miss what the vendor sends meanwhile.", done: "is being restarted" },
  pause: { verb: "Pause", text: "Others take over what it carries, then it is closed until somebody resumes it.", done: "is being paused" },
  resume: { verb: "Resume", text: "It dials again and takes its topics back.", done: "dials again" },
};

export function changeLine(action, name) {
  const { verb, text, done } = LINE_ACTIONS[action];
  ask({
    title: `${verb} ${name}`,
    text,
    button: verb,
    act: async () => {
      await post(`/api/connections/${encodeURIComponent(name)}/${action}`);
      return `${name} ${done}`;
    },
  });
}

/** Fill *list* with who carries a topic, since when and why. */
async function explain(topic, list) {
  const answer = await fetch(`/api/topics/${encodeURIComponent(topic)}`).then((one) => one.json()).catch(() => []);
  const one = Array.isArray(answer) ? answer.find((found) => found.topic === topic) : null;
  if (!one) return;
  const words = Object.entries(one.carried_by).map(([line, since]) =>
    `carried by ${line}, ${since ? `confirmed since ${clock(since / 1e6, false)}` : "not yet confirmed"}`);
  words.push(one.pinned_to ? `pinned to ${one.pinned_to}` : `${one.strategy} put it on ${one.home.join(", ") || "no line"}`);
  if (one.trouble) words.push(one.trouble);
  for (const moved of one.moves.slice(-3)) {
    words.push(`${clock(moved.at_ns / 1e6, false)} ${moved.source.join(", ") || "nobody"} → ${moved.target.join(", ") || "nobody"}: ${moved.why}`);
  }
  list.replaceChildren(...words.map((text) => make("li", "", text)));
}

/** Move a topic, or all topics of its symbol, to another line of its market. */
export function move(row, configured) {
  const { market, symbol } = parts(row.topic);
  const targets = configured.connections.filter((one) => one.is_enabled && one.market === market);
  const select = make("select");
  select.setAttribute("aria-label", "Connection");
  for (const one of targets) select.append(new Option(one.name, one.name));
  const other = targets.find((one) => !row.carriers.includes(one.name));
  if (other) select.value = other.name;
  const why = make("ul", "facts-list");
  const form = make("div");
  form.append(why, select);
  explain(row.topic, why);
  ask({
    title: row.topic,
    text: `Move ${symbol}: all its topics are pinned to the connection chosen here. No tick is missed on the way.`,
    body: form,
    button: "Move",
    act: async () => {
      const answer = await post("/api/move", { what: symbol, connection: select.value });
      const unplaced = Object.entries(answer.unplaced);
      if (unplaced.length) throw new Error(unplaced.map(([topic, why]) => `${topic}: ${why}`).join("; "));
      return `${symbol} is moving to ${select.value}`;
    },
  });
}

// What changes something: asked for in a dialog first, then sent, then told.

import { byId, make, say } from "./dom.js";
import { count, parts } from "./format.js";

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

/** Move a topic, or all topics of its symbol, to another line of its market. */
export function move(row, configured) {
  const { market, symbol } = parts(row.topic);
  const targets = configured.connections.filter((one) => one.is_enabled && one.market === market);
  const select = make("select");
  select.setAttribute("aria-label", "Connection");
  for (const one of targets) select.append(new Option(one.name, one.name));
  const other = targets.find((one) => !row.carriers.includes(one.name));
  if (other) select.value = other.name;
  ask({
    title: `Move ${symbol}`,
    text: `All topics of ${symbol} are pinned to this connection. No tick is missed on the way.`,
    body: select,
    button: "Move",
    act: async () => {
      const answer = await post("/api/move", { what: symbol, connection: select.value });
      const unplaced = Object.entries(answer.unplaced);
      if (unplaced.length) throw new Error(unplaced.map(([topic, why]) => `${topic}: ${why}`).join("; "));
      return `${symbol} is moving to ${select.value}`;
    },
  });
}

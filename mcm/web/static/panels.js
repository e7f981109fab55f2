// The panels beside the table: the ledger with its equation, gaps, processes.

import { byId, make } from "./dom.js";
import { bytes, clock, count, percent } from "./format.js";

export function drawLedger(ledger, status) {
  const { router } = ledger;
  const { balance } = router;
  const equation = make("div", "equation");
  const terms = [["received", router.received, "="], ["published", router.published, "+"],
    ["duplicates", router.duplicates, "+"], ["held", router.held, ""]];
  for (const [words, number, sign] of terms) {
    const term = make("div");
    term.append(make("b", "", count(number)), make("span", "dim", words));
    equation.append(term);
    if (sign) equation.append(make("div", "sign", sign));
  }
  const isGood = balance === 0 && router.lost_batches === 0;
  const lost = router.lost_batches ? ` ${count(router.lost_batches)} batches are in no file.` : "";
  const verdict = balance === 0 ? "Every tick is accounted for." : `${count(balance)} ticks are unaccounted for.`;
  const grid = make("div", "grid four");
  head(grid, ["line", "read", "rejected", "by channel"]);
  for (const [name, line] of Object.entries(ledger.connections)) {
    const found = Object.entries(status.connections[name].channels);
    const channels = found.map(([channel, number]) => `${channel} ${count(number)}`).join(", ");
    cells(grid, [name, count(line.appended), count(line.rejected), channels || "–"]);
  }
  byId("ledger").replaceChildren(
    make("p", "dim", "ticks at the router, since the journal began"), equation,
    make("p", isGood ? "verdict" : "verdict alarm", verdict + lost), grid);
}

export function drawGaps(gaps) {
  const list = make("ol", "records");
  for (const gap of gaps.open) {
    const item = record(gap.since_ns, `${topics(gap)} of ${gap.connection}: ${gap.detail}`);
    item.prepend(make("b", "open", "open "));
    list.append(item);
  }
  const recent = gaps.recent.filter((one) => one.ev !== "gap_opened").slice(-30).reverse();
  for (const one of recent) {
    const seconds = ((one.until_ns - one.since_ns) / 1e9).toFixed(1);
    const words = one.ev === "gap_closed"
      ? `closed after ${seconds} s: ${topics(one)}; ${one.detail}, ${one.connection}`
      : `${topics(one)}: ${count(one.published ?? 0)} published of ${count(one.fetched ?? 0)} fetched, ${one.detail}`;
    list.append(record(one.until_ns, words));
  }
  const none = make("p", "dim", "No gap is open, and none was closed since mcm started.");
  byId("gaps").replaceChildren(list.children.length ? list : none);
}

export function drawProcesses(processes) {
  const grid = make("div", "grid five");
  head(grid, ["process", "state", "CPU", "memory", "restarts"]);
  for (const one of processes) {
    cells(grid, [one.name, one.state, percent(one.cpu), bytes(one.resident_bytes), count(one.restarts)]);
  }
  byId("processes").replaceChildren(grid);
}

function topics(one) {
  const more = one.count > one.topics.length ? ` and ${count(one.count - one.topics.length)} more` : "";
  return one.topics.join(", ") + more;
}

function record(atNs, words) {
  const item = make("li");
  item.append(make("span", "time", clock(atNs / 1e6, false)), make("span", "", words));
  return item;
}

function head(grid, words) {
  words.forEach((word, index) => grid.append(make("div", index ? "title number" : "title", word)));
}

function cells(grid, words) {
  words.forEach((word, index) => grid.append(make("div", index ? "number" : "", word)));
}

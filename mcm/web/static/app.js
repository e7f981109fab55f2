// The page: one stream of pictures of mcm, and what people do with it.

import { changeLine, move, rebalance } from "./actions.js";
import { byId, mark, say } from "./dom.js";
import { count, duration, rate } from "./format.js";
import { Lines } from "./lines.js";
import { drawGaps, drawLedger, drawProcesses } from "./panels.js";
import { Table } from "./table.js";
import { Tape } from "./tape.js";

const SILENT_MS = 3_000;
const LEDGER_MS = 1_000;

const tape = new Tape();
const lines = new Lines(tape, (action, name) => changeLine(action, name));
const table = new Table(lines, (row) => move(row, configured));
let configured = { connections: [] };
let heardAt = performance.now();
let ledgerAt = 0;
let isPartial = false;

function standing(state, reason) {
  say(byId("state"), state);
  mark(byId("state"), "state", state);
  say(byId("reason"), reason);
  byId("reason").title = reason;
  document.title = state === "ready" ? "mcm" : `${state} · mcm`;
}

function draw(picture) {
  heardAt = performance.now();
  if (picture.problem) {
    standing("offline", picture.problem);
    return;
  }
  if (picture.configured) {
    ({ configured } = picture);
    lines.configure(configured);
  }
  if (picture.history) lines.remember(picture.history);
  else if (picture.point) lines.addPoint(picture.point);
  if (picture.gaps) drawGaps(picture.gaps);
  if (picture.processes) drawProcesses(picture.processes);
  ({ is_partial: isPartial } = picture);
  tape.take(picture.tape);
  const { status } = picture;
  standing(status.state, status.reason);
  drawTotals(status);
  lines.draw(picture);
  tellTape();
  if (heardAt - ledgerAt > LEDGER_MS) {
    ledgerAt = heardAt;
    drawLedger(picture.ledger, status);
  }
}

function drawTotals(status) {
  const all = Object.values(status.connections);
  say(byId("total-rate"), rate(all.reduce((sum, line) => sum + line.ticks_per_s, 0)));
  say(byId("total-topics"), count(all.reduce((sum, line) => sum + line.confirmed, 0)));
  say(byId("total-gaps"), count(status.gaps));
  byId("total-gaps").classList.toggle("alarm", status.gaps > 0);
  say(byId("uptime"), duration(status.uptime_s));
}

function tellTape() {
  const words = tape.isPaused ? `paused; ${count(tape.missed)} ticks passed` : isPartial ? "a part of the ticks" : "";
  say(byId("tape-note"), words);
}

function listen() {
  const stream = new EventSource("/api/stream");
  const take = (event) => draw(JSON.parse(event.data));
  stream.addEventListener("whole", take);
  stream.addEventListener("news", take);
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) {
      // The server has refused: a browser does not try again by itself then.
      stream.close();
      setTimeout(listen, 2_000);
    }
  });
}

byId("rebalance").addEventListener("click", () => rebalance());
byId("tape-pause").addEventListener("click", (event) => {
  tape.pause(!tape.isPaused);
  event.target.setAttribute("aria-pressed", String(tape.isPaused));
  say(event.target, tape.isPaused ? "Resume tape" : "Pause tape");
  tellTape();
});
byId("tape-filter").addEventListener("input", (event) => {
  tape.filter = event.target.value.trim().toUpperCase();
  lines.drawTape();
});
setInterval(() => {
  table.draw(); // ages go on
  const silent = performance.now() - heardAt;
  if (silent > SILENT_MS) standing("offline", `nothing heard from the dashboard for ${duration(silent / 1e3)}; trying again`);
}, 500);
listen();
table.follow();

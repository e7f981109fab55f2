// One column per configured connection, also for those that do not run.

import { histogram, spark } from "./charts.js";
import { byId, mark, say } from "./dom.js";
import { NONE, count, rate, span } from "./format.js";

const COLOURS = 8;
const SYMBOLS_SHOWN = 40;

export class Lines {
  constructor(tape, onAction) {
    this.tape = tape;
    this.onAction = onAction;
    this.columns = new Map();
    this.colours = new Map();
    this.history = new Map();
    this.length = 300;
    this.symbols = new Map();
  }

  colourOf(name) {
    return this.colours.get(name) ?? "line-none";
  }

  /** Other connections, or others in another order. */
  configure(configured) {
    const root = byId("lines");
    configured.connections.forEach((one, index) => {
      this.colours.set(one.name, `line-${index % COLOURS}`);
      let column = this.columns.get(one.name);
      if (!column) {
        column = new Column(one.name, this.onAction);
        this.columns.set(one.name, column);
      }
      column.configure(one, this.colours.get(one.name));
      if (root.children[index] !== column.element) root.insertBefore(column.element, root.children[index] ?? null);
    });
    const present = new Set(configured.connections.map((one) => one.name));
    for (const [name, column] of this.columns) {
      if (!present.has(name)) {
        column.element.remove();
        this.columns.delete(name);
      }
    }
  }

  remember(history) {
    this.length = history.length;
    this.history = new Map(Object.entries(history.lines));
    for (const [name, column] of this.columns) column.drawSpark(this.history.get(name) ?? [], this.length);
  }

  addPoint(point) {
    for (const [name, column] of this.columns) {
      const points = this.history.get(name) ?? [];
      points.push(point.rates[name] ?? null);
      if (points.length > this.length) points.shift();
      this.history.set(name, points);
      column.drawSpark(points, this.length);
    }
  }

  draw(picture) {
    for (const [name, column] of this.columns) {
      column.draw(picture.status.connections[name], picture.status.account, picture.latency[name]);
      this.tape.draw(name, column.tape);
    }
  }

  drawTape() {
    for (const [name, column] of this.columns) this.tape.draw(name, column.tape);
  }

  /** What each line carries, from the table of topics: line → {symbols, lists}. */
  carry(carried) {
    for (const [name, column] of this.columns) column.carry(carried.get(name));
  }
}

class Column {
  constructor(name, onAction) {
    this.name = name;
    this.element = byId("line-template").content.firstElementChild.cloneNode(true);
    this.element.dataset.line = name;
    this.fields = {};
    for (const one of this.element.querySelectorAll("[data-field]")) this.fields[one.dataset.field] = one;
    this.charts = {};
    for (const one of this.element.querySelectorAll("[data-chart]")) this.charts[one.dataset.chart] = one;
    this.buttons = {};
    for (const one of this.element.querySelectorAll("[data-action]")) {
      this.buttons[one.dataset.action] = one;
      one.addEventListener("click", () => onAction(one.dataset.action, name));
    }
    this.tape = this.fields.tape;
    say(this.fields.name, name);
  }

  configure(configured, colour) {
    this.configured = configured;
    this.element.className = `line ${colour}`;
    this.element.setAttribute("aria-label", `Connection ${this.name}`);
    say(this.fields.market, configured.market);
    this.carry(undefined);
  }

  draw(status, accounts, latency) {
    const { fields } = this;
    this.element.classList.toggle("is-off", !status);
    for (const button of Object.values(this.buttons)) button.hidden = !status;
    if (!status) {
      say(fields.state, this.configured.is_enabled ? "starting" : "disabled");
      mark(fields.state, "state", "disabled");
      say(fields.why, this.configured.note);
      return;
    }
    say(fields.state, status.state);
    mark(fields.state, "state", status.state);
    say(fields.why, [status.reason, status.note].filter(Boolean).join("; "));
    say(fields.rate, rate(status.ticks_per_s));
    const all = status.confirmed === status.wanted;
    say(fields.topics, all ? count(status.wanted) : `${count(status.confirmed)} of ${count(status.wanted)}`);
    fields.topics.title = status.unconfirmed.length ? `unconfirmed: ${status.unconfirmed.join(", ")}` : "";
    say(fields.age, status.last_tick_age_s == null ? NONE : span(status.last_tick_age_s));
    const account = accounts[status.market];
    say(fields.account, account ? `${account.running} up of ${account.allowed}` : NONE);
    fields.account.title = account ? `the account allows ${account.allowed}; ${account.configured} run or try` : "";
    say(fields.reconnects, count(status.reconnects));
    say(fields.restarts, count(status.restarts));
    const reasons = Object.entries(status.errors);
    say(fields.errors, count(reasons.reduce((sum, [, number]) => sum + number, 0)));
    fields.errors.title = reasons.map(([reason, number]) => `${number} × ${reason}`).join("\n");
    this.drawHop("inside", latency?.inside);
    this.drawHop("vendor", latency?.vendor);
    const isPaused = status.state === "paused";
    mark(this.buttons.pause, "action", isPaused ? "resume" : "pause");
    say(this.buttons.pause, isPaused ? "Resume…" : "Pause…");
  }

  drawHop(hop, measured) {
    say(this.fields[`${hop}-p50`], span(measured?.p50_s));
    say(this.fields[`${hop}-p99`], span(measured?.p99_s));
    if (measured) {
      const words = `${hop === "inside" ? "Latency inside mcm" : "Vendor lag"}: half within ${span(measured.p50_s)}`;
      histogram(this.charts[hop], measured.counts, words);
    }
  }

  drawSpark(points, length) {
    spark(this.charts.spark, points, length);
  }

  carry(carried) {
    const lists = [...new Set([...this.configured.watchlists, ...(carried?.lists ?? [])])];
    say(this.fields.lists, lists.length ? lists.join(", ") : NONE);
    const symbols = carried ? [...carried.symbols] : [];
    const more = symbols.length > SYMBOLS_SHOWN ? ` … ${count(symbols.length - SYMBOLS_SHOWN)} more` : "";
    const words = symbols.length ? `${count(symbols.length)}: ${symbols.slice(0, SYMBOLS_SHOWN).join(", ")}${more}` : NONE;
    say(this.fields.symbols, words);
    this.fields.symbols.parentElement.title = words;
  }
}

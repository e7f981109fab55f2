// Every wanted topic in a table of which only the visible rows exist: thirty thousand cost no more than thirty.

import { byId, make, say } from "./dom.js";
import { NONE, clock, count, parts, rate, span } from "./format.js";

const SPARE = 6;
const FEW = 5_000;
const EVERY_MS = { few: 2_000, many: 5_000 };

// key: of the row; words: the head; kind: how it looks and sorts.
const COLUMNS = [
  { key: "symbol", words: "Topic" },
  { key: "lines", words: "Line" },
  { key: "copies", words: "Copies", isNumber: true },
  { key: "rate", words: "Ticks/s", isNumber: true },
  { key: "age", words: "Age", isNumber: true },
  { key: "watchlist", words: "Watchlist", isWide: true },
  { key: "gaps", words: "Gaps", isWide: true },
  { key: "", words: "", isWide: true },
];

export class Table {
  constructor(lines, onMove) {
    this.lines = lines;
    this.onMove = onMove;
    this.rows = [];
    this.shown = [];
    this.words = "";
    this.sort = { key: "symbol", isDown: false };
    this.takenAt = 0;
    this.pool = [];
    this.body = byId("table");
    this.spacer = byId("table-spacer");
    this.drawHead();
    this.body.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.body);
    byId("topics-search").addEventListener("input", (event) => {
      this.words = event.target.value.trim().toUpperCase();
      this.body.scrollTop = 0;
      this.arrange();
    });
  }

  drawHead() {
    const head = byId("table-head");
    for (const column of COLUMNS) {
      const cell = make("div", [column.isNumber && "number", column.isWide && "wide-only"].filter(Boolean).join(" "));
      cell.setAttribute("role", "columnheader");
      if (column.key) {
        const button = make("button", "", column.words);
        button.type = "button";
        button.addEventListener("click", () => this.sortBy(column));
        cell.append(button);
        cell.setAttribute("aria-sort", column.key === this.sort.key ? "ascending" : "none");
      } else {
        cell.append(make("span", "hidden", "Move"));
      }
      head.append(cell);
      column.head = cell;
    }
  }

  sortBy(column) {
    const isSame = this.sort.key === column.key;
    this.sort = { key: column.key, isDown: isSame ? !this.sort.isDown : Boolean(column.isNumber) };
    for (const one of COLUMNS) {
      if (!one.key) continue;
      const isIt = one.key === column.key;
      one.head.setAttribute("aria-sort", isIt ? (this.sort.isDown ? "descending" : "ascending") : "none");
    }
    this.arrange();
  }

  /** Ask for the rows again and again, while somebody can see the page. */
  async follow() {
    for (;;) {
      const began = performance.now();
      if (!document.hidden) await this.fetch().catch(() => {});
      const every = this.rows.length > FEW ? EVERY_MS.many : EVERY_MS.few;
      await new Promise((resume) => setTimeout(resume, Math.max(250, every - (performance.now() - began))));
    }
  }

  async fetch() {
    const answer = await fetch("/api/topics");
    if (!answer.ok) return;
    const table = await answer.json();
    this.isSampled = table.is_sampled;
    this.takenAt = performance.now();
    this.rows = table.rows.map(([topic, lines, copies, ticks, watchlist, age, gapSince, gaps]) => {
      const { market, channel, symbol } = parts(topic);
      const names = lines.join(", ");
      return { topic, market, channel, symbol, lines: names, carriers: lines, copies, rate: ticks, age, watchlist,
        gapSince, gaps, text: `${topic} ${names} ${watchlist}`.toUpperCase() };
    });
    this.arrange();
    this.lines.carry(this.carried());
  }

  carried() {
    const found = new Map();
    for (const row of this.rows) {
      for (const name of row.carriers) {
        if (!found.has(name)) found.set(name, { symbols: new Set(), lists: new Set() });
        found.get(name).symbols.add(row.symbol);
        if (row.watchlist) found.get(name).lists.add(row.watchlist);
      }
    }
    return found;
  }

  /** Filter and sort anew. */
  arrange() {
    const { key, isDown } = this.sort;
    const found = this.words ? this.rows.filter((row) => row.text.includes(this.words)) : [...this.rows];
    const valueOf = key === "gaps" ? (row) => row.gaps + (row.gapSince ? 1e6 : 0) : (row) => row[key];
    const way = isDown ? -1 : 1;
    found.sort((left, right) => {
      const one = valueOf(left), two = valueOf(right);
      if (one == null || two == null) return (one == null) - (two == null); // unknown last, either way
      if (one < two) return -way;
      if (one > two) return way;
      return left.topic < right.topic ? -1 : 1;
    });
    this.shown = found;
    const words = this.words ? `${count(found.length)} of ${count(this.rows.length)}` : count(this.rows.length);
    say(byId("topics-count"), this.isSampled ? `${words}, ages from a part of the stream` : words);
    byId("table").setAttribute("aria-rowcount", String(found.length + 1));
    this.draw();
  }

  draw() {
    const height = this.pool[0]?.element.offsetHeight || 30;
    this.spacer.style.height = `${this.shown.length * height}px`;
    const first = Math.max(0, Math.floor(this.body.scrollTop / height) - SPARE);
    const needed = Math.ceil(this.body.clientHeight / height) + 2 * SPARE;
    while (this.pool.length < needed) {
      const row = new Row(this);
      this.pool.push(row);
      this.spacer.append(row.element);
    }
    const elapsed = (performance.now() - this.takenAt) / 1e3;
    this.pool.forEach((row, index) => row.draw(this.shown[first + index], first + index, height, elapsed));
  }
}

class Row {
  constructor(table) {
    this.table = table;
    this.element = make("div", "row");
    this.element.setAttribute("role", "row");
    this.cells = COLUMNS.map((column) => {
      const cell = make("div", [column.isNumber && "number", column.isWide && "wide-only"].filter(Boolean).join(" "));
      cell.setAttribute("role", "cell");
      this.element.append(cell);
      return cell;
    });
    this.symbol = make("button", "small symbol");
    this.symbol.type = "button";
    this.symbol.addEventListener("click", () => this.table.onMove(this.row));
    this.channel = make("span", "dim");
    this.cells[0].append(this.symbol, this.channel);
    this.move = make("button", "small", "Move…");
    this.move.type = "button";
    this.move.addEventListener("click", () => this.table.onMove(this.row));
    this.cells[7].append(this.move);
  }

  draw(row, index, height, elapsed) {
    this.element.hidden = !row;
    this.element.style.display = row ? "" : "none";
    if (!row) return;
    this.row = row;
    this.element.style.transform = `translateY(${index * height}px)`;
    this.element.setAttribute("aria-rowindex", String(index + 2));
    const [topic, lines, copies, ticks, age, watchlist, gaps] = this.cells;
    say(this.symbol, row.symbol);
    say(this.channel, ` ${row.channel}${row.market === "stocks" ? "" : ` ${row.market}`}`);
    topic.title = row.topic;
    this.drawCarriers(lines, row);
    say(copies, `${row.carriers.length}/${row.copies}`);
    copies.classList.toggle("short", row.carriers.length < row.copies);
    say(ticks, rate(row.rate));
    say(age, row.age == null ? NONE : span(row.age + elapsed));
    say(watchlist, row.watchlist || NONE);
    watchlist.title = row.watchlist;
    say(gaps, row.gapSince ? `open ${clock(row.gapSince / 1e6, false)}` : row.gaps ? count(row.gaps) : NONE);
    gaps.classList.toggle("open", Boolean(row.gapSince));
    this.move.setAttribute("aria-label", `Move ${row.topic}`);
  }

  drawCarriers(cell, row) {
    const looks = row.carriers.map((name) => `${name} ${this.table.lines.colourOf(name)}`).join();
    if (this.looks === looks) return;
    this.looks = looks;
    cell.replaceChildren(...row.carriers.map((name) => {
      const carrier = make("span", `carrier ${this.table.lines.colourOf(name)}`);
      carrier.append(make("span", "dot"), make("span", "", name));
      return carrier;
    }));
    if (!row.carriers.length) say(cell, "nobody");
  }
}

// The newest ticks of every line: a bounded memory of each, of which a few rows are shown.

import { make, say } from "./dom.js";
import { clock, parts } from "./format.js";

const KEPT = 300; // of a line, so that a filter finds something at once
const SHOWN = 12;

export class Tape {
  constructor() {
    this.rows = new Map();
    this.isPaused = false;
    this.filter = "";
    this.missed = 0;
  }

  /** Take rows as the stream brings them: [at_ms, connection, topic, text], oldest first. */
  take(rows) {
    if (this.isPaused) {
      this.missed += rows.length;
      return;
    }
    for (const row of rows) {
      const kept = this.rows.get(row[1]) ?? [];
      kept.push(row);
      if (kept.length > 2 * KEPT) kept.splice(0, kept.length - KEPT);
      this.rows.set(row[1], kept);
    }
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    this.missed = 0;
  }

  /** The newest rows of a line that the filter lets through, newest first. */
  newest(name) {
    const kept = this.rows.get(name) ?? [];
    const found = [];
    for (let index = kept.length - 1; index >= 0 && found.length < SHOWN; index -= 1) {
      if (!this.filter || parts(kept[index][2]).symbol.toUpperCase().includes(this.filter)) found.push(kept[index]);
    }
    return found;
  }

  /** Show them in *list*, whose elements are kept. */
  draw(name, list) {
    const found = this.newest(name);
    while (list.children.length < SHOWN) list.append(emptyRow());
    [...list.children].forEach((item, index) => {
      const row = found[index];
      const isNote = index === 0 && !row;
      item.classList.toggle("none", isNote);
      const [time, symbol, text] = item.children;
      const topic = row ? parts(row[2]) : { symbol: "", channel: "" };
      const [hours, fine] = row ? clock(row[0]).split(".") : ["", ""];
      say(time.firstChild, row ? hours : isNote ? (this.filter ? `nothing of ${this.filter} yet` : "no ticks yet") : "");
      say(time.lastChild, row ? `.${fine}` : "");
      say(symbol.firstChild, topic.symbol);
      say(symbol.lastChild, row ? ` ${topic.channel}` : "");
      say(text, row ? short(row[3]) : "");
      item.title = row ? `${row[2]}  ${row[3]}` : "";
    });
  }
}

/** A quote is "bid 1.02 × 300   ask 1.04 × 200" in full. */
function short(text) {
  return text.startsWith("bid ") ? text.slice(4).replace(/ {2,}ask /, " / ").replaceAll(" × ", "×") : text;
}

function emptyRow() {
  const item = make("li");
  const time = make("span", "dim");
  time.append(make("span"), make("span", "fine"));
  const symbol = make("span", "symbol");
  symbol.append(make("span"), make("span", "channel"));
  item.append(time, symbol, make("span", "text"));
  return item;
}

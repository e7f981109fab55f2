// Numbers and times as people read them; nothing here touches the page.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en-US", { maximumFractionDigits: 1, minimumFractionDigits: 1 });

export const NONE = "–";

export function count(value) {
  return value == null ? NONE : whole.format(value);
}

export function rate(value) {
  if (value == null) return NONE;
  return value < 10 && value > 0 ? one.format(value) : whole.format(value);
}

/** A span of seconds with its unit, in about three digits. */
export function span(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.01) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  return duration(seconds);
}

/** Seconds as the two largest units. */
export function duration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const parts = [];
  let rest = Math.max(0, Math.floor(seconds));
  for (const [size, name] of units) {
    const number = Math.floor(rest / size);
    rest -= number * size;
    if (number || (parts.length && parts.length < 2)) parts.push(`${number} ${name}`);
    if (parts.length === 2) break;
  }
  return parts.filter((part) => !part.startsWith("0 ")).join(" ") || "0 s";
}

const pad = (value, length = 2) => String(value).padStart(length, "0");

/** Time of day in the zone of the browser, to the millisecond or the second. */
export function clock(milliseconds, withMilliseconds = true) {
  const at = new Date(milliseconds);
  const text = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  return withMilliseconds ? `${text}.${pad(at.getMilliseconds(), 3)}` : text;
}

export function bytes(value) {
  if (value == null) return NONE;
  return value < 1e9 ? `${whole.format(value / 1e6)} MB` : `${(value / 1e9).toFixed(1)} GB`;
}

export function percent(share) {
  return share == null ? NONE : `${(share * 100).toFixed(1)} %`;
}

/** "stocks.T.BRK.B" as its three parts; symbols may hold dots. */
export function parts(topic) {
  const first = topic.indexOf(".");
  const second = topic.indexOf(".", first + 1);
  return { market: topic.slice(0, first), channel: topic.slice(first + 1, second), symbol: topic.slice(second + 1) };
}

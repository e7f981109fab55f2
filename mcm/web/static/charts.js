// Two small charts in SVG: a line over ten minutes, and a histogram of latencies.

import { makeSvg } from "./dom.js";
import { rate } from "./format.js";

const WIDTH = 300, HEIGHT = 40, BAR = 5, BARS_HEIGHT = 20;
// The upper ends of the buckets, in seconds; as mcm.core.latency has them.
export const BOUNDS = [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60, 1000];

/** Draw points (oldest first, null for none) so that the newest is at the right edge of *length* of them. */
export function spark(svg, points, length) {
  if (!svg.firstChild) {
    svg.append(
      makeSvg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
      makeSvg("path", { class: "area" }),
      makeSvg("path", { class: "stroke" }),
    );
  }
  const [, area, stroke] = svg.children;
  const known = points.filter((value) => value !== null);
  const most = Math.max(1, ...known);
  const step = WIDTH / (length - 1);
  const offset = length - points.length;
  let line = "", filled = "", start = null, last = null;
  const end = () => {
    if (start !== null) filled += `L${last},${HEIGHT}L${start},${HEIGHT}Z`;
    start = null;
  };
  points.forEach((value, index) => {
    if (value === null) return end();
    const x = ((offset + index) * step).toFixed(1);
    const y = (HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1);
    const letter = start === null ? "M" : "L";
    if (start === null) start = x;
    last = x;
    line += `${letter}${x},${y}`;
    filled += `${letter}${x},${y}`;
  });
  end();
  area.setAttribute("d", filled);
  stroke.setAttribute("d", line);
  svg.setAttribute("aria-label", known.length
    ? `Ticks per second over ten minutes: ${rate(Math.min(...known))} to ${rate(most)}, now ${rate(known.at(-1))}`
    : "No ticks per second measured yet");
}

/** Draw counts by bucket, the fullest one as high as there is room. */
export function histogram(svg, counts, words) {
  if (!svg.firstChild) {
    svg.append(makeSvg("rect", { class: "base", x: 0, y: BARS_HEIGHT - 1, width: BAR * (BOUNDS.length + 1), height: 1 }));
    for (let index = 0; index <= BOUNDS.length; index += 1) {
      svg.append(makeSvg("rect", { x: index * BAR, width: BAR - 1, y: BARS_HEIGHT, height: 0 }));
    }
  }
  const most = Math.max(1, ...counts);
  counts.forEach((value, index) => {
    const bar = svg.children[index + 1];
    const height = value ? Math.max(2, (value / most) * BARS_HEIGHT) : 0;
    bar.setAttribute("height", height.toFixed(1));
    bar.setAttribute("y", (BARS_HEIGHT - height).toFixed(1));
  });
  svg.setAttribute("aria-label", words);
}

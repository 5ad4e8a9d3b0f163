// Seconds by number of ports, as an SVG: both axes logarithmic, one line a tool, its name at the line's end. Pure.

import { type Series, spellSeconds } from "./benchmarks.ts";

const WIDTH = 830;
const HEIGHT = 440;
const PLOT = { left: 70, right: 600, top: 50, bottom: 385 };
/** Distinct also without colour: the names are at the lines. */
const COLOURS = ["#0b6e4f", "#1f5fbf", "#b3541e", "#7a3e9d", "#555555"];
/** The least distance of two names, in pixels. */
const LINE_HEIGHT = 17;

export function plot(series: readonly Series[], title: string): string {
  const points = series.flatMap((one) => one.points);
  const x = axis(
    points.map(([ports]) => ports),
    PLOT.left,
    PLOT.right,
  );
  const y = axis(
    points.map(([, seconds]) => seconds),
    PLOT.bottom,
    PLOT.top,
  );
  const names = spread(series.map(({ points }) => y.place(points.at(-1)?.[1] ?? 1)));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif" font-size="13">`,
    `<title>${title}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
    text(PLOT.left, 28, title, 'font-size="15" font-weight="bold"'),
    ...x.ticks.flatMap((ports) => [
      line([x.place(ports), PLOT.top], [x.place(ports), PLOT.bottom], 'stroke="#e3e3e3"'),
      text(x.place(ports), PLOT.bottom + 20, `${ports}`, 'text-anchor="middle"'),
    ]),
    ...y.ticks.flatMap((seconds) => [
      line([PLOT.left, y.place(seconds)], [PLOT.right, y.place(seconds)], 'stroke="#e3e3e3"'),
      text(
        PLOT.left - 8,
        y.place(seconds) + 4,
        seconds < 1 ? `${seconds * 1000} ms` : `${seconds} s`,
        'text-anchor="end"',
      ),
    ]),
    text((PLOT.left + PLOT.right) / 2, PLOT.bottom + 44, "ports that one container publishes", 'text-anchor="middle"'),
    ...series.flatMap(({ name, points }, index) => {
      const colour = COLOURS[index % COLOURS.length] ?? "";
      const places = points.map(([ports, seconds]): Place => [x.place(ports), y.place(seconds)]);
      const last = points.at(-1);
      const label = last === undefined ? name : `${name}: ${spellSeconds(last[1])}`;
      return [
        `<polyline points="${places.map((place) => place.map(rounded).join(",")).join(" ")}" fill="none" stroke="${colour}" stroke-width="2.5"/>`,
        ...places.map(([cx, cy]) => `<circle cx="${rounded(cx)}" cy="${rounded(cy)}" r="3.5" fill="${colour}"/>`),
        text((places.at(-1)?.[0] ?? 0) + 10, (names[index] ?? 0) + 4, label, `fill="${colour}"`),
      ];
    }),
    "</svg>",
    "",
  ].join("\n");
}

type Place = [x: number, y: number];

/** A logarithmic axis from one power of ten to another, and its powers of ten. */
function axis(values: readonly number[], from: number, to: number) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))));
  const place = (value: number) => from + ((Math.log10(value) - low) / (high - low)) * (to - from);
  return { place, ticks: Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index)) };
}

/** The same heights, none nearer to another than a line of text. */
function spread(heights: readonly number[]): number[] {
  const moved = [...heights];
  const order = heights.map((_, index) => index).sort((a, b) => (heights[a] ?? 0) - (heights[b] ?? 0));
  for (const [at, index] of order.entries()) {
    const above = moved[order[at - 1] ?? -1];
    if (above !== undefined) moved[index] = Math.max(moved[index] ?? 0, above + LINE_HEIGHT);
  }
  return moved;
}

function text(x: number, y: number, words: string, more: string): string {
  return `<text x="${rounded(x)}" y="${rounded(y)}" ${more}>${words}</text>`;
}

function line([x1, y1]: Place, [x2, y2]: Place, more: string): string {
  return `<line x1="${rounded(x1)}" y1="${rounded(y1)}" x2="${rounded(x2)}" y2="${rounded(y2)}" ${more}/>`;
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}

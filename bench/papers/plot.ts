/** Small SVG charts: grouped bars and lines, in a palette that colour-blind people tell apart (Okabe and Ito). */
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#d55e00', '#56b4e9', '#999999'];
const WIDTH = 760;
const HEIGHT = 360;
const LEFT = 64;
const BOTTOM = 60;
const TOP = 56;
const RIGHT = 16;

export interface Series {
  name: string;
  values: (number | null)[];
}

/** Groups of bars, one bar per series. */
export function bars(title: string, unit: string, groups: readonly string[], series: readonly Series[]): string {
  const highest = nice(Math.max(...series.flatMap((one) => one.values.map((value) => value ?? 0))));
  const y = (value: number): number => HEIGHT - BOTTOM - (value / highest) * (HEIGHT - BOTTOM - TOP);
  const slot = (WIDTH - LEFT - RIGHT) / groups.length;
  const width = (slot * 0.8) / series.length;
  let body = axes(title, unit, highest, y);
  groups.forEach((group, g) => {
    series.forEach((one, s) => {
      const value = one.values[g];
      if (value === null || value === undefined) return;
      const x = LEFT + slot * (g + 0.1) + width * s;
      body += `<rect x="${x.toFixed(1)}" y="${y(value).toFixed(1)}" width="${(width - 1).toFixed(1)}" height="${(HEIGHT - BOTTOM - y(value)).toFixed(1)}" fill="${COLOURS[s % COLOURS.length]}"><title>${one.name}, ${group}: ${value.toFixed(2)} ${unit}</title></rect>`;
    });
    body += text(LEFT + slot * (g + 0.5), HEIGHT - BOTTOM + 16, group, 'middle');
  });
  return frame(title, body + legend(series));
}

/** Lines over a numeric axis, drawn at equal steps. */
export function lines(title: string, unit: string, xs: readonly string[], series: readonly Series[]): string {
  const highest = nice(Math.max(...series.flatMap((one) => one.values.map((value) => value ?? 0))));
  const y = (value: number): number => HEIGHT - BOTTOM - (value / highest) * (HEIGHT - BOTTOM - TOP);
  const x = (i: number): number => LEFT + ((WIDTH - LEFT - RIGHT) * (i + 0.5)) / xs.length;
  let body = axes(title, unit, highest, y);
  series.forEach((one, s) => {
    const colour = COLOURS[s % COLOURS.length];
    const points = one.values.flatMap((value, i) => (value === null ? [] : [`${x(i).toFixed(1)},${y(value).toFixed(1)}`]));
    body += `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"${s % 2 === 1 ? ' stroke-dasharray="6 3"' : ''}/>`;
    one.values.forEach((value, i) => {
      if (value !== null)
        body += `<circle cx="${x(i).toFixed(1)}" cy="${y(value).toFixed(1)}" r="3" fill="${colour}"><title>${one.name}, ${xs[i]}: ${value.toFixed(2)} ${unit}</title></circle>`;
    });
  });
  xs.forEach((label, i) => (body += text(x(i), HEIGHT - BOTTOM + 16, label, 'middle')));
  return frame(title, body + legend(series));
}

function axes(title: string, unit: string, highest: number, y: (value: number) => number): string {
  let out = `<text x="${LEFT}" y="20" font-size="14" font-weight="bold">${title}</text>`;
  for (let i = 0; i <= 4; i++) {
    const value = (highest * i) / 4;
    out += `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}" stroke="#ddd"/>`;
    out += text(LEFT - 6, y(value) + 4, value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2), 'end');
  }
  return `${out}${text(LEFT, TOP - 8, unit, 'start')}`;
}

function legend(series: readonly Series[]): string {
  let x = LEFT;
  let out = '';
  series.forEach((one, s) => {
    out += `<rect x="${x}" y="${HEIGHT - 24}" width="12" height="12" fill="${COLOURS[s % COLOURS.length]}"/>${text(x + 16, HEIGHT - 14, one.name, 'start')}`;
    x += 28 + one.name.length * 6.6;
  });
  return out;
}

function text(x: number, y: number, value: string, anchor: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${value}</text>`;
}

function frame(title: string, body: string): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="11" role="img" aria-label="${title}"><rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>${body}</svg>\n`;
}

/** The next round number. */
function nice(value: number): number {
  if (value <= 0) return 1;
  const scale = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10]) if (step * scale >= value) return step * scale;
  return 10 * scale;
}

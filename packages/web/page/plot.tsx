/** A plot that keeps its size, follows the theme, and can be taken along as PNG, SVG or CSV. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { download } from './files.ts';

export interface Series {
  label: string;
  colour: string;
  /** One value for each time; null: nothing there. */
  values: (number | null)[];
  kind?: 'line' | 'area' | 'points' | 'crosses';
}

export interface PlotData {
  title: string;
  unit: string;
  /** Seconds. */
  times: number[];
  series: Series[];
  stacked?: boolean;
}

const HEIGHT = 190;

function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Sums from the last series up: the first band is the lowest. */
function stack(data: PlotData): (number | null)[][] {
  if (data.stacked !== true) return data.series.map((one) => one.values);
  const sums = data.times.map(() => 0);
  return data.series.map((one) => one.values.map((value, i) => (sums[i]! += value ?? 0)));
}

function columns(data: PlotData): uPlot.AlignedData {
  return [data.times, ...stack(data)] as uPlot.AlignedData;
}

function crosses(u: uPlot, index: number, colour: string): void {
  const { ctx } = u;
  const [times, values] = [u.data[0], u.data[index]!];
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  const size = 2.5 * devicePixelRatio;
  for (let i = 0; i < times.length; i++) {
    const value = values[i];
    if (value === null || value === undefined) continue;
    const x = u.valToPos(times[i]!, 'x', true);
    const y = u.valToPos(value, 'y', true);
    ctx.moveTo(x - size, y - size);
    ctx.lineTo(x + size, y + size);
    ctx.moveTo(x - size, y + size);
    ctx.lineTo(x + size, y - size);
  }
  ctx.stroke();
  ctx.restore();
}

function make(target: HTMLElement, data: PlotData): uPlot {
  const ink = css('--soft');
  const grid = { stroke: css('--line'), width: 1 };
  const axis = { stroke: ink, grid, ticks: { stroke: css('--line'), width: 1 }, font: '11px system-ui, sans-serif' };
  const series: uPlot.Series[] = data.series.map((one, i): uPlot.Series => {
    const marks = one.kind === 'points' || one.kind === 'crosses';
    return {
      label: one.label,
      stroke: one.colour,
      width: marks ? 0 : 1.6,
      ...(one.kind === 'area' ? { fill: `${one.colour}55` } : {}),
      spanGaps: false,
      points: marks ? { show: one.kind === 'points', size: 4, fill: one.colour, width: 0 } : { show: false },
      ...(marks ? { paths: () => null } : {}),
      value: (_: uPlot, value: number | null) => {
        if (value === null || value === undefined) return '–';
        return `${value.toFixed(value < 10 ? 2 : 0)} ${data.unit}${data.stacked === true && i > 0 ? ' in all' : ''}`;
      },
    };
  });
  return new uPlot(
    {
      width: target.clientWidth,
      height: HEIGHT,
      scales: { x: { time: false }, y: { range: (_u, _low, high) => [0, Math.max(high * 1.08, 0.001)] } },
      axes: [
        { ...axis, values: (_u, all) => all.map((value) => `${value} s`) },
        { ...axis, size: 56 },
      ],
      series: [{ label: 'time', value: (_u: uPlot, value: number | null) => (value === null ? '–' : `${value.toFixed(2)} s`) }, ...series],
      legend: { live: true, markers: { width: 0, fill: (_u, i) => data.series[i - 1]?.colour ?? 'transparent' } },
      cursor: { drag: { x: true, y: false } },
      hooks: {
        draw: [
          (u) => {
            data.series.forEach((one, i) => {
              if (one.kind === 'crosses') crosses(u, i + 1, one.colour);
            });
          },
        ],
      },
      ...(data.stacked === true
        ? { bands: data.series.slice(1).map((one, i) => ({ series: [i + 2, i + 1] as [number, number], fill: `${one.colour}55` })) }
        : {}),
    },
    columns(data),
    target,
  );
}

export function Plot({ data, theme }: { data: PlotData; theme: string }) {
  const target = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shape = `${theme} ${data.series.map((one) => one.label + one.colour).join()}`;

  useEffect(() => {
    const own = make(target.current!, data);
    plot.current = own;
    const observer = new ResizeObserver(() => own.setSize({ width: target.current?.clientWidth ?? 300, height: HEIGHT }));
    observer.observe(target.current!);
    return () => {
      observer.disconnect();
      own.destroy();
    };
    // A new shape is a new plot; new numbers are not.
  }, [shape]);

  useEffect(() => {
    plot.current?.setData(columns(data));
  }, [data]);

  return (
    <figure class="plot">
      <figcaption>
        <span>
          {data.title} <small>{data.unit}</small>
        </span>
        <span class="take">
          <button
            type="button"
            aria-label={`${data.title} as PNG`}
            onClick={() => plot.current?.ctx.canvas.toBlob((blob) => blob !== null && download(`${data.title}.png`, blob))}
          >
            PNG
          </button>
          <button
            type="button"
            aria-label={`${data.title} as SVG`}
            onClick={() => download(`${data.title}.svg`, new Blob([svgOf(data)], { type: 'image/svg+xml' }))}
          >
            SVG
          </button>
          <button
            type="button"
            aria-label={`${data.title} as CSV`}
            onClick={() => download(`${data.title}.csv`, new Blob([csvOf(data)], { type: 'text/csv' }))}
          >
            CSV
          </button>
        </span>
      </figcaption>
      <div ref={target} role="img" aria-label={`${data.title}: ${data.series.map((one) => one.label).join(', ')}`} />
    </figure>
  );
}

export function csvOf(data: PlotData): string {
  const lines = [['seconds', ...data.series.map((one) => `${one.label} (${data.unit})`)].join(',')];
  data.times.forEach((time, i) => lines.push([time, ...data.series.map((one) => one.values[i] ?? '')].join(',')));
  return `${lines.join('\n')}\n`;
}

function svgOf(data: PlotData): string {
  const [width, height, left, bottom] = [720, 260, 60, 30];
  const all = stack(data);
  const end = Math.max(data.times.at(-1) ?? 1, 0.001);
  const top = Math.max(...all.flat().map((value) => value ?? 0), 0.001);
  const x = (time: number): string => (left + (time / end) * (width - left - 10)).toFixed(1);
  const y = (value: number): string => (height - bottom - (value / top) * (height - bottom - 30)).toFixed(1);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11"><rect width="${width}" height="${height}" fill="#fff"/>`,
  ];
  parts.push(`<text x="${left}" y="16" font-size="13">${data.title} (${data.unit})</text>`);
  for (let i = 0; i <= 4; i++)
    parts.push(
      `<text x="4" y="${y((top * i) / 4)}">${((top * i) / 4).toPrecision(3)}</text><text x="${x((end * i) / 4)}" y="${height - 8}">${((end * i) / 4).toFixed(1)} s</text>`,
    );
  data.series.forEach((one, k) => {
    const points = all[k]!.map((value, i) => (value === null ? null : `${x(data.times[i]!)},${y(value)}`)).filter((point) => point !== null);
    if (one.kind === 'points' || one.kind === 'crosses')
      parts.push(...points.map((point) => `<circle cx="${point.split(',')[0]}" cy="${point.split(',')[1]}" r="1.5" fill="${one.colour}"/>`));
    else parts.push(`<polyline fill="none" stroke="${one.colour}" stroke-width="1.5" points="${points.join(' ')}"/>`);
    parts.push(`<text x="${left + 130 * k}" y="30" fill="${one.colour}">${one.label}</text>`);
  });
  return `${parts.join('')}</svg>\n`;
}

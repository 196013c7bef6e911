/**
 * The report's pictures in a browser: canvas, zoom, hover, series on and off. Points are written straight into the
 * pixels: a million of them take some 10 ms, so that the wheel stays smooth.
 */

interface EncodedSeries {
  name: string;
  shape: 'segments' | 'points' | 'crosses' | 'line' | 'steps' | 'area' | 'bars';
  color: string;
  strong: boolean;
  loose: boolean;
  count: number;
  /** Name of the columns in the data block. */
  x: Column;
  y: Column;
  y2: Column | null;
  packet: Column | null;
}

/** Numbers as 32-bit integers: value = offset + scale * integer. */
interface Column {
  at: number;
  offset: number;
  scale: number;
}

interface EncodedPlot {
  id: string;
  short: string;
  title: string;
  yTitle: string;
  unit: string;
  xMin: number;
  xMax: number;
  yMin: number;
  yMax: number;
  rows: string[] | null;
  series: EncodedSeries[];
  marks: { x: number; label: string; color: string }[];
}

interface Decoded extends Omit<EncodedSeries, 'x' | 'y' | 'y2' | 'packet'> {
  x: Float64Array;
  y: Float64Array;
  y2: Float64Array | null;
  packet: Float64Array | null;
  rgba: number;
  on: boolean;
}

const LEFT = 84;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 34;
const HOVER_WITHIN = 14;

async function inflate(base64: string): Promise<ArrayBuffer> {
  const packed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).arrayBuffer();
}

function column(data: ArrayBuffer, one: Column, count: number): Float64Array {
  const whole = new Uint32Array(data, one.at * 4, count);
  const out = new Float64Array(count);
  for (let i = 0; i < count; i++) out[i] = one.offset + one.scale * whole[i]!;
  return out;
}

function rgbaOf(color: string, alpha: number): number {
  const value = Number.parseInt(color.slice(1, 7), 16);
  return ((alpha << 24) | ((value & 0xff) << 16) | (value & 0xff00) | (value >>> 16)) >>> 0;
}

class Chart {
  private readonly plot: EncodedPlot;
  private readonly series: Decoded[];
  private readonly canvas: HTMLCanvasElement;
  private readonly tip: HTMLElement;
  private view: { x0: number; x1: number; y0: number; y1: number };
  private drag: { x: number; y: number; view: Chart['view']; box: boolean } | null = null;
  private box: [number, number, number, number] | null = null;
  private pending = false;
  /** Milliseconds that the last picture took: tests and the curious read it. */
  lastFrame = 0;

  constructor(host: HTMLElement, plot: EncodedPlot, data: ArrayBuffer) {
    this.plot = plot;
    this.view = { x0: plot.xMin, x1: plot.xMax, y0: plot.yMin, y1: plot.yMax };
    this.series = plot.series.map((one) => ({
      ...one,
      x: column(data, one.x, one.count),
      y: column(data, one.y, one.count),
      y2: one.y2 === null ? null : column(data, one.y2, one.count),
      packet: one.packet === null ? null : column(data, one.packet, one.count),
      rgba: rgbaOf(one.color, one.color.length > 7 ? Number.parseInt(one.color.slice(7), 16) : one.shape === 'area' ? 0xc0 : 0xff),
      on: true,
    }));
    host.replaceChildren();
    const legend = document.createElement('div');
    legend.className = 'legend';
    for (const one of this.series) {
      if (one.color.length > 7) continue;
      const label = document.createElement('label');
      const check = document.createElement('input');
      check.type = 'checkbox';
      check.checked = true;
      check.addEventListener('change', () => {
        one.on = check.checked;
        this.redraw();
      });
      const swatch = document.createElement('span');
      swatch.className = 'swatch';
      swatch.style.background = one.color;
      label.append(check, swatch, document.createTextNode(`${one.name} (${one.count.toLocaleString('en')})`));
      legend.append(label);
    }
    this.canvas = document.createElement('canvas');
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute('role', 'img');
    this.canvas.setAttribute('aria-label', plot.title);
    this.tip = document.createElement('div');
    this.tip.className = 'tip';
    const frame = document.createElement('div');
    frame.className = 'frame';
    frame.append(this.canvas, this.tip);
    host.append(legend, frame);
    this.listen();
    new ResizeObserver(() => this.redraw()).observe(frame);
    this.redraw();
  }

  /** Shows the part of the time axis around a moment. */
  goTo(time: number): void {
    const width = Math.min(this.plot.xMax - this.plot.xMin, Math.max(0.2, (this.plot.xMax - this.plot.xMin) / 12));
    this.setX(time - width / 2, time + width / 2);
    this.fitY();
    this.redraw();
  }

  /** The part that is shown. */
  get shown(): Readonly<Chart['view']> {
    return this.view;
  }

  reset(): void {
    this.view = { x0: this.plot.xMin, x1: this.plot.xMax, y0: this.plot.yMin, y1: this.plot.yMax };
    this.redraw();
  }

  save(): void {
    const link = document.createElement('a');
    link.download = `${this.plot.id}.png`;
    link.href = this.canvas.toDataURL('image/png');
    link.click();
  }

  private setX(x0: number, x1: number): void {
    this.view = { ...this.view, x0, x1 };
  }

  private listen(): void {
    const { canvas } = this;
    canvas.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        const factor = Math.exp(event.deltaY * 0.0015);
        const { x0, x1, y0, y1 } = this.view;
        const [x, y] = this.valueAt(event.offsetX, event.offsetY);
        // Shift: time alone; Alt: values alone.
        if (!event.altKey) this.setX(x - (x - x0) * factor, x + (x1 - x) * factor);
        if (!event.shiftKey && this.plot.rows === null) this.view = { ...this.view, y0: y - (y - y0) * factor, y1: y + (y1 - y) * factor };
        this.redraw();
      },
      { passive: false },
    );
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.drag = { x: event.offsetX, y: event.offsetY, view: this.view, box: event.shiftKey };
    });
    canvas.addEventListener('pointermove', (event) => {
      if (this.drag === null) {
        this.hover(event.offsetX, event.offsetY);
        return;
      }
      if (this.drag.box) {
        this.box = [this.drag.x, this.drag.y, event.offsetX, event.offsetY];
        this.redraw();
        return;
      }
      const { view } = this.drag;
      const { width, height } = this.size();
      const dx = ((event.offsetX - this.drag.x) / (width - LEFT - RIGHT)) * (view.x1 - view.x0);
      const dy = ((event.offsetY - this.drag.y) / (height - TOP - BOTTOM)) * (view.y1 - view.y0);
      this.view = { x0: view.x0 - dx, x1: view.x1 - dx, y0: view.y0 + dy, y1: view.y1 + dy };
      this.redraw();
    });
    canvas.addEventListener('pointerup', () => {
      if (this.box !== null && Math.abs(this.box[2] - this.box[0]) > 5) {
        const [ax, ay] = this.valueAt(this.box[0], this.box[1]);
        const [bx, by] = this.valueAt(this.box[2], this.box[3]);
        this.view = { x0: Math.min(ax, bx), x1: Math.max(ax, bx), y0: Math.min(ay, by), y1: Math.max(ay, by) };
      }
      this.box = null;
      this.drag = null;
      this.redraw();
    });
    canvas.addEventListener('pointerleave', () => (this.tip.style.display = 'none'));
    canvas.addEventListener('dblclick', () => this.reset());
    canvas.addEventListener('keydown', (event) => {
      const { x0, x1 } = this.view;
      const width = x1 - x0;
      const moves: Record<string, () => void> = {
        ArrowLeft: () => this.setX(x0 - width / 8, x1 - width / 8),
        ArrowRight: () => this.setX(x0 + width / 8, x1 + width / 8),
        '+': () => this.setX(x0 + width / 6, x1 - width / 6),
        '-': () => this.setX(x0 - width / 4, x1 + width / 4),
        '0': () => this.reset(),
        f: () => this.fitY(),
      };
      const move = moves[event.key];
      if (move === undefined) return;
      event.preventDefault();
      move();
      this.redraw();
    });
  }

  /** Values of the axis so that what is shown fills the picture. */
  private fitY(): void {
    if (this.plot.rows !== null) return;
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const one of this.series) {
      if (!one.on || one.loose) continue;
      const [from, to] = rangeOf(one.x, this.view.x0, this.view.x1);
      for (let i = from; i < to; i++) {
        low = Math.min(low, one.y[i]!);
        high = Math.max(high, one.y2?.[i] ?? one.y[i]!);
      }
    }
    if (high > low) this.view = { ...this.view, y0: low - (high - low) * 0.03, y1: high + (high - low) * 0.03 };
  }

  private size(): { width: number; height: number } {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  private valueAt(px: number, py: number): [number, number] {
    const { width, height } = this.size();
    const { x0, x1, y0, y1 } = this.view;
    return [x0 + ((px - LEFT) / (width - LEFT - RIGHT)) * (x1 - x0), y1 - ((py - TOP) / (height - TOP - BOTTOM)) * (y1 - y0)];
  }

  redraw(): void {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      const started = performance.now();
      this.draw();
      this.lastFrame = performance.now() - started;
    });
  }

  private draw(): void {
    const { canvas, view } = this;
    const { width, height } = this.size();
    if (width === 0 || height === 0) return;
    const ratio = window.devicePixelRatio;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext('2d')!;
    const style = getComputedStyle(canvas);
    const ink = style.getPropertyValue('--ink');
    const grid = style.getPropertyValue('--grid');
    const w = Math.round((width - LEFT - RIGHT) * ratio);
    const h = Math.round((height - TOP - BOTTOM) * ratio);
    const image = context.createImageData(w, h);
    const pixels = new Uint32Array(image.data.buffer);
    for (const one of this.series) if (one.on) this.paint(one, pixels, w, h, Math.max(1, Math.round(ratio)));
    context.scale(ratio, ratio);
    context.font = '11px sans-serif';
    context.strokeStyle = grid;
    context.fillStyle = ink;
    const x = (value: number): number => LEFT + ((value - view.x0) / (view.x1 - view.x0)) * (width - LEFT - RIGHT);
    const y = (value: number): number => height - BOTTOM - ((value - view.y0) / (view.y1 - view.y0)) * (height - TOP - BOTTOM);
    context.beginPath();
    context.textAlign = 'center';
    for (const tick of ticks(view.x0, view.x1, width / 90)) {
      context.moveTo(x(tick), TOP);
      context.lineTo(x(tick), height - BOTTOM);
      context.fillText(`${tick} s`, x(tick), height - BOTTOM + 16);
    }
    context.textAlign = 'right';
    if (this.plot.rows === null)
      for (const tick of ticks(view.y0, view.y1, height / 50)) {
        context.moveTo(LEFT, y(tick));
        context.lineTo(width - RIGHT, y(tick));
        context.fillText(label(tick, this.plot.unit), LEFT - 6, y(tick) + 4);
      }
    context.stroke();
    const layer = document.createElement('canvas');
    layer.width = w;
    layer.height = h;
    layer.getContext('2d')!.putImageData(image, 0, 0);
    context.drawImage(layer, LEFT, TOP, w / ratio, h / ratio);
    context.textAlign = 'left';
    this.plot.rows?.forEach((name, i, rows) => context.fillText(name, LEFT + 4, y(rows.length - i) + 11));
    this.marks(context, x, width, height);
    context.strokeStyle = ink;
    context.strokeRect(LEFT, TOP, width - LEFT - RIGHT, height - TOP - BOTTOM);
    if (this.box !== null) {
      const [ax, ay, bx, by] = this.box;
      context.strokeRect(Math.min(ax, bx), Math.min(ay, by), Math.abs(bx - ax), Math.abs(by - ay));
    }
  }

  private marks(context: CanvasRenderingContext2D, x: (value: number) => number, width: number, height: number): void {
    context.setLineDash([3, 3]);
    let last = Number.NEGATIVE_INFINITY;
    let level = 0;
    for (const mark of this.plot.marks) {
      const at = x(mark.x);
      if (at < LEFT || at > width - RIGHT) continue;
      level = at - last < 80 ? (level + 1) % 8 : 0;
      last = at;
      context.strokeStyle = context.fillStyle = mark.color;
      context.beginPath();
      context.moveTo(at, TOP);
      context.lineTo(at, height - BOTTOM);
      context.stroke();
      context.fillText(mark.label, at + 3, TOP + 12 + level * 12);
    }
    context.setLineDash([]);
  }

  /** Writes a series into the pixels. */
  private paint(one: Decoded, pixels: Uint32Array, w: number, h: number, unit: number): void {
    const { x0, x1, y0, y1 } = this.view;
    const sx = w / (x1 - x0);
    const sy = h / (y1 - y0);
    const { x, y, y2, rgba } = one;
    const [from, to] = rangeOf(x, x0, x1);
    const thick = one.strong ? 2 * unit : unit;
    const column = (px: number, low: number, high: number, wide: number): void => {
      const top = Math.max(0, high);
      const bottom = Math.min(h - 1, low);
      for (let py = top; py <= bottom; py++) {
        const row = py * w;
        for (let k = 0; k < wide; k++) if (px + k >= 0 && px + k < w) pixels[row + px + k] = rgba;
      }
    };
    if (one.shape === 'bars') {
      for (let i = 0; i + 1 < x.length; i += 2) {
        const left = Math.max(0, Math.floor((x[i]! - x0) * sx));
        const right = Math.min(w - 1, Math.floor((x[i + 1]! - x0) * sx));
        const low = h - 1 - Math.floor((y[i]! - y0) * sy);
        const high = h - 1 - Math.floor((y2![i]! - y0) * sy);
        for (let px = left; px <= right; px++) column(px, low, high, 1);
      }
      return;
    }
    let lastX = Number.NaN;
    let lastY = 0;
    let lastTop = 0;
    let lastBase = 0;
    for (let i = from; i < to; i++) {
      const px = Math.floor((x[i]! - x0) * sx);
      const py = h - 1 - Math.floor((y[i]! - y0) * sy);
      switch (one.shape) {
        case 'segments': {
          const high = h - 1 - Math.floor((y2![i]! - y0) * sy);
          column(px, py, Math.min(high, py - unit + 1), thick);
          break;
        }
        case 'points':
          column(px, py, py - thick, thick + unit);
          break;
        case 'crosses':
          for (let d = -2 * unit; d <= 2 * unit; d++) {
            column(px + d, py + d, py + d, 1);
            column(px + d, py - d, py - d, 1);
          }
          break;
        case 'area': {
          const top = h - 1 - Math.floor((y2![i]! - y0) * sy);
          const start = lastX === lastX ? lastX + 1 : px;
          for (let k = Math.max(0, start); k <= Math.min(px, w - 1); k++) {
            const part = px === lastX || lastX !== lastX ? 1 : (k - lastX) / (px - lastX);
            column(
              k,
              Math.round(lastX !== lastX ? py : lastBase + (py - lastBase) * part),
              Math.round(lastX !== lastX ? top : lastTop + (top - lastTop) * part),
              1,
            );
          }
          lastTop = top;
          lastBase = py;
          break;
        }
        default:
          if (lastX === lastX) {
            for (let k = Math.max(0, lastX); k <= Math.min(px, w - 1); k++) column(k, lastY, lastY - unit + 1, 1);
            column(px, Math.max(lastY, py), Math.min(lastY, py), unit);
          }
      }
      lastX = px;
      lastY = py;
    }
  }

  private hover(px: number, py: number): void {
    const { width, height } = this.size();
    const { x0, x1, y0, y1 } = this.view;
    const sx = (width - LEFT - RIGHT) / (x1 - x0);
    const sy = (height - TOP - BOTTOM) / (y1 - y0);
    const [time] = this.valueAt(px, py);
    let best: { one: Decoded; i: number } | null = null;
    let least = HOVER_WITHIN ** 2;
    for (const one of this.series) {
      if (!one.on || one.shape === 'bars') continue;
      const [from, to] = rangeOf(one.x, time - HOVER_WITHIN / sx, time + HOVER_WITHIN / sx);
      for (let i = from; i < to; i++) {
        const dx = LEFT + (one.x[i]! - x0) * sx - px;
        const low = height - BOTTOM - (one.y[i]! - y0) * sy;
        const high = one.y2 === null ? low : height - BOTTOM - (one.y2[i]! - y0) * sy;
        const dy = py > low ? py - low : py < high ? high - py : 0;
        const distance = dx * dx + dy * dy;
        if (distance > least) continue;
        least = distance;
        best = { one, i };
      }
    }
    if (best === null) {
      this.tip.style.display = 'none';
      return;
    }
    const { one, i } = best;
    const lines = [one.name, `${one.x[i]!.toFixed(6)} s`];
    if (one.shape === 'segments') lines.push(`bytes ${Math.round(one.y[i]!).toLocaleString('en')} to ${(Math.round(one.y2![i]!) - 1).toLocaleString('en')}`);
    else if (one.shape === 'area') lines.push(label(one.y2![i]! - one.y[i]!, this.plot.unit));
    else lines.push(this.plot.unit === 'bytes' ? `${Math.round(one.y[i]!).toLocaleString('en')} bytes` : label(one.y[i]!, this.plot.unit));
    if (one.packet !== null) lines.push(`packet ${Math.round(one.packet[i]!)}`);
    this.tip.replaceChildren(
      ...lines.flatMap((line, k) => (k === 0 ? [document.createTextNode(line)] : [document.createElement('br'), document.createTextNode(line)])),
    );
    this.tip.style.display = 'block';
    this.tip.style.left = `${Math.min(px + 14, width - 170)}px`;
    this.tip.style.top = `${Math.max(0, py - 10)}px`;
  }
}

/** Indices of the values between two bounds, with one neighbour on each side; `x` is sorted. */
function rangeOf(x: Float64Array, from: number, to: number): [number, number] {
  const find = (value: number): number => {
    let low = 0;
    let high = x.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (x[middle]! < value) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return [Math.max(0, find(from) - 1), Math.min(x.length, find(to) + 1)];
}

function ticks(from: number, to: number, count: number): number[] {
  const raw = (to - from) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw) ?? raw;
  const out: number[] = [];
  for (let i = Math.ceil(from / step); i * step <= to; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

function label(value: number, unit: string): string {
  if (unit === 'milliseconds') return `${Number(value.toPrecision(4))} ms`;
  if (unit === 'count') return String(Number(value.toPrecision(4)));
  const units = unit === 'bytes' ? ['B', 'kB', 'MB', 'GB', 'TB'] : ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s'];
  let rest = Math.abs(value);
  let at = 0;
  while (rest >= 1000 && at < units.length - 1) {
    rest /= 1000;
    at++;
  }
  return `${value < 0 ? '-' : ''}${Number(rest.toPrecision(4))} ${units[at]}`;
}

/** Makes the page live: each section has its plots, tabs choose among them, events lead to their moment. */
async function start(): Promise<void> {
  const charts: Chart[] = [];
  for (const section of document.querySelectorAll<HTMLElement>('section.connection')) {
    const index = section.dataset['index']!;
    const plots = JSON.parse(document.getElementById(`plots-${index}`)!.textContent) as EncodedPlot[];
    const data = await inflate(document.getElementById(`data-${index}`)!.textContent);
    const host = section.querySelector<HTMLElement>('.chart')!;
    const tabs = section.querySelector<HTMLElement>('.tabs')!;
    let chart: Chart | null = null;
    const show = (at: number): Chart => {
      section.querySelector('.title')!.textContent = plots[at]!.title;
      chart = new Chart(host, plots[at]!, data);
      charts[Number(section.dataset['order'])] = chart;
      tabs.querySelectorAll('button').forEach((button, i) => button.setAttribute('aria-selected', String(i === at)));
      return chart;
    };
    plots.forEach((plot, i) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.textContent = plot.short;
      button.title = plot.title;
      button.dataset['plot'] = plot.id;
      button.addEventListener('click', () => show(i));
      tabs.append(button);
    });
    const tools = section.querySelector<HTMLElement>('.tools')!;
    tools.querySelector('.reset')!.addEventListener('click', () => chart?.reset());
    tools.querySelector('.save')!.addEventListener('click', () => chart?.save());
    if (plots.length > 0) show(0);
    for (const row of section.querySelectorAll<HTMLElement>('[data-time]'))
      row.addEventListener('click', () => {
        chart?.goTo(Number(row.dataset['time']));
        host.scrollIntoView({ block: 'nearest' });
      });
  }
  (window as unknown as { subflowCharts: Chart[] }).subflowCharts = charts;
  document.documentElement.dataset['ready'] = 'true';
}

void start();

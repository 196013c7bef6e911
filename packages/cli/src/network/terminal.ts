/** Drawing in terminals and in pipes. */
import { styleText } from 'node:util';

const BARS = '▁▂▃▄▅▆▇█';
export const COLORS = ['cyan', 'yellow', 'magenta', 'green', 'blue', 'red', 'white', 'gray'] as const;

/** `samples` scaled to `top` as a line of bars, the latest on the right. */
export function sparkline(samples: readonly number[], top: number, width: number): string {
  const room = Math.max(8, width);
  const scale = top > 0 ? top : Math.max(1, ...samples);
  return samples
    .slice(-room)
    .map((value) => (value <= 0 ? ' ' : BARS[Math.min(BARS.length - 1, Math.floor((value / scale) * BARS.length))]))
    .join('')
    .padStart(room);
}

export function color(index: number, text: string): string {
  return styleText(COLORS[index % COLORS.length]!, text);
}

/** Bits per second for people. */
export function rateText(bitsPerSecond: number): string {
  if (bitsPerSecond >= 1e9) return `${(bitsPerSecond / 1e9).toFixed(2)} Gbit/s`;
  if (bitsPerSecond >= 1e6) return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
  if (bitsPerSecond >= 1e3) return `${(bitsPerSecond / 1e3).toFixed(0)} kbit/s`;
  return `${bitsPerSecond.toFixed(0)} bit/s`;
}

export function sizeText(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  if (bytes >= 1e3) return `${(bytes / 1e3).toFixed(1)} kB`;
  return `${bytes} B`;
}

/** Lines that are drawn over one another on a terminal. */
export class Redraw {
  private readonly out: NodeJS.WriteStream;
  private lines = 0;
  private hidden = false;

  constructor(out: NodeJS.WriteStream) {
    this.out = out;
  }

  draw(lines: readonly string[]): void {
    if (!this.hidden) {
      this.out.write('\x1b[?25l');
      process.once('exit', () => this.out.write('\x1b[?25h'));
      this.hidden = true;
    }
    const up = this.lines > 0 ? `\x1b[${this.lines}A` : '';
    this.out.write(`${up}${lines.map((line) => `\x1b[2K${line}`).join('\n')}\n\x1b[J`);
    this.lines = lines.length;
  }

  end(): void {
    if (this.hidden) this.out.write('\x1b[?25h');
    this.hidden = false;
  }
}

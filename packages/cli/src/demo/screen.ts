/** What a person sees while it runs: sparklines in a terminal, a line per second elsewhere. */
import { styleText } from 'node:util';
import { STATE_NAMES } from '@subflow/stack';
import type { Subflow } from '@subflow/stack';
import { SAMPLE } from './progress.ts';
import type { Progress } from './progress.ts';

export interface Screen {
  draw(): void;
  finish(): void;
}

const BARS = '▁▂▃▄▅▆▇█';
const COLORS = ['cyan', 'yellow', 'magenta', 'green', 'blue', 'red', 'white', 'gray'] as const;
const REDRAW = 0.1;
const LOG_LINES = 6;

export function makeScreen(progress: Progress, silent: boolean): Screen {
  if (silent) return { draw: () => undefined, finish: () => undefined };
  return process.stdout.isTTY ? new TerminalScreen(progress) : new LineScreen(progress);
}

class TerminalScreen implements Screen {
  private readonly progress: Progress;
  private drawnAt = -1;
  private lines = 0;

  constructor(progress: Progress) {
    this.progress = progress;
    process.stdout.write('\x1b[?25l');
    process.once('exit', () => process.stdout.write('\x1b[?25h'));
  }

  draw(): void {
    const { progress } = this;
    if (progress.time - this.drawnAt < REDRAW) return;
    this.drawnAt = progress.time;
    const width = Math.min(process.stdout.columns || 80, 120);
    const out: string[] = [bar(progress, width)];
    progress.paths.forEach((path, i) => {
      const color = COLORS[i % COLORS.length]!;
      const subflow = subflowOf(progress, path.name);
      const graph = sparkline(path.samples, progress.scenario.paths[i]!.link.rate, width - 58);
      const state = path.up ? subflowState(subflow) : 'CUT';
      out.push(
        `${styleText(color, path.name.padEnd(10))} ${styleText(color, graph)} ${rate(path.samples).padStart(6)} Mbit/s  RTT ${rtt(subflow).padStart(6)}  ${path.up ? state : styleText('red', state)}`,
      );
    });
    out.push(
      `reinjected ${(progress.recorder.reinjectedBytes / 1e3).toFixed(0)} kB, retransmitted ${(progress.recorder.retransmittedBytes / 1e3).toFixed(0)} kB, longest gap ${progress.longestGap.toFixed(2)} s`,
    );
    for (const entry of progress.log.slice(-LOG_LINES))
      out.push(styleText('gray', `${entry.time.toFixed(2).padStart(7)} s  ${entry.text}`.slice(0, width - 1)));
    const up = this.lines > 0 ? `\x1b[${this.lines}A` : '';
    process.stdout.write(`${up}${out.map((line) => `\x1b[2K${line}`).join('\n')}\n\x1b[J`);
    this.lines = out.length;
  }

  finish(): void {
    this.drawnAt = -1;
    this.draw();
    process.stdout.write('\x1b[?25h');
  }
}

class LineScreen implements Screen {
  private readonly progress: Progress;
  private second = 0;
  private logged = 0;

  constructor(progress: Progress) {
    this.progress = progress;
  }

  draw(): void {
    const { progress } = this;
    for (; this.logged < progress.log.length; this.logged++) {
      const entry = progress.log[this.logged]!;
      if (!entry.text.startsWith('reinjected')) process.stdout.write(`${entry.time.toFixed(2).padStart(7)} s  ${entry.text}\n`);
    }
    if (progress.time < this.second + 1) return;
    this.second = Math.floor(progress.time);
    const paths = progress.paths.map((path) => `${path.name} ${rate(path.samples)} Mbit/s${path.up ? '' : ' CUT'}`).join('  ');
    process.stdout.write(
      `${String(this.second).padStart(4)} s  ${((100 * progress.received) / progress.scenario.transfer.size).toFixed(1).padStart(5)} %  ${paths}  reinjected ${(progress.recorder.reinjectedBytes / 1e3).toFixed(0)} kB\n`,
    );
  }

  finish(): void {
    this.draw();
  }
}

function bar(progress: Progress, width: number): string {
  const share = Math.min(1, progress.received / progress.scenario.transfer.size);
  const room = Math.max(10, width - 34);
  const full = Math.round(share * room);
  return `${'█'.repeat(full)}${'░'.repeat(room - full)} ${(100 * share).toFixed(1).padStart(5)} %  ${(progress.received / 1e6).toFixed(1)} MB  ${progress.time.toFixed(1)} s`;
}

function sparkline(samples: readonly number[], capacity: number, width: number): string {
  const shown = samples.slice(-Math.max(8, width));
  const top = capacity > 0 ? (capacity * SAMPLE) / 8 : Math.max(1, ...samples);
  return shown
    .map((bytes) => (bytes === 0 ? ' ' : BARS[Math.min(BARS.length - 1, Math.floor((bytes / top) * BARS.length))]))
    .join('')
    .padEnd(Math.max(8, width));
}

/** Mean of the last second, Mbit/s. */
function rate(samples: readonly number[]): string {
  const last = samples.slice(-Math.round(1 / SAMPLE));
  if (last.length === 0) return '0.0';
  return ((last.reduce((a, b) => a + b, 0) * 8) / (last.length * SAMPLE) / 1e6).toFixed(1);
}

function rtt(subflow: Subflow | null): string {
  return subflow === null || subflow.tcb.srtt === 0 ? '–' : `${(subflow.tcb.srtt / 1000).toFixed(0)} ms`;
}

function subflowOf(progress: Progress, path: string): Subflow | null {
  return progress.connection?.subflows.find((subflow) => subflow.tcb.interface.name === path) ?? null;
}

function subflowState(subflow: Subflow | null): string {
  if (subflow === null) return 'no subflow';
  return `${STATE_NAMES[subflow.tcb.state]}${subflow.stale ? ', stale' : ''}${subflow.backup ? ', backup' : ''}`;
}

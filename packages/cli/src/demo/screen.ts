/** What a person sees while it runs: sparklines in a terminal, a line per second elsewhere. */
import { styleText } from 'node:util';
import { STATE_NAMES } from '@subflow/stack';
import type { Subflow } from '@subflow/stack';
import { color, Redraw, sparkline } from '../network/terminal.ts';
import { SAMPLE } from './progress.ts';
import type { Progress } from './progress.ts';

export interface Screen {
  draw(): void;
  finish(): void;
}

const REDRAW = 0.1;
const LOG_LINES = 6;

export function makeScreen(progress: Progress, silent: boolean): Screen {
  if (silent) return { draw: () => undefined, finish: () => undefined };
  return process.stdout.isTTY ? new TerminalScreen(progress) : new LineScreen(progress);
}

class TerminalScreen implements Screen {
  private readonly progress: Progress;
  private readonly redraw = new Redraw(process.stdout);
  private drawnAt = -1;

  constructor(progress: Progress) {
    this.progress = progress;
  }

  draw(): void {
    const { progress } = this;
    if (progress.time - this.drawnAt < REDRAW) return;
    this.drawnAt = progress.time;
    const width = Math.min(process.stdout.columns || 80, 120);
    const out: string[] = [bar(progress, width)];
    progress.paths.forEach((path, i) => {
      const subflow = subflowOf(progress, path.name);
      const { rate: capacity } = progress.scenario.paths[i]!.link;
      const graph = sparkline(path.samples, (capacity * SAMPLE) / 8, width - 58);
      const state = path.up ? subflowState(subflow) : 'CUT';
      out.push(
        `${color(i, path.name.padEnd(10))} ${color(i, graph)} ${rate(path.samples).padStart(6)} Mbit/s  RTT ${rtt(subflow).padStart(6)}  ${path.up ? state : styleText('red', state)}`,
      );
    });
    out.push(
      `reinjected ${(progress.recorder.reinjectedBytes / 1e3).toFixed(0)} kB, retransmitted ${(progress.recorder.retransmittedBytes / 1e3).toFixed(0)} kB, longest gap ${progress.longestGap.toFixed(2)} s`,
    );
    for (const entry of progress.log.slice(-LOG_LINES))
      out.push(styleText('gray', `${entry.time.toFixed(2).padStart(7)} s  ${entry.text}`.slice(0, width - 1)));
    this.redraw.draw(out);
  }

  finish(): void {
    this.drawnAt = -1;
    this.draw();
    this.redraw.end();
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

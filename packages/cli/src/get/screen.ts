/** The picture of a download: a bar, and a line for each subflow. */
import type { MultipathInfo } from '@subflow/net';
import { subflowName, summary } from '../network/facts.ts';
import { color, rateText, Redraw, sizeText, sparkline } from '../network/terminal.ts';
import type { DownloadProgress } from './download.ts';

/** Seconds between samples of the rates. */
const SAMPLE = 0.25;

interface Track {
  name: string;
  bytes: number;
  samples: number[];
}

export class DownloadScreen {
  private readonly redraw = new Redraw(process.stderr);
  private readonly live = process.stderr.isTTY;
  private readonly started = performance.now();
  private readonly tracks = new Map<string, Track>();
  private sampledAt = performance.now();
  private said = 0;

  update(progress: DownloadProgress, last = false): void {
    const now = performance.now();
    const seconds = (now - this.started) / 1000;
    if ((now - this.sampledAt) / 1000 >= SAMPLE || last) this.sample(progress.info, now);
    if (this.live) {
      this.redraw.draw(this.lines(progress, seconds));
      if (last) this.redraw.end();
      return;
    }
    // Where nobody sees it move: a line each second.
    if (!last && seconds < this.said + 1) return;
    this.said = Math.floor(seconds);
    process.stderr.write(
      `${this.head(progress, seconds)}  ${[...this.tracks.values()].map((one) => `${one.name} ${last ? sizeText(one.bytes) : rateText(one.samples.at(-1) ?? 0)}`).join('  ')}\n`,
    );
  }

  private sample(info: MultipathInfo | null, now: number): void {
    const seconds = (now - this.sampledAt) / 1000;
    this.sampledAt = now;
    for (const one of info?.subflows ?? []) {
      const key = `${one.localAddress}:${one.localPort}>${one.remoteAddress}:${one.remotePort}`;
      const track = this.tracks.get(key) ?? { name: subflowName(one), bytes: 0, samples: [] };
      track.samples.push((8 * (one.bytesReceived - track.bytes)) / Math.max(0.001, seconds));
      track.bytes = one.bytesReceived;
      this.tracks.set(key, track);
    }
  }

  private head({ received, expected }: DownloadProgress, seconds: number): string {
    const share = expected > 0 ? `${((100 * received) / expected).toFixed(1).padStart(5)} %  ` : '';
    return `${share}${sizeText(received)}${expected > 0 ? ` of ${sizeText(expected)}` : ''}  ${seconds.toFixed(1)} s  ${rateText((8 * received) / Math.max(0.001, seconds))}`;
  }

  private lines(progress: DownloadProgress, seconds: number): string[] {
    const width = Math.min(process.stderr.columns || 80, 120);
    const room = Math.max(10, width - 58);
    const full = progress.expected > 0 ? Math.round((room * progress.received) / progress.expected) : 0;
    const top = Math.max(1, ...[...this.tracks.values()].flatMap((one) => one.samples));
    return [
      `${'█'.repeat(full)}${'░'.repeat(room - full)} ${this.head(progress, seconds)}`.slice(0, width),
      ...[...this.tracks.values()].map(
        (one, i) =>
          `${color(i, one.name.padEnd(14).slice(0, 14))} ${color(i, sparkline(one.samples, top, width - 44))} ${rateText(one.samples.at(-1) ?? 0).padStart(12)} ${sizeText(one.bytes).padStart(10)}`,
      ),
      summary(progress.info),
    ];
  }
}

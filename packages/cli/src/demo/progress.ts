/** What the demonstration has seen so far; screens and summaries read it. */
import type { Connection, StackEvent } from '@subflow/stack';
import type { Scenario } from '@subflow/emulator';
import type { WireRecorder } from './wire-recorder.ts';

export interface PathStatus {
  name: string;
  up: boolean;
  /** Bytes delivered per sample of {@link SAMPLE} seconds. */
  samples: number[];
  deliveredBytes: number;
}

/** Length of a throughput sample, seconds. */
export const SAMPLE = 0.25;

export class Progress {
  readonly scenario: Scenario;
  readonly recorder: WireRecorder;
  readonly paths: PathStatus[];
  readonly log: { time: number; text: string }[] = [];
  connection: Connection | null = null;
  received = 0;
  /** Seconds on the transfer's clock. */
  time = 0;
  longestGap = 0;
  longestGapAt = 0;
  private lastProgress = 0;

  constructor(scenario: Scenario, recorder: WireRecorder) {
    this.scenario = scenario;
    this.recorder = recorder;
    this.paths = scenario.paths.map((path) => ({ name: path.name, up: true, samples: [], deliveredBytes: 0 }));
  }

  /** Moves the clock and closes throughput samples. */
  tick(time: number): void {
    this.time = time;
    this.paths.forEach((path, i) => {
      const total = this.recorder.deliveredBytes[i]!;
      while (path.samples.length < Math.floor(time / SAMPLE)) {
        path.samples.push(total - path.deliveredBytes);
        path.deliveredBytes = total;
      }
    });
  }

  /** The application has got more bytes. */
  progressed(time: number, received: number): void {
    if (received > this.received) {
      const gap = time - this.lastProgress;
      if (this.received > 0 && gap > this.longestGap) {
        this.longestGap = gap;
        this.longestGapAt = this.lastProgress;
      }
      this.lastProgress = time;
      this.received = received;
    }
  }

  say(time: number, text: string): void {
    this.log.push({ time, text });
  }

  /** Turns events into lines for people. */
  event(event: StackEvent, time: number): void {
    const text = describe(event);
    if (text !== null) this.say(time, text);
  }
}

function describe(event: StackEvent): string | null {
  switch (event.type) {
    case 'connection-established':
      return event.multipath ? `Multipath TCP established, token ${event.localToken.toString(16).padStart(8, '0')}` : 'connection established, plain TCP';
    case 'connection-fallback':
      return `fallback to TCP: ${event.reason}`;
    case 'subflow-created':
      return event.active ? `subflow ${event.subflow}: ${event.local} → ${event.remote} (${event.interface})` : null;
    case 'subflow-established':
      return `subflow ${event.subflow} established, RTT ${(event.rtt / 1000).toFixed(1)} ms`;
    case 'subflow-stale':
      return `subflow ${event.subflow} does not answer`;
    case 'subflow-recovered':
      return `subflow ${event.subflow} answers again`;
    case 'subflow-closed':
      return `subflow ${event.subflow} closed: ${event.reason}`;
    case 'reinjection':
      return `reinjected ${(event.length / 1000).toFixed(0)} kB from subflow ${event.from}`;
    case 'connection-closed':
      return `connection closed: ${event.reason}`;
    default:
      return null;
  }
}

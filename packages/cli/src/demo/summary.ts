/** The figures at the end. */
import type { Connection } from '@subflow/stack';
import type { Scenario } from '@subflow/emulator';
import type { KernelMptcpInfo } from '@subflow/link';
import type { Progress } from './progress.ts';
import type { WireRecorder } from './wire-recorder.ts';
import type { WorldLink } from './worlds.ts';

export interface Summary {
  scenario: string;
  mode: 'kernel' | 'emulated';
  /** Every byte arrived and the hashes agree. */
  correct: boolean;
  multipath: boolean;
  fallback: string | null;
  bytes: number;
  expectedBytes: number;
  sha256: string;
  seconds: number | null;
  /** Payload bits per second. */
  goodput: number;
  /** Sum of the paths' rates, and what of it was there while paths were down. */
  capacity: number;
  availableCapacity: number;
  aggregation: number;
  aggregationOfAvailable: number;
  longestGapSeconds: number;
  longestGapAt: number;
  reinjectedBytes: number;
  retransmittedBytes: number;
  paths: { name: string; deliveredBytes: number; share: number; droppedPackets: number; lostInCut: number }[];
  kernel: KernelMptcpInfo | null;
  /** Our host's counters: everything dropped, with its reason. */
  counters: Record<string, number>;
  duplicateBytes: number;
  closeReason: string | null;
}

export interface SummaryInput {
  scenario: Scenario;
  mode: 'kernel' | 'emulated';
  progress: Progress;
  recorder: WireRecorder;
  links: WorldLink[];
  finishedAt: number;
  arrived: string;
  served: string;
  received: number;
  closeReason: string | null;
  kernelView: KernelMptcpInfo | null;
  connection: Connection;
  /** Of our host, by reason. */
  counters: ReadonlyMap<string, number>;
}

export function summarize(input: SummaryInput): Summary {
  const { scenario, progress, recorder, links, finishedAt } = input;
  const seconds = finishedAt < 0 ? progress.time : finishedAt;
  const capacity = scenario.paths.reduce((sum, path) => sum + path.link.rate, 0);
  const available = scenario.paths.reduce((sum, path) => sum + path.link.rate * upShare(scenario, path.name, seconds), 0);
  const goodput = seconds > 0 ? (input.received * 8) / seconds : 0;
  const total = recorder.deliveredBytes.reduce((a, b) => a + b, 0);
  return {
    scenario: scenario.name,
    mode: input.mode,
    correct: finishedAt >= 0 && input.received === scenario.transfer.size && input.arrived === input.served,
    multipath: input.connection.mode === 'mptcp',
    fallback: input.connection.fallbackReason,
    bytes: input.received,
    expectedBytes: scenario.transfer.size,
    sha256: input.arrived,
    seconds: finishedAt < 0 ? null : finishedAt,
    goodput,
    capacity,
    availableCapacity: available,
    aggregation: capacity > 0 ? goodput / capacity : 0,
    aggregationOfAvailable: available > 0 ? goodput / available : 0,
    longestGapSeconds: progress.longestGap,
    longestGapAt: progress.longestGapAt,
    reinjectedBytes: recorder.reinjectedBytes,
    retransmittedBytes: recorder.retransmittedBytes,
    paths: scenario.paths.map((path, i) => {
      const direction = scenario.transfer.direction === 'download' ? links[i]!.down : links[i]!.up;
      const { dropped } = direction.counters;
      return {
        name: path.name,
        deliveredBytes: recorder.deliveredBytes[i]!,
        share: total > 0 ? recorder.deliveredBytes[i]! / total : 0,
        droppedPackets: dropped.loss + dropped['queue-full'],
        lostInCut: dropped.down,
      };
    }),
    kernel: input.kernelView,
    counters: Object.fromEntries(input.counters),
    duplicateBytes: input.connection.duplicateBytes,
    closeReason: input.closeReason,
  };
}

/** Share of the time that a path was up, by the scenario's timeline. */
function upShare(scenario: Scenario, name: string, seconds: number): number {
  let up = true;
  let since = 0;
  let total = 0;
  for (const step of scenario.timeline) {
    if (step.path !== name || step.up === null || step.up === up) continue;
    const at = Math.min(step.at / 1e6, seconds);
    if (up) total += at - since;
    up = step.up;
    since = at;
  }
  if (up) total += seconds - since;
  return seconds > 0 ? total / seconds : 1;
}

export function summaryText(summary: Summary, directory: string): string {
  const megabits = (bits: number): string => `${(bits / 1e6).toFixed(2)} Mbit/s`;
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const kernel =
    summary.kernel === null
      ? ''
      : `Kernel's view   ${summary.kernel.fallback ? 'fallen back' : 'Multipath TCP, not fallen back'}, ${summary.kernel.subflows} further subflow(s)\n`;
  return `
${summary.correct ? 'Every byte is right.' : `NOT RIGHT: ${summary.bytes} of ${summary.expectedBytes} bytes, ${summary.closeReason ?? 'not finished in time'}`}
SHA-256         ${summary.sha256}
Protocol        ${summary.multipath ? 'Multipath TCP' : `TCP (${summary.fallback})`}
${kernel}Time            ${summary.seconds === null ? 'not finished' : `${summary.seconds.toFixed(2)} s`}
Goodput         ${megabits(summary.goodput)} = ${percent(summary.aggregation)} of the sum of all paths (${megabits(summary.capacity)}),
                ${percent(summary.aggregationOfAvailable)} of what was there while paths were cut (${megabits(summary.availableCapacity)})
Longest gap     ${summary.longestGapSeconds.toFixed(2)} s without progress, at ${summary.longestGapAt.toFixed(2)} s
${summary.paths.map((path) => `${path.name.padEnd(16)}${(path.deliveredBytes / 1e6).toFixed(2)} MB (${percent(path.share)}), ${path.droppedPackets} packets lost, ${path.lostInCut} vanished in a cut`).join('\n')}
Reinjected      ${(summary.reinjectedBytes / 1e3).toFixed(1)} kB on another path; retransmitted on the same path: ${(summary.retransmittedBytes / 1e3).toFixed(1)} kB
Files           ${directory}/: ${summary.paths.map((path) => `${path.name}.pcapng`).join(', ')}, events.jsonl, summary.json, plot.svg
`;
}

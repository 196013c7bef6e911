/** All that the worker has told, and the plots made of it. */
import { BIN } from '@subflow/web/play';
import type { PlaySetup, Progress } from '@subflow/web/play';
import { colourOf } from './files.ts';
import type { PacketRow } from './messages.ts';
import type { PlotData } from './plot.tsx';

const KEPT_ROWS = 200;
const KEPT_EVENTS = 300;

/** All that has been told since the start. */
export interface Story {
  now: number;
  bins: number[][];
  sequence: Progress['sequence'];
  acknowledged: Progress['acknowledged'];
  snapshots: Progress['snapshots'];
  events: Progress['events'];
  decisions: Progress['decisions'];
  rows: PacketRow[];
  paths: Map<number, number>;
  last: Progress | null;
  behind: boolean;
}

export const EMPTY: Story = {
  now: 0,
  bins: [],
  sequence: [],
  acknowledged: [],
  snapshots: [],
  events: [],
  decisions: [],
  rows: [],
  paths: new Map(),
  last: null,
  behind: false,
};

export function grown(story: Story, progress: Progress, rows: PacketRow[], behind: boolean): Story {
  const bins = story.bins.slice(0, progress.from);
  // Columns in which nothing came are not told of.
  while (bins.length < progress.from) bins.push([]);
  bins.push(...progress.bins);
  return {
    now: progress.now,
    bins,
    sequence: [...story.sequence, ...progress.sequence],
    acknowledged: thinned([...story.acknowledged, ...progress.acknowledged]),
    snapshots: [...story.snapshots, ...progress.snapshots],
    events: [...story.events, ...progress.events].slice(-KEPT_EVENTS),
    decisions: progress.decisions.length > 0 ? progress.decisions : story.decisions,
    rows: [...story.rows, ...rows].slice(-KEPT_ROWS),
    paths: new Map(progress.subflowPaths),
    last: progress,
    behind,
  };
}

/** Every second one, when there are more than eyes can tell apart. */
function thinned<T>(list: T[]): T[] {
  return list.length > 4000 ? list.filter((_, i) => i % 2 === 0 || i > list.length - 50) : list;
}

/** The plots' numbers, as they were told. */
export function plotsOf(setup: PlaySetup, story: Story): PlotData[] {
  const bins = story.bins.slice(0, story.last?.ended === true ? undefined : -1);
  const binTimes = bins.map((_, i) => ((i + 1) * BIN) / 1e6);
  const subflows = [...story.paths.keys()];
  const nameOf = (subflow: number): string => `${subflow} ${setup.paths[story.paths.get(subflow) ?? -1]?.name ?? 'subflow'}`;
  const colour = (subflow: number): string => colourOf(story.paths.get(subflow) ?? subflow);
  const perSubflow = (value: (one: Progress['snapshots'][number]['subflows'][number]) => number | null): PlotData['series'] =>
    setup.paths.map((path, i) => ({
      label: path.name,
      colour: colourOf(i),
      values: story.snapshots.map((shot) => {
        // A path that came back has a new subflow beside the one that was given up.
        const all = shot.subflows.filter((one) => one.interface === path.name && one.established);
        const found = all.findLast((one) => !one.stale) ?? all.at(-1);
        return found === undefined ? null : value(found);
      }),
    }));
  const shotTimes = story.snapshots.map((one) => one.at / 1e6);
  // Crosses that lie on one another are a bar: one in so many milliseconds is enough for eyes, all of them are in the CSV of the trace.
  const apart = Math.max(20_000, story.now / 120);
  let lastAck = Number.NEGATIVE_INFINITY;
  const acks = story.acknowledged.filter(([at]) => {
    if (at - lastAck < apart) return false;
    lastAck = at;
    return true;
  });
  const marks = [
    ...story.sequence.map((one) => ({ at: one.at, subflow: one.subflow, value: one.high / 1e6 })),
    ...acks.map(([at, position]) => ({ at, subflow: -1, value: position / 1e6 })),
  ].sort((a, b) => a.at - b.at);
  return [
    {
      title: 'Throughput per path',
      unit: 'Mbit/s',
      stacked: true,
      times: binTimes,
      series: setup.paths.map((path, i) => ({ label: path.name, colour: colourOf(i), kind: 'area', values: bins.map((bin) => ((bin[i] ?? 0) * 8) / BIN) })),
    },
    {
      title: 'Data sequence numbers',
      unit: 'MB',
      times: marks.map((one) => one.at / 1e6),
      series: [
        { label: 'DATA_ACK', colour: '#7a7a7a', kind: 'crosses', values: marks.map((one) => (one.subflow === -1 ? one.value : null)) },
        ...subflows.map((id) => ({
          label: nameOf(id),
          colour: colour(id),
          kind: 'points' as const,
          values: marks.map((one) => (one.subflow === id ? one.value : null)),
        })),
      ],
    },
    {
      title: 'Out-of-order queue',
      unit: 'kB',
      times: shotTimes,
      series: [{ label: 'waits for a hole', colour: '#8c6d31', kind: 'area', values: story.snapshots.map((one) => one.outOfOrder / 1000) }],
    },
    { title: 'Round-trip time', unit: 'ms', times: shotTimes, series: perSubflow((one) => (one.srtt === 0 ? null : one.srtt / 1000)) },
    { title: 'Congestion window', unit: 'kB', times: shotTimes, series: perSubflow((one) => one.cwnd / 1000) },
    { title: 'In flight', unit: 'kB', times: shotTimes, series: perSubflow((one) => one.inFlight / 1000) },
  ];
}

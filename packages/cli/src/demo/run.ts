/** Runs the demonstration: sets the world up, transfers, follows the timeline, writes the files, prints the summary. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Scenario } from '@subflow/emulator';
import type { StackEvent } from '@subflow/stack';
import { kernelMptcpObstacle, OutputFile, PcapngTap, tunObstacle, writeOutput } from '@subflow/link';
import { makeFolder } from '../outputs.ts';
import { HttpClient } from './http.ts';
import { payload } from './payload.ts';
import { Progress } from './progress.ts';
import { makeScreen } from './screen.ts';
import { plot } from './svg.ts';
import { summarize, summaryText } from './summary.ts';
import type { Summary } from './summary.ts';
import { WireRecorder } from './wire-recorder.ts';
import { emulatedWorld, kernelWorld, PORT } from './worlds.ts';
import type { World } from './worlds.ts';

export interface DemoOptions {
  /** Null: kernel when possible. */
  mode: 'kernel' | 'emulated' | null;
  directory: string;
  fast: boolean;
  json: boolean;
}

/** Milliseconds between looks at the clock and the screen. */
const STEP = 20;

/** Runs it; returns whether every byte arrived right. Throws errors with a stable `code`. */
export async function runDemo(scenario: Scenario, options: DemoOptions): Promise<boolean> {
  const obstacle = tunObstacle() ?? kernelMptcpObstacle();
  if (options.mode === 'kernel' && obstacle !== null) throw obstacle;
  const mode = options.mode ?? (obstacle === null ? 'kernel' : 'emulated');
  const why =
    mode === 'kernel'
      ? 'our stack downloads from the Linux kernel over TUN devices'
      : options.mode === 'emulated'
        ? 'our stack at both ends, in this process, as asked'
        : `our stack at both ends, in this process, because ${obstacle!.message}`;
  if (!options.json) process.stdout.write(`Mode: ${mode} (${why})\n`);
  makeFolder(options.directory);
  const world = mode === 'kernel' ? await kernelWorld(scenario) : emulatedWorld(scenario, options.fast);
  try {
    const summary = await transfer(scenario, world, mode, options);
    await writeOutput(join(options.directory, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`);
    process.stdout.write(options.json ? `${JSON.stringify(summary)}\n` : summaryText(summary, options.directory));
    return summary.correct;
  } finally {
    world.stop();
  }
}

async function transfer(scenario: Scenario, world: World, mode: 'kernel' | 'emulated', options: DemoOptions): Promise<Summary> {
  const { client, links } = world;
  const { host } = client;
  const recorder = new WireRecorder(scenario.transfer.size, scenario.paths.length);
  const progress = new Progress(scenario, recorder);
  const grow = (name: string): Promise<OutputFile> => OutputFile.open(join(options.directory, name), { how: 'grow' });
  const events = await grow('events.jsonl');
  const pending: string[] = [];
  const captures = await Promise.all(scenario.paths.map((path) => grow(`${path.name}.pcapng`)));
  const comment = `subflow demo, scenario ${scenario.name}, mode ${mode}`;
  const taps = scenario.paths.map((path, i) => new PcapngTap(captures[i]!, [path.name], comment, world.epoch));
  const download = scenario.transfer.direction === 'download';
  links.forEach((link, i) => {
    // Each packet is captured once per path: what leaves us as it enters, what comes as it arrives.
    link.up.tap = (packet, now, point) => {
      if (point === 'enter') taps[i]!.record(packet, now);
      if (!download) recorder.see(packet, now, i, point);
    };
    link.down.tap = (packet, now, point) => {
      if (point === 'leave') taps[i]!.record(packet, now);
      if (download) recorder.see(packet, now, i, point);
    };
  });
  // The clock stood still while the server was being started.
  world.settle();
  const start = world.now();
  recorder.begin(start);
  const seconds = (): number => (world.now() - start) / 1e6;
  const upload = download ? null : payload(scenario.transfer.size, scenario.seed);
  const connection = host.connect({ remote: world.server, port: PORT }, start);
  progress.connection = connection;
  const http = new HttpClient(connection, 'server.example', upload, start);
  let finishedAt = -1;
  let ended: string | null = null;
  client.onEvent = (event: StackEvent, now) => {
    pending.push(JSON.stringify(event));
    if (pending.length > 1000) events.write(`${pending.splice(0).join('\n')}\n`);
    const time = (now - start) / 1e6;
    progress.event(event, time);
    if (!('connection' in event) || event.connection !== connection.id) return;
    if (event.type === 'connection-readable' || event.type === 'connection-end') http.read(now);
    if (event.type === 'connection-writable') http.send(now);
    if (event.type === 'connection-closed') {
      http.read(now);
      ended = event.reason;
    }
    progress.progressed(time, http.progress);
    const done = download ? http.expected >= 0 && http.received >= http.expected : http.claimed !== null;
    if (done && finishedAt < 0) {
      finishedAt = time;
      connection.shutdown(now);
    }
    client.pump();
  };
  world.settle();
  const screen = makeScreen(progress, options.json);
  const steps = [...scenario.timeline].sort((a, b) => a.at - b.at);
  const over = (): boolean =>
    (finishedAt >= 0 && (ended !== null || seconds() > finishedAt + 3)) || (ended !== null && finishedAt < 0) || seconds() * 1e6 > scenario.limit;
  while (!over()) {
    for (let next = steps[0]; next !== undefined && seconds() * 1e6 >= next.at; next = steps[0]) {
      steps.shift();
      applyStep(next, scenario, world, progress, seconds());
    }
    const untilStep = steps[0] === undefined ? STEP : Math.max(1, Math.min(STEP, (steps[0].at - seconds() * 1e6) / 1000));
    await world.wait(untilStep);
    world.settle();
    if (finishedAt < 0) progress.tick(seconds());
    screen.draw();
  }
  if (ended === null) {
    connection.abort(world.now());
    world.settle();
  }
  screen.finish();
  if (pending.length > 0) events.write(`${pending.join('\n')}\n`);
  await events.finish();
  for (const tap of taps) tap.close();
  const arrived = download ? http.hash.digest('hex') : (http.claimed ?? '');
  const served = download ? (http.claimed ?? world.digest) : createHash('sha256').update(upload!).digest('hex');
  const summary = summarize({
    counters: client.host.counters,
    scenario,
    mode,
    progress,
    recorder,
    links,
    finishedAt,
    arrived,
    served,
    received: http.progress,
    closeReason: ended,
    kernelView: world.kernelView(),
    connection,
  });
  await writeOutput(join(options.directory, 'plot.svg'), plot(scenario, progress, recorder, finishedAt < 0 ? seconds() : finishedAt));
  return summary;
}

function applyStep(step: Scenario['timeline'][number], scenario: Scenario, world: World, progress: Progress, time: number): void {
  const index = scenario.paths.findIndex((path) => path.name === step.path);
  const link = world.links[index]!;
  if (step.up !== null) {
    link.up.setUp(step.up);
    link.down.setUp(step.up);
    progress.paths[index]!.up = step.up;
    progress.say(time, step.up ? `${step.path} is back` : `${step.path} is cut without a word: packets vanish`);
  }
  if (Object.keys(step.link).length > 0) {
    link.up.config = { ...link.up.config, ...step.link };
    link.down.config = { ...link.down.config, ...step.link };
    progress.say(time, `${step.path} changes: ${JSON.stringify(step.link)}`);
  }
}

/** The client of the throughput test: interval lines, with a line for each subflow. */
import { randomBytes } from 'node:crypto';
import { connect } from '@subflow/net';
import type { MultipathInfo, MultipathOptions, Socket } from '@subflow/net';
import { UsageError } from '../errors.ts';
import { subflowName } from '../network/facts.ts';
import { count, firstLine, send } from './flow.ts';
import { LONGEST_LINE } from './protocol.ts';
import type { Interval, TestRequest, TestResult } from './protocol.ts';

export interface ClientOptions {
  host: string;
  port: number;
  reverse: boolean;
  seconds: number;
  bytes: number;
  connections: number;
  interval: number;
  multipath: MultipathOptions;
  onInterval(interval: Interval): void;
}

export interface ClientResult {
  reverse: boolean;
  bytes: number;
  seconds: number;
  bitsPerSecond: number;
  intervals: Interval[];
  connections: (MultipathInfo | null)[];
}

const ANSWER_TIMEOUT = 15_000;

export async function iperfClient(options: ClientOptions): Promise<ClientResult> {
  const { host, port, multipath } = options;
  const control = await open({ ...options });
  const request: TestRequest = {
    id: randomBytes(16).toString('hex'),
    reverse: options.reverse,
    seconds: options.seconds,
    bytes: options.bytes,
    connections: options.connections,
  };
  control.write(`${JSON.stringify(request)}\n`);
  await answer(control);
  const sockets = await Promise.all(Array.from({ length: options.connections }, () => open({ host, port, multipath })));
  for (const socket of sockets) socket.write(`${request.id}\n`);
  const started = performance.now();
  let received = 0;
  const intervals: Interval[] = [];
  const meter = new Meter(sockets, options.reverse, started);
  const look = (): void => {
    const interval = meter.look(options.reverse ? received : sockets.reduce((sum, one) => sum + one.bytesWritten - one.writableLength, 0));
    intervals.push(interval);
    options.onInterval(interval);
  };
  const timer = setInterval(look, options.interval * 1000);
  try {
    const facts = (): (MultipathInfo | null)[] => sockets.map((one) => one.multipath?.info() ?? null);
    let last = facts();
    await Promise.all(
      sockets.map(async (socket) => {
        if (options.reverse) await count(socket, (bytes) => (received += bytes));
        else {
          socket.resume();
          await send(socket, Math.ceil(options.bytes / options.connections), started + options.seconds * 1000);
        }
        last = facts();
        socket.end();
      }),
    );
    const result = (await answer(control, (options.seconds + 60) * 1000)) as TestResult;
    const seconds = options.reverse ? (performance.now() - started) / 1000 : result.seconds;
    const bytes = options.reverse ? received : result.bytes;
    return { reverse: options.reverse, bytes, seconds, bitsPerSecond: (8 * bytes) / seconds, intervals, connections: last };
  } finally {
    clearInterval(timer);
    control.destroy();
    for (const socket of sockets) socket.destroySoon();
  }
}

function open(options: Pick<ClientOptions, 'host' | 'port' | 'multipath'>): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...options.multipath, host: options.host, port: options.port, allowHalfOpen: true, noDelay: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
}

async function answer(control: Socket, timeout = ANSWER_TIMEOUT): Promise<unknown> {
  const line = await firstLine(control, LONGEST_LINE, timeout);
  let value: { error?: string; message?: string } | null = null;
  try {
    value = JSON.parse(line ?? '') as { error?: string; message?: string };
  } catch {
    throw new UsageError('NO_IPERF_SERVER', 'the other end does not answer as a throughput server; expected `subflow iperf -s` there');
  }
  if (value.error !== undefined) throw new UsageError(value.error, value.message ?? 'the server refused');
  return value;
}

/** Turns counters into intervals. */
class Meter {
  private readonly sockets: readonly Socket[];
  private readonly reverse: boolean;
  private readonly started: number;
  private at = 0;
  private bytes = 0;
  private readonly seen = new Map<string, number>();

  constructor(sockets: readonly Socket[], reverse: boolean, started: number) {
    this.sockets = sockets;
    this.reverse = reverse;
    this.started = started;
  }

  look(total: number): Interval {
    const to = (performance.now() - this.started) / 1000;
    const seconds = Math.max(0.001, to - this.at);
    const interval: Interval = {
      from: this.at,
      to,
      bytes: total - this.bytes,
      bitsPerSecond: (8 * (total - this.bytes)) / seconds,
      subflows: this.sockets.flatMap((socket, i) =>
        (socket.multipath?.info()?.subflows ?? []).map((one) => {
          const key = `${i}|${one.localAddress}:${one.localPort}>${one.remoteAddress}:${one.remotePort}`;
          const now = this.reverse ? one.bytesReceived : one.bytesAcknowledged;
          const bytes = now - (this.seen.get(key) ?? 0);
          this.seen.set(key, now);
          return {
            name: subflowName(one),
            local: `${one.localAddress}:${one.localPort}`,
            remote: `${one.remoteAddress}:${one.remotePort}`,
            bytes,
            bitsPerSecond: (8 * bytes) / seconds,
            srtt: one.srtt,
            cwnd: one.cwnd,
            retransmissions: one.retransmissions,
          };
        }),
      ),
    };
    this.at = to;
    this.bytes = total;
    return interval;
  }
}

/** One case of the interop matrix: set up, transfer, look at it from both sides. */
import { createHash } from 'node:crypto';
import { parseAddress } from '@subflow/wire';
import { addressesOf, Bench, KernelPeer } from './bench.ts';
import type { BenchPath } from './bench.ts';
import { CLIENT_SEED, pattern, SERVER_SEED } from './protocol.ts';
import type { Direction, Header, Report } from './protocol.ts';
import { StackPeer } from './stack-peer.ts';
import type { StackReport } from './stack-peer.ts';

export type Role = 'our client' | 'our server';
export type Families = 'IPv4' | 'IPv6' | 'both';

export interface Case {
  role: Role;
  families: Families;
  subflows: 1 | 2 | 4;
  checksum: boolean;
  direction: Direction;
}

export interface CaseOptions {
  size: number;
  offload?: boolean;
  capture?: string;
  link?: BenchPath['link'];
  /** Called when payload starts, with everything at hand. */
  disturb?: (bench: Bench, peer: StackPeer) => void;
  /** Called before anything is sent. */
  prepare?: (bench: Bench) => void;
  timeout?: number;
}

export interface CaseResult {
  problems: string[];
  ours: StackReport | null;
  kernel: Report | null;
  counters: Map<string, number>;
  milliseconds: number;
}

const PORT = 8080;

export function allCases(): Case[] {
  const out: Case[] = [];
  for (const role of ['our client', 'our server'] as const) {
    for (const families of ['IPv4', 'IPv6', 'both'] as const) {
      for (const subflows of [1, 2, 4] as const) {
        for (const checksum of [false, true]) {
          for (const direction of ['up', 'down', 'both'] as const) out.push({ role, families, subflows, checksum, direction });
        }
      }
    }
  }
  return out;
}

export function caseName(one: Case): string {
  return `${one.role}, ${one.families === 'both' ? 'IPv4 and IPv6' : one.families}, ${one.subflows} subflow${one.subflows > 1 ? 's' : ''}, checksums ${one.checksum ? 'on' : 'off'}, ${one.direction}`;
}

export function pathsOf(one: Case, link?: BenchPath['link']): BenchPath[] {
  return Array.from({ length: one.subflows }, (_, i) => ({
    family: one.families === 'IPv4' ? 4 : one.families === 'IPv6' ? 6 : i % 2 === 0 ? 4 : 6,
    ...(link === undefined ? {} : { link }),
  }));
}

export async function runCase(one: Case, options: CaseOptions): Promise<CaseResult> {
  const started = performance.now();
  const bench = new Bench({
    label: 'interop',
    paths: pathsOf(one, options.link),
    offload: options.offload ?? false,
    mptcp: { checksum: one.checksum && one.role === 'our client' },
    ...(options.capture === undefined ? {} : { capture: options.capture }),
  });
  const result: CaseResult = { problems: [], ours: null, kernel: null, counters: new Map(), milliseconds: 0 };
  try {
    configureKernel(bench, one);
    configureOurs(bench, one);
    options.prepare?.(bench);
    const peer = new KernelPeer(bench.namespace);
    await peer.next();
    const header: Header = { direction: one.direction, size: options.size, extraSubflows: one.subflows - 1 };
    const first = addressesOf(pathsOf(one)[0]!.family, 0);
    const timeout = options.timeout ?? 30_000;
    let ours: StackPeer;
    if (one.role === 'our client') {
      ours = new StackPeer(bench.runner, true, header);
      ours.onStart = () => options.disturb?.(bench, ours);
      // Joins of the other family need a listener that takes both.
      peer.send({ op: 'listen', address: one.families === 'both' ? '::' : first.kernel, port: PORT });
      await peer.next();
      ours.connect(parseAddress(first.kernel), PORT);
    } else {
      bench.host.listen({ port: PORT });
      ours = new StackPeer(bench.runner, false, null);
      ours.onStart = () => options.disturb?.(bench, ours);
      peer.send({ op: 'connect', address: first.ours, port: PORT, header, mapped: one.families === 'both' });
    }
    const kernel = peer.report(timeout);
    const late = new Promise<never>((_, reject) => {
      setTimeout(() => reject(new Error(`not finished after ${timeout} ms: ${describe(ours)}`)), timeout).unref();
    });
    [result.ours, result.kernel] = await Promise.race([Promise.all([ours.done, kernel]), late]);
    result.counters = bench.namespace.counters();
    check(result, one, options);
  } catch (error) {
    result.problems.push((error as Error).message);
  } finally {
    bench.remove();
  }
  result.milliseconds = performance.now() - started;
  return result;
}

function configureKernel(bench: Bench, one: Case): void {
  const { namespace } = bench;
  namespace.mptcpLimits(8, 8);
  if (one.checksum && one.role === 'our server') namespace.sysctl('net.mptcp.checksum_enabled', 1);
  const paths = pathsOf(one);
  paths.forEach((path, i) => {
    const { kernel } = addressesOf(path.family, i);
    if (i === 0) return;
    // A server announces the family the client cannot guess; a client opens subflows from its own addresses.
    if (one.role === 'our client') {
      if (path.family !== paths[0]!.family) namespace.mptcpEndpoint(kernel, bench.tuns[i]!.name, 'signal');
    } else if (path.family === paths[0]!.family) {
      namespace.mptcpEndpoint(kernel, bench.tuns[i]!.name, 'subflow');
    }
  });
}

function configureOurs(bench: Bench, one: Case): void {
  const paths = pathsOf(one);
  paths.forEach((path, i) => {
    if (i === 0) return;
    const address = parseAddress(addressesOf(path.family, i).ours);
    if (one.role === 'our client') bench.host.addEndpoint({ address, subflow: true });
    else if (path.family !== paths[0]!.family) bench.host.addEndpoint({ address, signal: true });
  });
}

/** Counters that must stay zero: fallbacks, corruption, HMAC failures. */
const FORBIDDEN = /^MPTcpExt(.*Fallback.*|DSSCorruption.*|DataCsumErr|DSSNotMatching|.*HMAC.*|MPFail.*|NoDSSInWindow|DSSNoMatchTCP|.*Blackhole)$/;

function check(result: CaseResult, one: Case, options: CaseOptions): void {
  const { ours, kernel, counters, problems } = result;
  if (ours === null || kernel === null) return;
  const ourSends = one.direction === 'both' || (one.direction === 'up') === (one.role === 'our client');
  const kernelSends = one.direction === 'both' || !ourSends;
  const ourSeed = one.role === 'our client' ? CLIENT_SEED : SERVER_SEED;
  if (ours.error !== null) problems.push(`our side: ${ours.error}`);
  if (kernel.error !== null) problems.push(`kernel side: ${kernel.error}`);
  if (ourSends && (kernel.received !== options.size || kernel.hash !== expectedHash(ourSeed, options.size)))
    problems.push(`kernel received ${kernel.received} of ${options.size} bytes, hash ${kernel.hash.slice(0, 8)}`);
  if (kernelSends && (ours.received !== options.size || ours.hash !== expectedHash(3 - ourSeed, options.size)))
    problems.push(`we received ${ours.received} of ${options.size} bytes, hash ${ours.hash.slice(0, 8)}`);
  if (options.disturb !== undefined || options.prepare !== undefined) return;
  if (kernel.info === null || kernel.info.fallback) problems.push('the kernel says: fallen back');
  else if (kernel.info.subflows !== one.subflows - 1) problems.push(`the kernel says ${kernel.info.subflows} further subflows, expected ${one.subflows - 1}`);
  if (kernel.info !== null && kernel.info.checksum !== one.checksum) problems.push(`the kernel says checksums ${kernel.info.checksum ? 'on' : 'off'}`);
  if (ours.mode !== 'mptcp') problems.push(`we fell back: ${ours.fallbackReason}`);
  for (const [name, value] of counters) if (value > 0 && FORBIDDEN.test(name)) problems.push(`${name} is ${value}`);
}

const hashes = new Map<string, string>();

export function expectedHash(seed: number, size: number): string {
  const key = `${seed}/${size}`;
  const known = hashes.get(key);
  if (known !== undefined) return known;
  const body = pattern(seed);
  const hash = createHash('sha256');
  for (let left = size; left > 0; left -= body.length) hash.update(left >= body.length ? body : body.subarray(0, left));
  const digest = hash.digest('hex');
  hashes.set(key, digest);
  return digest;
}

function describe(peer: StackPeer): string {
  const c = peer.connection;
  if (c === null) return 'no connection';
  return `${c.mode} phase ${c.phase} una ${c.dataUna} nxt ${c.dataNxt} end ${c.sendBuffer.end} rcv ${c.dataRcvNxt}; ${c.subflows.map((s) => `#${s.id} state ${s.tcb.state} una ${s.tcb.sndUna} nxt ${s.tcb.sndNxt} rcv ${s.tcb.rcvNxt} cwnd ${Math.round(s.tcb.cwnd)} flight ${s.tcb.inFlight}`).join('; ')}; ${peer.events
    .slice(-4)
    .map((e) => e.type)
    .join(' ')}`;
}

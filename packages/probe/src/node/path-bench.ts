/**
 * A path of kernel routers between kernel hosts, in network namespaces of ours, on which boxes stand: rules of nft, iptables
 * or tc in a router, or a box of the emulator's catalogue on the TUN link behind it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { attachMiddlebox, MIDDLEBOXES, PERFECT_LINK, Random } from '@subflow/emulator';
import type { LinkDirection } from '@subflow/emulator';
import { Namespace, RealTimeNetwork, Tun } from '@subflow/link';
import { parseAddress } from '@subflow/wire';
import { ProbeError } from '../errors.ts';
import { realisationsOf } from './real-boxes.ts';
import type { BoxKind } from './real-boxes.ts';

export interface PathBenchOptions {
  routers: number;
  /** Of every link, each direction, microseconds. */
  delay?: number;
}

let serial = 0;

export class PathBench {
  readonly client: Namespace;
  readonly routers: readonly Namespace[];
  readonly server: Namespace;
  readonly clientAddress = '192.0.2.1';
  readonly serverAddress: string;
  readonly serverAddress6: string;
  private readonly network = new RealTimeNetwork(1);
  private readonly links: { forward: LinkDirection; backward: LinkDirection }[] = [];
  private readonly tuns: Tun[] = [];
  private readonly children = new Set<ChildProcess>();
  private readonly delay: number;
  private removeBox: (() => void) | null = null;

  constructor(options: PathBenchOptions) {
    const id = serial++;
    this.delay = options.delay ?? 0;
    this.client = new Namespace(`pc${id}`);
    this.routers = Array.from({ length: options.routers }, (_, i) => new Namespace(`pr${id}-${i}`));
    this.server = new Namespace(`ps${id}`);
    const all = [this.client, ...this.routers, this.server];
    all.slice(0, -1).forEach((left, i) => this.join(left, all[i + 1]!, i, id));
    all.forEach((namespace, i) => {
      for (let j = i + 1; j < all.length - 1; j++) {
        namespace.ip('route', 'add', `192.0.2.${4 * j}/30`, 'via', `192.0.2.${4 * i + 2}`);
        namespace.ip('-6', 'route', 'add', `2001:db8:${j}::/64`, 'via', `2001:db8:${i}::2`);
      }
      for (let j = 0; j < i - 1; j++) {
        namespace.ip('route', 'add', `192.0.2.${4 * j}/30`, 'via', `192.0.2.${4 * (i - 1) + 1}`);
        namespace.ip('-6', 'route', 'add', `2001:db8:${j}::/64`, 'via', `2001:db8:${i - 1}::1`);
      }
      namespace.sysctl('net.ipv4.ip_forward', 1);
      namespace.sysctl('net.ipv6.conf.all.forwarding', 1);
      // Routers answer every probe: limits are the emulator's to test.
      namespace.sysctl('net.ipv4.icmp_ratelimit', 0);
      namespace.sysctl('net.ipv6.icmp.ratelimit', 0);
    });
    this.server.sysctl('net.ipv4.tcp_congestion_control', 'reno');
    this.server.mptcpLimits(4, 4);
    const last = all.length - 2;
    this.serverAddress = `192.0.2.${4 * last + 2}`;
    this.serverAddress6 = `2001:db8:${last}::2`;
  }

  /** Puts a box of the catalogue at link `at` (behind hop `at`), alone. Throws {@link ProbeError} `BAD_STATE` when it cannot be built this way. */
  box(name: string, kind: BoxKind, at: number): void {
    this.clear();
    const row = MIDDLEBOXES[name];
    if (row === undefined) throw new ProbeError('BAD_STATE', `no box "${name}"; expected one of ${Object.keys(MIDDLEBOXES).join(', ')}`);
    if (kind === 'userspace') {
      const link = this.links[at]!;
      attachMiddlebox(row.make({ random: new Random(at + 1), outside: parseAddress('203.0.113.200') }), this.network.agenda, link.forward, link.backward);
      // Translated packets come back to the address of the box.
      if (name === 'nat') this.routeOutside(at);
      this.removeBox = () => {
        link.forward.filter = null;
        link.backward.filter = null;
      };
      return;
    }
    const make = realisationsOf(name)[kind];
    if (make === undefined)
      throw new ProbeError('BAD_STATE', `"${name}" cannot be built with ${kind}; expected ${Object.keys(realisationsOf(name)).join(', ')}`);
    const router = this.routers[at - 1];
    if (router === undefined)
      throw new ProbeError('BAD_STATE', `a box of ${kind} stands in a router; expected a place from 1 to ${this.routers.length}, got ${at}`);
    this.removeBox = make(router, { toServer: `r${at}`, toClient: `l${at - 1}` });
  }

  /** Takes the box away. */
  clear(): void {
    this.removeBox?.();
    this.removeBox = null;
  }

  start(where: Namespace, program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', where.name, program, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
    this.children.add(child);
    child.once('exit', () => this.children.delete(child));
    return child;
  }

  /** Starts a program and waits for its first line. */
  async startAndWait(where: Namespace, program: string, args: readonly string[]): Promise<ChildProcess> {
    const child = this.start(where, program, args);
    let errors = '';
    child.stderr!.on('data', (chunk: Buffer) => (errors += String(chunk)));
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new ProbeError('BAD_STATE', `${program} ${args.join(' ')} said nothing: ${errors}`)), 20_000);
      child.stdout!.once('data', () => {
        clearTimeout(timer);
        resolve();
      });
      child.once('exit', (code) => {
        clearTimeout(timer);
        reject(new ProbeError('BAD_STATE', `${program} ended with ${code}: ${errors}`));
      });
    });
    return child;
  }

  /** Runs a program to its end. */
  async run(where: Namespace, program: string, args: readonly string[], timeout = 120_000): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = this.start(where, program, args);
    let stdout = '';
    let stderr = '';
    child.stdout!.on('data', (chunk: Buffer) => (stdout += String(chunk)));
    child.stderr!.on('data', (chunk: Buffer) => (stderr += String(chunk)));
    const timer = setTimeout(() => child.kill('SIGKILL'), timeout);
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    clearTimeout(timer);
    return { code, stdout, stderr };
  }

  remove(): void {
    for (const child of this.children) child.kill('SIGKILL');
    this.network.stop();
    for (const tun of this.tuns) tun.close();
    for (const one of [this.client, ...this.routers, this.server]) one.remove();
  }

  private join(left: Namespace, right: Namespace, i: number, id: number): void {
    const end = (namespace: Namespace, letter: 'l' | 'r', address: string, address6: string): Tun => {
      const tun = new Tun(`sp${process.pid % 10_000}${letter}${id}${i}`, { offload: false });
      this.tuns.push(tun);
      namespace.adopt(tun.name, address, address6);
      namespace.ip('link', 'set', tun.name, 'down');
      namespace.ip('link', 'set', tun.name, 'name', `${letter}${i}`);
      namespace.ip('link', 'set', `${letter}${i}`, 'up');
      namespace.ip('address', 'replace', address6, 'dev', `${letter}${i}`, 'nodad');
      return tun;
    };
    const a = end(left, 'r', `192.0.2.${4 * i + 1}/30`, `2001:db8:${i}::1/64`);
    const b = end(right, 'l', `192.0.2.${4 * i + 2}/30`, `2001:db8:${i}::2/64`);
    const config = { ...PERFECT_LINK, delay: this.delay };
    this.links.push(this.network.link(this.network.portEnd(a), this.network.portEnd(b), config, config));
  }

  /** Routers behind the translator send what is for its outside address back to it. */
  private routeOutside(at: number): void {
    const all = [this.client, ...this.routers, this.server];
    all.forEach((namespace, i) => {
      const via = i <= at ? `192.0.2.${4 * i + 2}` : `192.0.2.${4 * (i - 1) + 1}`;
      namespace.ip('route', 'replace', '203.0.113.200/32', 'via', via);
    });
  }
}

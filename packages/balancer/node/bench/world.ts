/**
 * Clients, balancers and servers as network namespaces around a fabric, a router with a bridge:
 *
 *     client ═ two paths ═ fabric ─┬─ balancer 0, 1, …   198.51.100.10, 11, …
 *                                  └─ server 1, 2, …     198.51.100.101, 102, …   (and the service's address 203.0.113.10)
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { command, LinkError, loadXdp, Namespace, XdpLink } from '@subflow/link';
import { bpfObject } from '../xdp/plane.ts';
import { Shim } from '../xdp/shim.ts';
import type { ClientCommand, ClientFacts } from './peer-client.ts';

export const SERVICE = '203.0.113.10';
export const SERVICE6 = '2001:db8:ff::10';
export const SERVICE_PORT = 443;

export interface WorldOptions {
  servers: number;
  balancers?: number;
  /** Link between fabric and servers, and balancers: octets of an IP packet. */
  mtu?: number;
  /** Answers go back through the balancer (NAT). */
  returnThroughBalancer?: boolean;
}

let serial = 0;

export class BalancerWorld {
  readonly client: Namespace;
  readonly fabric: Namespace;
  readonly balancers: readonly Namespace[];
  readonly servers: readonly Namespace[];
  private readonly children = new Set<ChildProcess>();
  private readonly announced = new Map<number, string>();
  private shims: Shim[] = [];
  private readonly resources: { close(): void }[] = [];
  private readonly options: WorldOptions;
  private readonly pass: number;

  constructor(options: WorldOptions) {
    const id = serial++;
    this.options = options;
    const object = bpfObject('bench');
    this.pass = loadXdp('pass', object.instructions('xdp/pass', new Map()));
    this.client = new Namespace(`bc${id}`);
    this.fabric = new Namespace(`bf${id}`);
    this.balancers = Array.from({ length: options.balancers ?? 1 }, (_, i) => new Namespace(`bb${id}-${i}`));
    this.servers = Array.from({ length: options.servers }, (_, i) => new Namespace(`bs${id}-${i}`));
    this.build();
  }

  balancerAddress(i: number): string {
    return `198.51.100.${10 + i}`;
  }

  serverAddress(i: number): string {
    return `198.51.100.${101 + i}`;
  }

  serverAddress6(i: number): string {
    return `2001:db8:1::${101 + i}`;
  }

  /** Starts a program of the bench in a namespace; resolves once it has said that it is ready. */
  async start(where: Namespace, script: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<ChildProcess> {
    const here = fileURLToPath(import.meta.url);
    const path = script.includes('/') ? script : join(dirname(here), `${script}${extname(here)}`);
    // Not `ip netns exec`: what is pinned and mounted is to be seen by all.
    const child = spawn('nsenter', [`--net=/run/netns/${where.name}`, process.execPath, ...(path.endsWith('.ts') ? ['--import', 'tsx'] : []), path, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.children.add(child);
    child.once('exit', () => this.children.delete(child));
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => (errors = (errors + String(chunk)).slice(-4000)));
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new LinkError('COMMAND_FAILED', `${script} said nothing: ${errors}`)), 30_000);
      child.stdout.once('data', () => {
        clearTimeout(timer);
        resolve();
      });
      child.once('exit', (code) => {
        clearTimeout(timer);
        reject(new LinkError('COMMAND_FAILED', `${script} ended with ${code}: ${errors}`));
      });
    });
    return child;
  }

  /** Kernel servers on every server's namespace. */
  async startServers(): Promise<ChildProcess[]> {
    return Promise.all(this.servers.map((where, i) => this.start(where, 'peer-server', [`s${i + 1}`, String(SERVICE_PORT)])));
  }

  async startClient(): Promise<BenchClient> {
    return new BenchClient(await this.start(this.client, 'peer-client'));
  }

  /**
   * What a kernel server needs for a design: flag C, and its own address or the service's with a port of its own to announce
   * (docs/lb.md has the same as a script).
   */
  announce(i: number, how: 'nothing' | 'own-address' | 'own-port', ownPort = 0): void {
    const where = this.servers[i]!;
    const wanted = `${how} ${ownPort}`;
    // An announced port stays bound as long as connections use it: it is left where it is.
    if (this.announced.get(i) === wanted) return;
    this.announced.set(i, wanted);
    where.run('ip', 'mptcp', 'endpoint', 'flush');
    where.sysctl('net.mptcp.allow_join_initial_addr_port', how === 'nothing' ? 1 : 0);
    if (how === 'own-address') where.mptcpEndpoint(this.serverAddress(i), 'eth0', 'signal');
    if (how === 'own-port') where.run('ip', 'mptcp', 'endpoint', 'add', SERVICE, 'signal', 'port', String(ownPort));
  }

  /** Somebody else has changed what a server announces. */
  forgetAnnounced(i: number): void {
    this.announced.delete(i);
  }

  /** Puts Beamer's shim on a server. Returns its counters. */
  shim(i: number): () => Record<string, number> {
    const where = this.servers[i]!;
    const shim = where.inside(
      () =>
        new Shim(
          'eth0',
          [this.serverAddress(i), this.serverAddress6(i)],
          [...this.balancers.map((_, k) => this.balancerAddress(k)), ...this.balancers.map((_, k) => `2001:db8:1::${10 + k}`)],
        ),
    );
    this.shims.push(shim);
    return () => shim.counters();
  }

  /** Takes the shims off again. */
  removeShims(): void {
    for (const one of this.shims) one.close();
    this.shims = [];
  }

  /** Which balancers the fabric sends the service's packets to. */
  route(...balancers: number[]): void {
    const hops = (v6: boolean): string[] => balancers.flatMap((k) => ['nexthop', 'via', v6 ? `2001:db8:1::${10 + k}` : this.balancerAddress(k), 'weight', '1']);
    this.fabric.ip('route', 'replace', `${SERVICE}/32`, ...hops(false));
    if (balancers.length === 1) this.fabric.ip('-6', 'route', 'replace', `${SERVICE6}/128`, 'via', `2001:db8:1::${10 + balancers[0]!}`);
  }

  close(): void {
    for (const child of this.children) child.kill('SIGKILL');
    this.removeShims();
    for (const one of this.resources) one.close();
    for (const one of [this.client, this.fabric, ...this.balancers, ...this.servers]) one.remove();
  }

  private build(): void {
    const { fabric, client } = this;
    fabric.sysctl('net.ipv4.ip_forward', 1);
    fabric.sysctl('net.ipv6.conf.all.forwarding', 1);
    fabric.sysctl('net.ipv4.fib_multipath_hash_policy', 1);
    fabric.ip('link', 'add', 'br0', 'type', 'bridge');
    fabric.ip('address', 'add', '198.51.100.1/24', 'dev', 'br0');
    fabric.ip('address', 'add', '2001:db8:1::1/64', 'dev', 'br0', 'nodad');
    fabric.ip('link', 'set', 'br0', 'up');
    for (let path = 0; path < 2; path++) {
      const base = 4 * path;
      pair(client, `path${path}`, fabric, `client${path}`);
      client.ip('address', 'add', `192.0.2.${base + 1}/30`, 'dev', `path${path}`);
      fabric.ip('address', 'add', `192.0.2.${base + 2}/30`, 'dev', `client${path}`);
      client.ip('address', 'add', `2001:db8:2:${path}::1/64`, 'dev', `path${path}`, 'nodad');
      fabric.ip('address', 'add', `2001:db8:2:${path}::2/64`, 'dev', `client${path}`, 'nodad');
      for (const [family, from, via] of [
        ['-4', `192.0.2.${base + 1}`, `192.0.2.${base + 2}`],
        ['-6', `2001:db8:2:${path}::1`, `2001:db8:2:${path}::2`],
      ] as const) {
        client.ip(family, 'rule', 'add', 'from', from, 'table', String(100 + path));
        client.ip(family, 'route', 'add', 'default', 'via', via, 'dev', `path${path}`, 'table', String(100 + path));
        if (path === 0) client.ip(family, 'route', 'add', 'default', 'via', via);
      }
    }
    client.mptcpLimits(4, 4);
    client.mptcpEndpoint('192.0.2.5', 'path1', 'subflow');
    client.mptcpEndpoint('2001:db8:2:1::1', 'path1', 'subflow');
    client.sysctl('net.ipv4.ip_local_port_range', '10000 65000');
    this.balancers.forEach((where, i) => {
      this.attach(where, i, this.balancerAddress(i), `2001:db8:1::${10 + i}`);
      where.sysctl('net.ipv4.ip_forward', 1);
      where.sysctl('net.ipv6.conf.all.forwarding', 1);
      where.sysctl('net.ipv4.conf.all.send_redirects', 0);
      where.sysctl('net.ipv4.conf.eth0.send_redirects', 0);
    });
    this.servers.forEach((where, i) => {
      this.attach(where, 100 + i, this.serverAddress(i), this.serverAddress6(i));
      where.sysctl('net.ipv4.conf.all.arp_ignore', 1);
      where.sysctl('net.ipv4.conf.all.arp_announce', 2);
      where.sysctl('net.ipv4.tcp_congestion_control', 'reno');
      where.ip('address', 'add', `${SERVICE}/32`, 'dev', 'lo');
      where.ip('address', 'add', `${SERVICE6}/128`, 'dev', 'lo', 'nodad');
      where.mptcpLimits(4, 4);
      if (this.options.returnThroughBalancer === true) {
        where.ip('route', 'replace', 'default', 'via', this.balancerAddress(0));
        where.ip('-6', 'route', 'replace', 'default', 'via', '2001:db8:1::10');
        where.sysctl('net.ipv6.conf.all.accept_redirects', 0);
        where.sysctl('net.ipv6.conf.eth0.accept_redirects', 0);
        where.sysctl('net.ipv4.conf.eth0.accept_redirects', 0);
        where.sysctl('net.ipv4.conf.all.accept_redirects', 0);
      }
    });
    this.route(0);
  }

  private attach(where: Namespace, number: number, address: string, address6: string): void {
    const { mtu } = this.options;
    pair(where, 'eth0', this.fabric, `port${number}`);
    this.fabric.ip('link', 'set', `port${number}`, 'master', 'br0');
    // What an XDP program behind a veth sends arrives only where the peer has one too.
    this.resources.push(this.fabric.inside(() => XdpLink.attach(this.pass, `port${number}`, 'native')));
    if (mtu !== undefined) {
      where.ip('link', 'set', 'eth0', 'mtu', String(mtu));
      this.fabric.ip('link', 'set', `port${number}`, 'mtu', String(mtu));
    }
    where.ip('address', 'add', `${address}/24`, 'dev', 'eth0');
    where.ip('address', 'add', `${address6}/64`, 'dev', 'eth0', 'nodad');
    where.ip('route', 'add', 'default', 'via', '198.51.100.1');
    where.ip('-6', 'route', 'add', 'default', 'via', '2001:db8:1::1');
    for (const key of ['all', 'eth0', 'default']) where.sysctl(`net.ipv4.conf.${key}.rp_filter`, 0);
  }
}

/** A pair without the offloads that XDP programs would never see undone. */
function pair(a: Namespace, deviceA: string, b: Namespace, deviceB: string): void {
  command('ip', ['link', 'add', deviceA, 'netns', a.name, 'type', 'veth', 'peer', 'name', deviceB, 'netns', b.name]);
  for (const [where, device] of [
    [a, deviceA],
    [b, deviceB],
  ] as const) {
    where.run('ethtool', '-K', device, 'tx', 'off', 'tso', 'off', 'gso', 'off');
    where.ip('link', 'set', device, 'up');
  }
}

export class BenchClient {
  private readonly child: ChildProcess;
  private readonly waiting: ((line: string) => void)[] = [];

  constructor(child: ChildProcess) {
    this.child = child;
    createInterface({ input: child.stdout! }).on('line', (line) => this.waiting.shift()?.(line));
  }

  /** Throws {@link LinkError} `COMMAND_FAILED` when the client cannot. */
  async ask<T = ClientFacts>(request: ClientCommand): Promise<T> {
    const answer = await new Promise<string>((resolve) => {
      this.waiting.push(resolve);
      this.child.stdin!.write(`${JSON.stringify(request)}\n`);
    });
    const value = JSON.parse(answer) as T & { error?: string };
    if (value.error !== undefined) throw new LinkError('COMMAND_FAILED', `client: ${value.error}`);
    return value;
  }
}

/** Two kernel hosts in namespaces, joined by emulated paths that this process drives in real time. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { PERFECT_LINK } from '@subflow/emulator';
import type { LinkConfig, LinkDirection } from '@subflow/emulator';
import { Namespace, RealTimeNetwork, Tun } from '@subflow/link';

export interface WorldPath {
  name: string;
  link?: Partial<LinkConfig>;
  /** The client's endpoint is a backup. */
  backup?: boolean;
}

export interface KernelPath {
  name: string;
  up: LinkDirection;
  down: LinkDirection;
  cut(): void;
  restore(): void;
}

let serial = 0;

export function addressesOfPath(i: number): { client: string; server: string } {
  return { client: `192.0.2.${4 * i + 1}`, server: `192.0.2.${4 * i + 2}` };
}

export class KernelWorld {
  readonly client: Namespace;
  readonly server: Namespace;
  readonly paths: KernelPath[];
  private readonly network: RealTimeNetwork;
  private readonly tuns: Tun[] = [];
  private readonly children = new Set<ChildProcess>();

  constructor(paths: readonly WorldPath[], options: { endpoints?: boolean } = {}) {
    const id = serial++;
    this.client = new Namespace(`client${id}`);
    this.server = new Namespace(`server${id}`);
    this.network = new RealTimeNetwork(1);
    for (const namespace of [this.client, this.server]) {
      namespace.sysctl('net.ipv4.conf.all.rp_filter', 0);
      namespace.sysctl('net.ipv4.conf.default.rp_filter', 0);
      namespace.sysctl('net.ipv4.tcp_congestion_control', 'reno');
      namespace.mptcpLimits(8, 8);
    }
    this.paths = paths.map((path, i) => {
      const { client, server } = addressesOfPath(i);
      const end = (namespace: Namespace, letter: string, address: string): Tun => {
        const tun = new Tun(`sf${process.pid % 10000}w${id}${letter}${i}`, { offload: false });
        this.tuns.push(tun);
        namespace.adopt(tun.name, `${address}/30`);
        namespace.ip('link', 'set', tun.name, 'down');
        namespace.ip('link', 'set', tun.name, 'name', path.name);
        namespace.ip('link', 'set', path.name, 'up');
        return tun;
      };
      const a = end(this.client, 'c', client);
      const b = end(this.server, 's', server);
      // What comes from an address leaves by its path, whatever it is aimed at.
      this.client.ip('rule', 'add', 'from', client, 'table', String(100 + i));
      this.client.ip('route', 'add', 'default', 'dev', path.name, 'table', String(100 + i));
      if (i === 0) this.client.ip('route', 'add', 'default', 'dev', path.name);
      if (options.endpoints ?? true)
        this.client.mptcpEndpoint(
          client,
          path.name,
          ...(i > 0 || path.backup === true ? ['subflow'] : ['subflow']),
          ...(path.backup === true ? ['backup'] : []),
        );
      const config = { ...PERFECT_LINK, ...path.link };
      const link = this.network.link(this.network.portEnd(a), this.network.portEnd(b), config, config);
      const setUp = (up: boolean): void => {
        link.forward.setUp(up);
        link.backward.setUp(up);
      };
      return { name: path.name, up: link.forward, down: link.backward, cut: () => setUp(false), restore: () => setUp(true) };
    });
  }

  /** Starts a program in one of the namespaces. */
  start(where: 'client' | 'server', program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this[where].name, program, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.children.add(child);
    child.once('exit', () => this.children.delete(child));
    return child;
  }

  /** Runs a program to its end. */
  async run(
    where: 'client' | 'server',
    program: string,
    args: readonly string[],
    options: { timeout?: number; env?: NodeJS.ProcessEnv; input?: string } = {},
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const child = this.start(where, program, args, options.env);
    let stdout = '';
    let stderr = '';
    child.stdout!.on('data', (chunk: Buffer) => (stdout += String(chunk)));
    child.stderr!.on('data', (chunk: Buffer) => (stderr += String(chunk)));
    // A program that reads nothing may be gone already.
    child.stdin!.on('error', () => undefined);
    child.stdin!.end(options.input ?? '');
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeout ?? 30_000);
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    clearTimeout(timer);
    return { code, stdout, stderr };
  }

  remove(): void {
    for (const child of this.children) child.kill('SIGKILL');
    this.network.stop();
    for (const tun of this.tuns) tun.close();
    this.client.remove();
    this.server.remove();
  }
}

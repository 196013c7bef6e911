/** The bench of the interop tests: our host in this process, a kernel host in a namespace, paths of TUN devices between them. */
import { createInterface } from 'node:readline';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseAddress } from '@subflow/wire';
import { Host } from '@subflow/stack';
import type { Interface, MptcpConfig, TcpConfig } from '@subflow/stack';
import { PERFECT_LINK, stripMultipath } from '@subflow/emulator';
import type { LinkConfig, LinkDirection, Where } from '@subflow/emulator';
import { HostDriver, Namespace, now as clock, PcapngTap, RealTimeNetwork, systemEntropy, Tun, TUN_SEGMENTATION_LIMIT } from '@subflow/link';
import type { PacketPort } from '@subflow/link';
import type { PeerAnswer, PeerCommand, Report } from './protocol.ts';
import type { Runner } from './stack-peer.ts';

export interface BenchPath {
  family: 4 | 6;
  /** Emulated in real time when given; else the TUN device is our interface. */
  link?: Partial<LinkConfig>;
}

export interface BenchOptions {
  label: string;
  paths: BenchPath[];
  offload?: boolean;
  tcp?: Partial<TcpConfig>;
  mptcp?: Partial<MptcpConfig>;
  /** File for a capture of all paths, one interface each. */
  capture?: string;
  seed?: number;
}

/** Addresses of path `i`: ours and the kernel's. */
export function addressesOf(family: 4 | 6, i: number): { ours: string; kernel: string; bits: number } {
  return family === 4
    ? { ours: `192.0.2.${4 * i + 1}`, kernel: `192.0.2.${4 * i + 2}`, bits: 30 }
    : { ours: `2001:db8:${i}::1`, kernel: `2001:db8:${i}::2`, bits: 64 };
}

let serial = 0;

/** A kernel peer process inside a namespace. */
export class KernelPeer {
  private readonly child: ChildProcess;
  private readonly waiting: { resolve: (answer: PeerAnswer) => void }[] = [];
  private readonly answers: PeerAnswer[] = [];

  constructor(namespace: Namespace) {
    const script = fileURLToPath(new URL('./kernel-peer.ts', import.meta.url));
    this.child = namespace.start(process.execPath, ['--import', 'tsx', script], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      const message = JSON.parse(line) as PeerAnswer;
      const next = this.waiting.shift();
      if (next === undefined) this.answers.push(message);
      else next.resolve(message);
    });
  }

  send(message: PeerCommand): void {
    this.child.stdin!.write(`${JSON.stringify(message)}\n`);
  }

  async next(timeout = 15_000): Promise<PeerAnswer> {
    const early = this.answers.shift();
    if (early !== undefined) return early;
    return new Promise((resolve, reject) => {
      const entry = { resolve };
      const timer = setTimeout(() => {
        this.waiting.splice(this.waiting.indexOf(entry), 1);
        reject(new Error(`kernel peer: no answer within ${timeout} ms`));
      }, timeout);
      entry.resolve = (answer) => {
        clearTimeout(timer);
        resolve(answer);
      };
      this.waiting.push(entry);
    });
  }

  async report(timeout = 30_000): Promise<Report> {
    const answer = await this.next(timeout);
    if (answer.op !== 'done') throw new Error(`kernel peer answered ${JSON.stringify(answer)}`);
    return answer.report;
  }
}

/** Records what passes a port. */
class TappedPort implements PacketPort {
  readonly name: string;
  private readonly port: Tun;
  private readonly tap: PcapngTap;
  private readonly index: number;

  constructor(port: Tun, tap: PcapngTap, index: number) {
    this.port = port;
    this.tap = tap;
    this.index = index;
    this.name = port.name;
  }

  onPackets(handler: Parameters<PacketPort['onPackets']>[0]): void {
    this.port.onPackets({
      packet: (view, bytes, offset, length, valid, partial) => {
        this.tap.record(bytes.slice(offset, offset + length), clock(), this.index);
        handler.packet(view, bytes, offset, length, valid, partial);
      },
      batchEnd: () => handler.batchEnd(),
    });
  }

  transmit(slot: Parameters<PacketPort['transmit']>[0]): void {
    const packet = new Uint8Array(slot.length);
    slot.copyTo(packet, 0);
    this.tap.record(packet, clock(), this.index);
    this.port.transmit(slot);
  }

  send(packet: Uint8Array): void {
    this.tap.record(packet, clock(), this.index);
    this.port.send(packet);
  }

  close(): void {
    this.port.close();
  }
}

export class Bench {
  readonly namespace: Namespace;
  readonly host: Host;
  readonly runner: Runner;
  readonly interfaces: Interface[] = [];
  /** Emulated links by path: `forward` goes from us to the kernel. */
  readonly links: ({ forward: LinkDirection; backward: LinkDirection } | null)[] = [];
  readonly tuns: Tun[] = [];
  readonly options: BenchOptions;
  private readonly tap: PcapngTap | null;
  private readonly network: RealTimeNetwork | null;
  private readonly driver: HostDriver | null;
  private removed = false;

  constructor(options: BenchOptions) {
    this.options = options;
    const offload = options.offload ?? false;
    this.namespace = new Namespace(`${options.label}${serial++}`);
    const { namespace } = this;
    namespace.sysctl('net.ipv4.conf.all.rp_filter', 0);
    namespace.sysctl('net.ipv4.conf.default.rp_filter', 0);
    namespace.sysctl('net.ipv4.tcp_congestion_control', 'reno');
    this.host = new Host({ entropy: systemEntropy, tcp: { timeWait: 1_000_000, ...options.tcp }, mptcp: { ...options.mptcp } });
    const emulated = options.paths.some((path) => path.link !== undefined);
    this.network = emulated ? new RealTimeNetwork(options.seed ?? 1) : null;
    this.driver = emulated ? null : new HostDriver(this.host);
    this.tap =
      options.capture === undefined
        ? null
        : new PcapngTap(
            options.capture,
            options.paths.map((_, i) => `path${i}`),
          );
    const node = this.network?.node('stack', this.host) ?? null;
    this.runner = node === null ? this.driver! : { host: this.host, onEvent: null, pump: () => undefined };
    options.paths.forEach((path, i) => {
      const { ours, kernel, bits } = addressesOf(path.family, i);
      const tun = new Tun(`sf${process.pid % 10000}x${serial}p${i}`, { offload });
      this.tuns.push(tun);
      namespace.adopt(tun.name, `${kernel}/${bits}`);
      const through = this.host.addInterface({
        name: `path${i}`,
        mtu: 1500,
        addresses: [{ address: parseAddress(ours), bits }],
        ...(offload && this.network === null ? { segmentationLimit: TUN_SEGMENTATION_LIMIT, checksumOffload: true } : {}),
      });
      this.interfaces.push(through);
      this.host.addRoute(parseAddress(path.family === 4 ? '0.0.0.0' : '::'), 0, through);
      const port: PacketPort = this.tap === null ? tun : new TappedPort(tun, this.tap, i);
      if (this.network === null) {
        this.driver!.attach(through, port);
        this.links.push(null);
      } else {
        const config = { ...PERFECT_LINK, ...path.link };
        this.links.push(this.network.link(this.network.hostEnd(node!, through), this.network.portEnd(port), config, config));
      }
      // Joins to our first address of this family leave through this path's device.
      const first = options.paths.findIndex((other) => other.family === path.family);
      namespace.ip('route', 'add', `${addressesOf(path.family, first).ours}/${path.family === 4 ? 32 : 128}`, 'dev', tun.name, 'metric', String(100 + i));
    });
    if (node !== null) {
      const network = this.network!;
      const { runner } = this;
      node.onEvent = (event, time) => runner.onEvent?.(event, time);
      runner.pump = () => {
        network.run();
        node.pump();
        network.run();
      };
    }
  }

  /** Largest lateness of the real-time links, microseconds. */
  get worstLateness(): number {
    return this.network?.worstLateness ?? 0;
  }

  /** The clock our host runs on. */
  now(): number {
    return this.network?.agenda.now ?? clock();
  }

  /** Lets a middlebox strip Multipath TCP options on all (emulated) paths from now on. */
  stripAll(where: Where): void {
    for (const one of this.links) {
      one!.forward.filter = stripMultipath(where);
      one!.backward.filter = stripMultipath(where);
    }
  }

  remove(): void {
    if (this.removed) return;
    this.removed = true;
    this.driver?.stop();
    this.network?.stop();
    for (const tun of this.tuns) tun.close();
    this.tap?.close();
    this.namespace.remove();
  }
}

/**
 * Data planes in packets a second, beside what the kernel can do at least: bare XDP_TX, bare redirect, nft's own forwarding and
 * DNAT, all in the same run, interleaved. And what a decision costs in BPF. Root.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BpfMap, command, interfaceIndex, loadXdp, MAP_TYPE, Namespace, removeLeftovers, sendLive, testRun, tunObstacle, XdpLink } from '@subflow/link';
import { BalancerWorld, bpfObject, SERVICE, SERVICE_PORT } from '@subflow/balancer/node';
import type { DesignName, Forwarding, PlaneName, ServicePlan } from '@subflow/balancer/node';
import { BeamerCore, ServerSet } from '@subflow/balancer';
import { buildPacket, ETHERNET, ethernetFrame, FLAG, ipHeader, parseAddress, PROTOCOL } from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';
import { GENERATION_SIZE, generationValue, serviceKey, serviceValue } from '../packages/balancer/node/xdp/layout.ts';
import { slotsOf } from '../packages/balancer/node/plan.ts';
import { row, Runs, within } from './rows.ts';
import type { Row } from './rows.ts';

const ROUNDS = 5;
const FLOWS = 8192;
const SERVERS = 4;
const CLIENT = '192.0.2.1';
const PACKETS = 600_000;
/** Headers in bpf/bench.c's template. */
const TEMPLATE = 64;
const BALANCER = fileURLToPath(new URL('../packages/balancer/dist/node/bench/peer-balancer.js', import.meta.url));

interface Plane {
  name: string;
  /** Puts it in place; returns how to take it away. */
  start: (rig: Rig) => Promise<() => Promise<void>>;
  packets: number;
  /** Compared with this one. */
  peer: string | null;
  aim?: number;
}

/** Sender — balancer — sink, two veth pairs. */
class Rig {
  readonly sender = new Namespace('plane-s');
  readonly balancer = new Namespace('plane-b');
  readonly sink = new Namespace('plane-k');
  readonly directory = mkdtempSync(join(tmpdir(), 'subflow-planes-'));
  readonly programs = new Map<string, number>();
  private readonly send: number;
  private readonly counter: BpfMap;
  private readonly links: XdpLink[] = [];
  private readonly frame: Uint8Array;

  constructor() {
    for (const [a, x, b, y] of [
      [this.sender, 'out', this.balancer, 'eth0'],
      [this.balancer, 'eth1', this.sink, 'in'],
    ] as const) {
      command('ip', ['link', 'add', x, 'netns', a.name, 'type', 'veth', 'peer', 'name', y, 'netns', b.name]);
      for (const [where, device] of [
        [a, x],
        [b, y],
      ] as const) {
        where.run('ethtool', '-K', device, 'tx', 'off', 'tso', 'off', 'gso', 'off');
        where.run('ethtool', '-K', device, 'gro', 'on');
        where.ip('link', 'set', device, 'up');
      }
    }
    const { balancer } = this;
    balancer.ip('address', 'add', '192.0.2.254/24', 'dev', 'eth0');
    balancer.ip('address', 'add', '198.51.100.10/24', 'dev', 'eth1');
    for (const key of ['net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.eth0.rp_filter=0']) balancer.run('sysctl', '-q', '-w', key);
    for (let i = 1; i <= SERVERS; i++)
      balancer.ip('neigh', 'replace', `198.51.100.${100 + i}`, 'lladdr', `02:00:00:00:01:0${i}`, 'dev', 'eth1', 'nud', 'permanent');
    // Every server's address is the sink's, as far as its kernel is concerned.
    const object = bpfObject('bench');
    const make = (): Map<string, BpfMap> => new Map(object.maps.map((one) => [one.name, BpfMap.create(one.name, one)]));
    const sinkMaps = make();
    this.counter = sinkMaps.get('state')!;
    const sink = loadXdp('sink', object.instructions('xdp/sink', sinkMaps));
    this.links.push(
      this.sink.inside(() => XdpLink.attach(sink, 'in', 'native')),
      this.sender.inside(() => XdpLink.attach(sink, 'out', 'native')),
    );
    const [link] = JSON.parse(balancer.ip('-j', 'link', 'show', 'dev', 'eth0')) as { address: string }[];
    // The base address of the sender's, so that its incremental checksums are right.
    this.frame = frameOf(FLAG.ack, [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: 1, echo: 0x0101 }], '198.18.0.0', link!.address);
    const target = new Uint8Array(12 + TEMPLATE);
    const view = new DataView(target.buffer);
    view.setUint32(0, 0xc6120000, true);
    view.setUint32(4, FLOWS, true);
    target.set(this.frame.subarray(0, TEMPLATE), 12);
    const senderMaps = make();
    view.setUint32(
      8,
      this.sender.inside(() => interfaceIndex('out')),
      true,
    );
    senderMaps.get('target')!.update(new Uint8Array(4), target);
    this.send = loadXdp('send', object.instructions('xdp/send', senderMaps));
    const redirectMaps = make();
    view.setUint32(
      8,
      balancer.inside(() => interfaceIndex('eth1')),
      true,
    );
    redirectMaps.get('target')!.update(new Uint8Array(4), target);
    this.programs.set('turn', loadXdp('turn', object.instructions('xdp/turn', new Map())));
    this.programs.set('redirect', loadXdp('redirect', object.instructions('xdp/redirect', redirectMaps)));
  }

  /** Packets a second that came out. */
  measure(packets: number): number {
    const before = this.count();
    const began = performance.now();
    this.sender.inside(() => sendLive(this.send, this.frame, 'out', packets));
    // What is still on its way.
    let last = this.count();
    let elapsed = performance.now() - began;
    for (let quiet = 0; quiet < 3;) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
      const now = this.count();
      if (now === last) quiet++;
      else {
        quiet = 0;
        elapsed = performance.now() - began;
        last = now;
      }
    }
    return (last - before) / (elapsed / 1000);
  }

  attach(program: string): XdpLink {
    return this.balancer.inside(() => XdpLink.attach(this.programs.get(program)!, 'eth0', 'native'));
  }

  /** `subflow lb` in the balancer's namespace. */
  async run(dataPlane: PlaneName, design: DesignName, forwarding: Forwarding): Promise<() => Promise<void>> {
    const name = `bench-${process.pid}-${design}`;
    const file = join(this.directory, `${name}.yaml`);
    const own = (i: number): string => (design === 'beamer' ? `, ownPort: ${20_000 + i}` : '');
    const servers = Array.from({ length: SERVERS }, (_, i) => `{ name: s${i + 1}, id: ${i + 1}, address: 198.51.100.${101 + i}${own(i + 1)} }`);
    writeFileSync(
      file,
      `name: ${name}\ndataPlane: ${dataPlane}\ninterface: eth0\ncontrol: ${this.directory}/${name}.sock\nstore: { log: ${this.directory}/${name}.log }\nservices:\n  - { name: web, address: ${SERVICE}, port: 443, design: ${design}, forwarding: ${forwarding}, health: { type: none }, servers: [ ${servers.join(', ')} ] }\n`,
    );
    const child: ChildProcess = spawn('nsenter', [`--net=/run/netns/${this.balancer.name}`, process.execPath, BALANCER, file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise<void>((resolve, reject) => {
      child.stdout!.once('data', () => resolve());
      child.once('exit', (code) => reject(new Error(`balancer ended with ${code}`)));
    });
    return async () => {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      await gone;
    };
  }

  close(): void {
    for (const link of this.links) link.close();
    for (const one of [this.sender, this.balancer, this.sink]) one.remove();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private count(): number {
    const value = this.counter.lookup(new Uint8Array(Uint32Array.of(1).buffer))!;
    const view = new DataView(value.buffer, value.byteOffset, value.length);
    let total = 0;
    for (let at = 0; at < value.length; at += 8) total += Number(view.getBigUint64(at, true));
    return total;
  }
}

function frameOf(flags: number, options: TcpOption[], source: string, mac = '02:00:00:00:00:01', destinationPort = SERVICE_PORT): Uint8Array {
  const packet = buildPacket(ipHeader(parseAddress(source), parseAddress(SERVICE), PROTOCOL.tcp), {
    tcp: { sourcePort: 65_000, destinationPort, seq: 1, ack: 1, headerLength: 20, reserved: 0, flags, window: 1000, checksum: 0, urgent: 0, options },
  });
  const target = Uint8Array.from(mac.split(':').map((part) => Number.parseInt(part, 16)));
  const frame = new Uint8Array(ETHERNET.header + Math.max(packet.length, 64));
  frame.set(ethernetFrame(packet, Uint8Array.of(2, 0, 0, 0, 0, 9), target));
  return frame;
}

const bare = (program: string): Plane['start'] => {
  return (rig) => {
    const link = rig.attach(program);
    return Promise.resolve(() => {
      link.close();
      return Promise.resolve();
    });
  };
};

const rules = (...lines: string[]): Plane['start'] => {
  return (rig) => {
    const { balancer } = rig;
    for (const line of lines) balancer.run('nft', ...line.split(' '));
    return Promise.resolve(() => {
      balancer.run('nft', 'flush', 'ruleset');
      return Promise.resolve();
    });
  };
};

const PLANES: readonly Plane[] = [
  { name: 'bare XDP_TX', start: bare('turn'), packets: PACKETS, peer: null },
  { name: 'bare redirect', start: bare('redirect'), packets: PACKETS, peer: null },
  {
    name: 'bare nft: forward where it came in',
    start: rules(
      'add table netdev t',
      'add chain netdev t in { type filter hook ingress device eth0 priority 0 ; }',
      `add rule netdev t in ip daddr ${SERVICE} fwd to eth1`,
    ),
    packets: PACKETS / 2,
    peer: null,
  },
  {
    name: 'bare nft: DNAT to one server',
    start: rules(
      'add table ip t',
      'add chain ip t p { type nat hook prerouting priority -100 ; }',
      `add rule ip t p ip daddr ${SERVICE} dnat to 198.51.100.101`,
    ),
    packets: PACKETS / 4,
    peer: null,
  },
  { name: 'xdp a stateful', start: (rig) => rig.run('xdp', 'stateful', 'dsr'), packets: PACKETS, peer: 'bare redirect', aim: 0.7 },
  { name: 'xdp b Maglev', start: (rig) => rig.run('xdp', 'maglev', 'dsr'), packets: PACKETS, peer: 'bare redirect', aim: 0.7 },
  { name: 'xdp c timestamps', start: (rig) => rig.run('xdp', 'token-keys', 'dsr'), packets: PACKETS, peer: 'bare redirect', aim: 0.7 },
  { name: 'xdp d learnt tokens', start: (rig) => rig.run('xdp', 'token-learned', 'dsr'), packets: PACKETS, peer: 'bare redirect', aim: 0.7 },
  { name: 'xdp e direct addresses', start: (rig) => rig.run('xdp', 'direct-address', 'dsr'), packets: PACKETS, peer: 'bare redirect', aim: 0.7 },
  { name: 'xdp f Beamer, encapsulated', start: (rig) => rig.run('xdp', 'beamer', 'encapsulation'), packets: PACKETS, peer: 'bare redirect', aim: 0.7 },
  { name: 'nftables b Maglev', start: (rig) => rig.run('nftables', 'maglev', 'dsr'), packets: PACKETS / 2, peer: 'bare nft: forward where it came in' },
  { name: 'nftables a (conntrack)', start: (rig) => rig.run('nftables', 'stateful', 'nat'), packets: PACKETS / 4, peer: 'bare nft: DNAT to one server' },
  {
    name: 'userspace f Beamer, encapsulated',
    start: (rig) => rig.run('userspace', 'beamer', 'encapsulation'),
    packets: 60_000,
    peer: 'bare nft: DNAT to one server',
  },
  { name: 'userspace b, translated', start: (rig) => rig.run('userspace', 'maglev', 'nat'), packets: 60_000, peer: 'bare nft: DNAT to one server' },
];

export async function planes(): Promise<Row[]> {
  const obstacle = tunObstacle();
  if (obstacle !== null) throw obstacle;
  removeLeftovers();
  const rig = new Rig();
  const runs = new Map(PLANES.map((one) => [one.name, new Runs()]));
  try {
    for (let i = 0; i < ROUNDS; i++) {
      for (const plane of PLANES) {
        await runs.get(plane.name)!.take(() => measurePlane(rig, plane));
        if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2Kround ${i + 1} of ${ROUNDS}: ${plane.name}`);
      }
    }
  } finally {
    rig.close();
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
  const rows = PLANES.map((plane) => {
    return row(plane.name, 'Mpps', runs.get(plane.name)!, plane.peer, plane.peer === null ? null : runs.get(plane.peer)!);
  });
  return [...rows, ...decisions(), ...(await shortConnections())];
}

/** Million packets a second through one plane. */
async function measurePlane(rig: Rig, plane: Plane): Promise<number> {
  const stop = await plane.start(rig);
  try {
    // Tables are filled, code is warm.
    rig.measure(Math.min(plane.packets, 3 * FLOWS));
    return rig.measure(plane.packets) / 1e6;
  } finally {
    await stop();
  }
}

/** Nanoseconds for a packet in the program, by kind; what any program costs in such a run is taken off. */
function decisions(): Row[] {
  const bench = bpfObject('bench');
  const pass = loadXdp('pass', bench.instructions('xdp/pass', new Map()));
  const timestamps: TcpOption[] = [{ kind: 'nop' }, { kind: 'nop' }, { kind: 'timestamps', value: 1, echo: 0x0101 }];
  const data = frameOf(FLAG.ack, timestamps, CLIENT);
  const join = frameOf(FLAG.syn, [{ kind: 'mptcp', option: { subtype: 'join-syn', flags: 0, addressId: 1, token: 0x01020304, nonce: 1 } }], CLIENT);
  const third = frameOf(
    FLAG.ack,
    [
      ...timestamps,
      {
        kind: 'mptcp',
        option: {
          subtype: 'capable',
          version: 1,
          flags: 1,
          senderKey: { high: 1, low: 2 },
          receiverKey: { high: 3, low: 4 },
          dataLength: null,
          checksum: null,
        },
      },
    ],
    CLIENT,
  );
  const cases: [string, DesignName, Uint8Array, boolean][] = [
    ['b Maglev, data', 'maglev', data, true],
    ['a table, data', 'stateful', data, true],
    ['c timestamps, data', 'token-keys', data, true],
    ['c token, join', 'token-keys', join, true],
    ['d table, data', 'token-learned', data, true],
    // With no server alive the entry is never found: every turn reads the key and hashes it.
    ['d token, third ACK (SHA-256)', 'token-learned', third, false],
    ['f Beamer, data, with tunnel', 'beamer', data, true],
  ];
  const programs = cases.map(([, design, , alive]) => programOf(design, alive));
  const runs = cases.map(() => [] as number[]);
  const nothing: number[] = [];
  for (let i = 0; i < 7; i++) {
    nothing.push(testRun(pass, data, 200_000).nanoseconds);
    // With a tunnel the frame grows with every turn: one turn at a time there.
    cases.forEach(([, design, frame], j) => {
      if (design === 'beamer') {
        let total = 0;
        for (let k = 0; k < 200; k++) total += testRun(programs[j]!, frame).nanoseconds;
        runs[j]!.push(total / 200);
      } else runs[j]!.push(testRun(programs[j]!, frame, 200_000).nanoseconds);
    });
  }
  const floor = nothing.toSorted((a, b) => a - b)[3]!;
  const memory = memoryOf();
  return [
    ...memory,
    ...cases.map(([name], j) =>
      row(
        `BPF decision ${name}`,
        'ns',
        runs[j]!.map((one) => Math.max(0, one - floor)),
        null,
        null,
        true,
      ),
    ),
  ];
}

/** What the kernel says that the tables of the program take, for an entry. */
function memoryOf(): Row[] {
  const object = bpfObject('balancer');
  return ['flows', 'tokens'].map((name) => {
    const definition = object.maps.find((one) => one.name === name)!;
    const map = BpfMap.create(name, definition);
    const locked = Number(/memlock:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${map.fd}`, 'utf8'))![1]);
    map.close();
    return row(`BPF table of ${definition.entries.toLocaleString('en')} ${name}`, 'B each', [locked / definition.entries], null, null, true);
  });
}

function programOf(design: DesignName, alive: boolean): number {
  const servers = new ServerSet(Array.from({ length: SERVERS }, (_, i) => ({ id: i + 1, name: `s${i + 1}`, weight: 1, state: 'active' as const })));
  const details = new Map(servers.servers.map((one) => [one.id, { address: parseAddress(`198.51.100.${100 + one.id}`), port: 443, ownPort: null }]));
  const core = new BeamerCore(undefined, 1);
  core.setServers(servers, 0);
  const plan: ServicePlan = {
    id: 0,
    name: 'web',
    address: parseAddress(SERVICE),
    port: SERVICE_PORT,
    design,
    forwarding: design === 'beamer' ? 'encapsulation' : 'dsr',
    seed: 1,
    servers,
    details,
    buckets: core.table,
  };
  const object = bpfObject('balancer');
  const maps = new Map<string, BpfMap>();
  for (const one of object.maps.toSorted((a, b) => Number(a.inner !== null) - Number(b.inner !== null)))
    maps.set(one.name, BpfMap.create(one.name, one, one.inner === null ? null : maps.get(one.inner)!));
  const hops = new Map(
    alive
      ? servers.servers.map((one) => [one.id, { device: '', mac: new Uint8Array(6), mtu: 1500, ownMac: new Uint8Array(6), source: '', index: 1 }] as const)
      : [],
  );
  const inner = BpfMap.create('generation', { type: MAP_TYPE.array, keySize: 4, valueSize: GENERATION_SIZE, entries: 1, flags: 0 });
  inner.update(
    new Uint8Array(4),
    generationValue(plan, {
      slots: slotsOf(plan),
      hops,
      own4: parseAddress('198.51.100.10'),
      own6: new Uint8Array(16),
      mtu: 1500,
      mac: new Uint8Array(6),
      clockOffset: 0,
    }),
  );
  maps.get('generations')!.updateMap(new Uint8Array(4), inner);
  maps.get('services')!.update(serviceKey(plan.address, SERVICE_PORT), serviceValue(plan));
  return loadXdp('decision', object.instructions('xdp', maps));
}

/** Connections that are opened, greeted and reset, a second: straight to a server, and through balancers. */
async function shortConnections(): Promise<Row[]> {
  const direct = { tcp: new Runs(), mptcp: new Runs() };
  const through = new Map<string, { tcp: Runs; mptcp: Runs }>();
  const world = new BalancerWorld({ servers: 2 });
  const directory = mkdtempSync(join(tmpdir(), 'subflow-short-'));
  try {
    await world.startServers();
    const client = await world.startClient();
    for (let i = 0; i < ROUNDS; i++) {
      for (const kind of ['tcp', 'mptcp'] as const) {
        await direct[kind].take(() => opened(client, world.serverAddress(0), kind));
      }
      for (const [design, forwarding] of [
        ['maglev', 'dsr'],
        ['token-learned', 'dsr'],
        ['beamer', 'encapsulation'],
      ] as const) {
        const file = join(directory, `${design}.yaml`);
        const name = `short-${process.pid}-${design}`;
        writeFileSync(
          file,
          `name: ${name}\ninterface: eth0\ncontrol: ${directory}/${design}.sock\nstore: { log: ${directory}/${design}.log }\nservices:\n  - { name: web, address: ${SERVICE}, port: 443, design: ${design}, forwarding: ${forwarding}, health: { type: none }, servers: [ { name: s1, id: 1, address: ${world.serverAddress(0)} }, { name: s2, id: 2, address: ${world.serverAddress(1)} } ] }\n`,
        );
        if (forwarding === 'encapsulation') world.servers.forEach((_, k) => world.shim(k));
        const child = await world.start(world.balancers[0]!, BALANCER, [file]);
        const runs = through.get(design) ?? { tcp: new Runs(), mptcp: new Runs() };
        through.set(design, runs);
        for (const kind of ['tcp', 'mptcp'] as const) {
          await runs[kind].take(() => opened(client, SERVICE, kind));
        }
        const gone = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGTERM');
        await gone;
        world.removeShims();
      }
    }
  } finally {
    world.close();
    rmSync(directory, { recursive: true, force: true });
  }
  const rows: Row[] = [];
  for (const kind of ['tcp', 'mptcp'] as const) {
    const label = kind === 'tcp' ? 'TCP' : 'Multipath TCP';
    rows.push(row(`short connections, ${label}, direct`, '/s', direct[kind], null, null));
    for (const [design, runs] of through) rows.push(row(`short connections, ${label}, xdp ${design}`, '/s', runs[kind], 'direct', direct[kind]));
  }
  return rows;
}

/** Connections a second that a client opens to an address. */
async function opened(client: Awaited<ReturnType<BalancerWorld['startClient']>>, address: string, kind: 'tcp' | 'mptcp'): Promise<number> {
  const request = { do: 'short', seconds: 1, address, port: SERVICE_PORT, multipath: kind === 'mptcp' } as const;
  // Its process ends with the world.
  return (await within('the client', client.ask<{ perSecond: number }>(request), () => undefined)).perSecond;
}

/**
 * The kernel's own test cases (tools/testing/selftests/net/mptcp/mptcp_join.sh) and a few more, between our stack and the
 * kernel, in either role: limits, endpoints of every kind, removal and re-adding, priorities, flag C, fast close, cookies.
 */
import { findMptcpIn, parseAddress, SUBTYPE } from '@subflow/wire';
import type { MptcpConfig, StackEvent } from '@subflow/stack';
import { addressesOf, Bench, KernelPeer } from './bench.ts';
import type { BenchPath } from './bench.ts';
import { expectedHash } from './case.ts';
import { CLIENT_SEED, SERVER_SEED } from './protocol.ts';
import type { Direction, Header, Report } from './protocol.ts';
import { StackPeer } from './stack-peer.ts';
import type { StackReport } from './stack-peer.ts';

export interface Seen {
  bench: Bench;
  peer: StackPeer;
  kernel: Report | null;
  ours: StackReport | null;
  counters: Map<string, number>;
  events: readonly StackEvent[];
}

export interface Feature {
  name: string;
  role: 'our client' | 'our server';
  paths: number;
  families?: (i: number) => 4 | 6;
  /** Further subflows to wait for before the payload. */
  extra: number;
  direction?: Direction;
  size?: number;
  mptcp?: Partial<MptcpConfig>;
  fastOpen?: boolean;
  kernel?: (bench: Bench) => void;
  ours?: (bench: Bench) => void;
  /** When payload flows. */
  during?: (bench: Bench, peer: StackPeer, kernel: KernelPeer) => void;
  /** Both ends are to get every byte; otherwise what `check` says is all. */
  complete?: boolean;
  check(seen: Seen): string[];
}

const PORT = 8080;
const SIZE = 2_000_000;
const LINK = { rate: 40_000_000, delay: 2_000, queueTime: 50_000 };

/** Path i's device inside the namespace. */
const device = (bench: Bench, i: number): string => bench.tuns[i]!.name;
const kernelAddress = (i: number, family: 4 | 6 = 4): string => addressesOf(family, i).kernel;
const ourAddress = (i: number, family: 4 | 6 = 4): Uint8Array => parseAddress(addressesOf(family, i).ours);

const joins = (seen: Seen): number => seen.ours?.subflowsAtEnd ?? 0;
const expectSubflows = (seen: Seen, count: number): string[] => (joins(seen) === count ? [] : [`${joins(seen)} subflows, expected ${count}`]);
const counter = (seen: Seen, name: string): number => seen.counters.get(`MPTcpExt${name}`) ?? 0;
const expectCounter = (seen: Seen, name: string, least = 1): string[] =>
  counter(seen, name) >= least ? [] : [`the kernel's ${name} is ${counter(seen, name)}, expected ${least} or more`];
const expectNoCounter = (seen: Seen, name: string): string[] =>
  counter(seen, name) === 0 ? [] : [`the kernel's ${name} is ${counter(seen, name)}, expected 0`];
const happened = (seen: Seen, type: StackEvent['type'], more: object = {}): string[] =>
  seen.events.some((event) => event.type === type && Object.entries(more).every(([key, value]) => (event as unknown as Record<string, unknown>)[key] === value))
    ? []
    : [`no event ${type} ${JSON.stringify(more)}`];

const kernelSubflow = (bench: Bench, i: number, ...flags: string[]): void =>
  bench.namespace.mptcpEndpoint(kernelAddress(i), device(bench, i), ...(flags.length === 0 ? ['subflow'] : flags));
const after = (milliseconds: number, bench: Bench, action: () => void): void => {
  setTimeout(() => {
    action();
    bench.runner.pump();
  }, milliseconds);
};

export const FEATURES: readonly Feature[] = [
  {
    name: 'no JOIN: the server allows none',
    role: 'our client',
    paths: 2,
    extra: 0,
    kernel: (bench) => bench.namespace.mptcpLimits(0, 0),
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    check: (seen) => expectSubflows(seen, 1),
  },
  {
    name: 'no JOIN: the client allows none',
    role: 'our client',
    paths: 2,
    extra: 0,
    ours: (bench) => {
      bench.host.addEndpoint({ address: ourAddress(1), subflow: true });
      bench.host.setLimits({ subflows: 0 }, bench.now());
    },
    check: (seen) => [...expectSubflows(seen, 1), ...expectNoCounter(seen, 'MPJoinSynRx')],
  },
  {
    name: 'multiple subflows limited by the server',
    role: 'our client',
    paths: 4,
    extra: 1,
    kernel: (bench) => bench.namespace.mptcpLimits(1, 0),
    ours: (bench) => {
      for (const i of [1, 2, 3]) bench.host.addEndpoint({ address: ourAddress(i), subflow: true });
    },
    check: (seen) => [...expectSubflows(seen, 2), ...expectCounter(seen, 'MPJoinRejected')],
  },
  {
    name: 'multiple subflows limited by the client',
    role: 'our client',
    paths: 4,
    extra: 2,
    ours: (bench) => {
      for (const i of [1, 2, 3]) bench.host.addEndpoint({ address: ourAddress(i), subflow: true });
      bench.host.setLimits({ subflows: 2 }, bench.now());
    },
    check: (seen) => expectSubflows(seen, 3),
  },
  {
    name: 'multiple subflows',
    role: 'our client',
    paths: 4,
    extra: 3,
    ours: (bench) => {
      for (const i of [1, 2, 3]) bench.host.addEndpoint({ address: ourAddress(i), subflow: true });
    },
    check: (seen) => expectSubflows(seen, 4),
  },
  {
    name: 'multiple subflows, limited by us as server',
    role: 'our server',
    paths: 4,
    extra: 1,
    kernel: (bench) => {
      for (const i of [1, 2, 3]) kernelSubflow(bench, i);
    },
    ours: (bench) => bench.host.setLimits({ subflows: 1 }, bench.now()),
    check: (seen) => [...expectSubflows(seen, 2), ...(seen.bench.host.mptcpCounters.MPJoinRejected > 0 ? [] : ['we refused nothing'])],
  },
  {
    name: 'failing subflow: one path is dead from the start',
    role: 'our client',
    paths: 3,
    extra: 1,
    ours: (bench) => {
      for (const i of [1, 2]) bench.host.addEndpoint({ address: ourAddress(i), subflow: true });
      bench.links[1]!.forward.setUp(false);
      bench.links[1]!.backward.setUp(false);
    },
    check: (seen) => expectSubflows(seen, 2),
  },
  {
    name: 'signal address, single',
    role: 'our client',
    paths: 2,
    extra: 1,
    kernel: (bench) => kernelSubflow(bench, 1, 'signal'),
    check: (seen) => [
      ...expectSubflows(seen, 2),
      ...expectCounter(seen, 'AddAddrTx'),
      ...expectCounter(seen, 'EchoAdd'),
      ...happened(seen, 'address-announced', { byPeer: true }),
    ],
  },
  {
    name: 'signal addresses, multiple',
    role: 'our client',
    paths: 3,
    extra: 2,
    kernel: (bench) => {
      kernelSubflow(bench, 1, 'signal');
      kernelSubflow(bench, 2, 'signal');
    },
    check: (seen) => [...expectSubflows(seen, 3), ...expectCounter(seen, 'EchoAdd', 2)],
  },
  {
    name: 'signal addresses of both families',
    role: 'our client',
    paths: 2,
    families: (i) => (i === 0 ? 4 : 6),
    extra: 1,
    kernel: (bench) => bench.namespace.mptcpEndpoint(kernelAddress(1, 6), device(bench, 1), 'signal'),
    check: (seen) => expectSubflows(seen, 2),
  },
  {
    name: 'IPv6, subflow and signal',
    role: 'our client',
    paths: 3,
    families: () => 6,
    extra: 2,
    kernel: (bench) => bench.namespace.mptcpEndpoint(kernelAddress(2, 6), device(bench, 2), 'signal'),
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1, 6), subflow: true }),
    check: (seen) => expectSubflows(seen, 3),
  },
  {
    name: 'invalid signal address: nobody is there',
    role: 'our client',
    paths: 2,
    extra: 1,
    kernel: (bench) => {
      bench.namespace.mptcpEndpoint('203.0.113.77', null, 'signal');
      kernelSubflow(bench, 1, 'signal');
    },
    check: (seen) => [...expectSubflows(seen, 2), ...expectCounter(seen, 'EchoAdd', 2)],
  },
  {
    name: 'we announce, the kernel joins',
    role: 'our server',
    paths: 3,
    extra: 2,
    ours: (bench) => {
      for (const i of [1, 2]) bench.host.addEndpoint({ address: ourAddress(i), signal: true });
    },
    check: (seen) => [...expectSubflows(seen, 3), ...expectCounter(seen, 'AddAddr', 2), ...happened(seen, 'address-echoed')],
  },
  {
    name: 'ADD_ADDR timeout: our announcement is lost twice and repeated',
    role: 'our server',
    paths: 2,
    extra: 1,
    ours: (bench) => {
      bench.host.addEndpoint({ address: ourAddress(1), signal: true });
      let lost = 0;
      bench.links[0]!.forward.filter = (packet) => (lost < 2 && findMptcpIn(packet, SUBTYPE.addAddr) >= 0 && ++lost > 0 ? null : packet);
    },
    check: (seen) => [...expectSubflows(seen, 2), ...expectCounter(seen, 'AddAddr')],
  },
  {
    name: 'ADD_ADDR timeout: the kernel’s announcement is lost and repeated',
    role: 'our client',
    paths: 2,
    extra: 0,
    direction: 'both',
    size: 8_000_000,
    kernel: (bench) => {
      bench.namespace.sysctl('net.mptcp.add_addr_timeout', 1);
      kernelSubflow(bench, 1, 'signal');
      let lost = 0;
      bench.links[0]!.backward.filter = (packet) => (lost < 1 && findMptcpIn(packet, SUBTYPE.addAddr) >= 0 && ++lost > 0 ? null : packet);
    },
    check: (seen) => [...expectSubflows(seen, 2), ...expectCounter(seen, 'AddAddrTx', 1)],
  },
  {
    name: 'the kernel removes a subflow endpoint',
    role: 'our server',
    paths: 2,
    extra: 1,
    direction: 'both',
    kernel: (bench) => kernelSubflow(bench, 1),
    during: (bench) => after(80, bench, () => bench.namespace.run('ip', 'mptcp', 'endpoint', 'delete', 'id', '1')),
    check: (seen) => [...happened(seen, 'address-removed', { byPeer: true }), ...expectCounter(seen, 'RmAddrTx')],
  },
  {
    name: 'the kernel removes several',
    role: 'our server',
    paths: 3,
    extra: 2,
    direction: 'both',
    kernel: (bench) => {
      kernelSubflow(bench, 1);
      kernelSubflow(bench, 2);
    },
    during: (bench) =>
      after(80, bench, () => {
        for (const id of ['1', '2']) bench.namespace.run('ip', 'mptcp', 'endpoint', 'delete', 'id', id);
      }),
    check: (seen) => [...happened(seen, 'address-removed', { byPeer: true }), ...expectCounter(seen, 'RmAddrTx', 2)],
  },
  {
    name: 'the kernel flushes its announced addresses',
    role: 'our client',
    paths: 3,
    extra: 2,
    direction: 'both',
    kernel: (bench) => {
      kernelSubflow(bench, 1, 'signal');
      kernelSubflow(bench, 2, 'signal');
    },
    during: (bench) => after(80, bench, () => bench.namespace.run('ip', 'mptcp', 'endpoint', 'flush')),
    check: (seen) => happened(seen, 'address-removed', { byPeer: true }),
  },
  {
    name: 'the kernel removes id 0',
    role: 'our server',
    paths: 2,
    extra: 1,
    direction: 'both',
    kernel: (bench) => kernelSubflow(bench, 1),
    during: (bench) => after(80, bench, () => bench.namespace.run('ip', 'mptcp', 'endpoint', 'delete', 'id', '0', kernelAddress(0))),
    check: (seen) => happened(seen, 'address-removed', { byPeer: true, addressId: 0 }),
  },
  {
    name: 'we remove an endpoint',
    role: 'our client',
    paths: 3,
    extra: 2,
    direction: 'both',
    ours: (bench) => {
      for (const i of [1, 2]) bench.host.addEndpoint({ address: ourAddress(i), subflow: true });
    },
    during: (bench) => after(80, bench, () => void bench.host.removeEndpoint(1, bench.now())),
    check: (seen) => expectCounter(seen, 'RmAddr'),
  },
  {
    name: 'we withdraw several addresses with one option',
    role: 'our server',
    paths: 3,
    extra: 2,
    direction: 'both',
    ours: (bench) => {
      for (const i of [1, 2]) bench.host.addEndpoint({ address: ourAddress(i), signal: true });
    },
    during: (bench, peer) => after(80, bench, () => peer.connection!.withdraw([1, 2], bench.now())),
    check: (seen) => expectCounter(seen, 'RmAddr', 2),
  },
  {
    name: 'we remove id 0',
    role: 'our client',
    paths: 2,
    extra: 1,
    direction: 'both',
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    during: (bench) => after(80, bench, () => void bench.host.removeEndpoint(0, bench.now())),
    check: (seen) => expectCounter(seen, 'RmAddr'),
  },
  {
    name: 'an endpoint of ours is deleted and added again',
    role: 'our client',
    paths: 2,
    extra: 1,
    direction: 'both',
    size: 4_000_000,
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    during: (bench) => {
      after(60, bench, () => void bench.host.removeEndpoint(1, bench.now()));
      after(160, bench, () => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true, id: 1 }, bench.now()));
    },
    check: (seen) => [...expectCounter(seen, 'RmAddr'), ...expectCounter(seen, 'MPJoinAckRx', 2)],
  },
  {
    name: 'an endpoint of the kernel is deleted and added again',
    role: 'our server',
    paths: 2,
    extra: 1,
    direction: 'both',
    size: 4_000_000,
    kernel: (bench) => kernelSubflow(bench, 1),
    during: (bench) => {
      after(60, bench, () => bench.namespace.run('ip', 'mptcp', 'endpoint', 'delete', 'id', '1'));
      after(160, bench, () => kernelSubflow(bench, 1));
    },
    check: (seen) => [...expectCounter(seen, 'MPJoinSynAckRx', 2), ...happened(seen, 'address-removed', { byPeer: true })],
  },
  {
    name: 'backup by the join: the kernel keeps its data off it',
    role: 'our client',
    paths: 2,
    extra: 1,
    direction: 'down',
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true, backup: true }),
    check: (seen) => [...expectCounter(seen, 'MPJoinSynBackupRx'), ...carriedAtMost(seen, 1, 100_000)],
  },
  {
    name: 'backup by the kernel’s endpoint: we keep our data off it',
    role: 'our server',
    paths: 2,
    extra: 1,
    direction: 'down',
    kernel: (bench) => kernelSubflow(bench, 1, 'subflow', 'backup'),
    check: (seen) => carriedAtMost(seen, 1, 0),
  },
  {
    name: 'handover service: the further path is a backup for both',
    role: 'our client',
    paths: 2,
    extra: 1,
    direction: 'both',
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true, backup: true }),
    during: (bench) =>
      after(80, bench, () => {
        bench.links[0]!.forward.setUp(false);
        bench.links[0]!.backward.setUp(false);
      }),
    check: (seen) => expectCounter(seen, 'MPJoinSynBackupRx'),
  },
  {
    name: 'backup switched by us, there and back',
    role: 'our client',
    paths: 2,
    extra: 1,
    direction: 'both',
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    during: (bench, peer) => {
      const second = (): (typeof peer.connection & object)['subflows'][number] | undefined => peer.connection?.subflows.find((one) => one.joining);
      after(40, bench, () => {
        const subflow = second();
        if (subflow !== undefined) peer.connection!.setBackup(subflow, true, bench.now());
      });
      after(120, bench, () => {
        const subflow = second();
        if (subflow !== undefined) peer.connection!.setBackup(subflow, false, bench.now());
      });
    },
    check: (seen) => expectCounter(seen, 'MPPrioRx', 2),
  },
  {
    name: 'backup switched by the kernel',
    role: 'our server',
    paths: 2,
    extra: 1,
    direction: 'both',
    kernel: (bench) => kernelSubflow(bench, 1),
    during: (bench) => after(60, bench, () => bench.namespace.run('ip', 'mptcp', 'endpoint', 'change', 'id', '1', 'backup')),
    check: (seen) => [...happened(seen, 'subflow-priority', { byPeer: true, backup: true }), ...expectCounter(seen, 'MPPrioTx')],
  },
  {
    name: 'the kernel announces a port, we join it',
    role: 'our client',
    paths: 2,
    extra: 1,
    kernel: (bench) => bench.namespace.run('ip', 'mptcp', 'endpoint', 'add', kernelAddress(1), 'dev', device(bench, 1), 'signal', 'port', '9090'),
    check: (seen) => [...expectSubflows(seen, 2), ...expectCounter(seen, 'MPJoinPortSynRx'), ...expectCounter(seen, 'MPJoinPortAckRx')],
  },
  {
    name: 'we announce a port, the kernel joins it',
    role: 'our server',
    paths: 2,
    extra: 1,
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), signal: true, port: 9090 }),
    check: (seen) => [...expectSubflows(seen, 2), ...expectCounter(seen, 'PortAdd'), ...expectCounter(seen, 'MPJoinPortSynAckRx')],
  },
  {
    name: 'SYN cookies at the kernel',
    role: 'our client',
    paths: 2,
    extra: 1,
    kernel: (bench) => bench.namespace.sysctl('net.ipv4.tcp_syncookies', 2),
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    check: (seen) => [...expectSubflows(seen, 2), ...((seen.counters.get('TcpExtSyncookiesRecv') ?? 0) > 0 ? [] : ['the kernel used no cookie'])],
  },
  {
    name: 'SYN cookies at our server, for MP_CAPABLE and MP_JOIN',
    role: 'our server',
    paths: 2,
    extra: 1,
    mptcp: { synCookies: 'always', pendingJoins: 0 },
    kernel: (bench) => kernelSubflow(bench, 1),
    check: (seen) => [
      ...expectSubflows(seen, 2),
      ...((seen.bench.host.counters.get('tcp-syn-cookie-accepted') ?? 0) > 0 ? [] : ['we used no cookie']),
      ...((seen.bench.host.counters.get('mptcp-join-cookie-sent') ?? 0) > 0 ? [] : ['we used no cookie for the join']),
    ],
  },
  {
    name: 'flag C of the kernel: only the announced address is joined',
    role: 'our client',
    paths: 3,
    extra: 1,
    kernel: (bench) => {
      bench.namespace.sysctl('net.mptcp.allow_join_initial_addr_port', 0);
      kernelSubflow(bench, 2, 'signal');
    },
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    check: (seen) => [
      ...expectSubflows(seen, 2),
      ...(seen.events.some((event) => event.type === 'subflow-created' && event.subflow > 0 && event.remote.startsWith(`${kernelAddress(0)}:`))
        ? ['we joined the initial address']
        : []),
    ],
  },
  {
    name: 'our flag C: the kernel joins only what we announce',
    role: 'our server',
    paths: 3,
    extra: 1,
    mptcp: { denyJoinInitial: true },
    kernel: (bench) => kernelSubflow(bench, 1),
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(2), signal: true }),
    check: (seen) =>
      seen.events.some((event) => event.type === 'subflow-created' && event.subflow > 0 && event.local.startsWith(`${addressesOf(4, 0).ours}:`))
        ? ['the kernel joined the initial address']
        : expectCounter(seen, 'AddAddr'),
  },
  {
    name: 'fullmesh endpoint of the kernel',
    role: 'our server',
    paths: 3,
    extra: 2,
    kernel: (bench) => kernelSubflow(bench, 1, 'subflow', 'fullmesh'),
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), signal: true }),
    check: (seen) => (joins(seen) >= 3 ? [] : [`${joins(seen)} subflows, expected 3 or more`]),
  },
  {
    name: 'fullmesh endpoint of ours',
    role: 'our client',
    paths: 3,
    extra: 2,
    kernel: (bench) => kernelSubflow(bench, 1, 'signal'),
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true, fullmesh: true }),
    check: (seen) => expectSubflows(seen, 3),
  },
  {
    name: 'laminar endpoint of ours answers an announcement',
    role: 'our client',
    paths: 3,
    extra: 1,
    kernel: (bench) => kernelSubflow(bench, 1, 'signal'),
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), laminar: true }),
    check: (seen) => [...expectSubflows(seen, 2), ...happened(seen, 'subflow-created', { interface: 'path1' })],
  },
  {
    name: 'limits raised while the connection is up',
    role: 'our client',
    paths: 2,
    extra: 0,
    direction: 'both',
    size: 4_000_000,
    ours: (bench) => {
      bench.host.addEndpoint({ address: ourAddress(1), subflow: true });
      bench.host.setLimits({ subflows: 0 }, bench.now());
    },
    during: (bench) => after(80, bench, () => bench.host.setLimits({ subflows: 2 }, bench.now())),
    check: (seen) => expectCounter(seen, 'MPJoinAckRx'),
  },
  {
    name: 'checksums wanted by the kernel',
    role: 'our client',
    paths: 2,
    extra: 1,
    direction: 'both',
    kernel: (bench) => bench.namespace.sysctl('net.mptcp.checksum_enabled', 1),
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    check: (seen) => [...expectNoCounter(seen, 'DataCsumErr'), ...(seen.kernel?.info?.checksum === true ? [] : ['the kernel says: no checksums'])],
  },
  {
    name: 'fast close by us',
    role: 'our client',
    paths: 2,
    extra: 1,
    direction: 'both',
    size: 20_000_000,
    complete: false,
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    during: (bench, peer) => after(60, bench, () => peer.connection!.abort(bench.now())),
    check: (seen) => [
      ...expectCounter(seen, 'MPFastcloseRx'),
      ...(seen.kernel?.error?.includes('ECONNRESET') ? [] : [`the kernel's application saw ${seen.kernel?.error ?? 'nothing'}`]),
    ],
  },
  {
    name: 'fast close by us, option A',
    role: 'our client',
    paths: 2,
    extra: 1,
    direction: 'both',
    size: 20_000_000,
    complete: false,
    mptcp: { fastclose: 'ack' },
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    during: (bench, peer) => after(60, bench, () => peer.connection!.abort(bench.now())),
    check: (seen) => expectCounter(seen, 'MPFastcloseRx'),
  },
  {
    name: 'fast close by the kernel',
    role: 'our server',
    paths: 2,
    extra: 1,
    direction: 'both',
    size: 20_000_000,
    complete: false,
    kernel: (bench) => kernelSubflow(bench, 1),
    during: (bench, _peer, kernel) => after(60, bench, () => kernel.send({ op: 'reset' })),
    check: (seen) => [
      ...(seen.ours?.closeReason === 'reset' ? [] : [`we closed with ${seen.ours?.closeReason}`]),
      ...(seen.bench.host.mptcpCounters.MPFastcloseRx > 0 ? [] : ['no MP_FASTCLOSE came']),
    ],
  },
  {
    name: 'Fast Open to the kernel: the second connection brings data on its SYN',
    role: 'our client',
    paths: 1,
    extra: 0,
    direction: 'both',
    fastOpen: true,
    kernel: (bench) => bench.namespace.sysctl('net.ipv4.tcp_fastopen', 0x403),
    check: (seen) => ((seen.counters.get('TcpExtTCPFastOpenPassive') ?? 0) > 0 ? [] : ['the kernel took no data from a SYN']),
  },
  {
    name: 'Fast Open from the kernel',
    role: 'our server',
    paths: 1,
    extra: 0,
    direction: 'both',
    fastOpen: true,
    kernel: (bench) => bench.namespace.sysctl('net.ipv4.tcp_fastopen', 1),
    check: (seen) => ((seen.counters.get('TcpExtTCPFastOpenActive') ?? 0) > 0 ? [] : ['the kernel sent no data on its SYN']),
  },
  {
    name: 'version 0 offered to the kernel is plain TCP',
    role: 'our client',
    paths: 1,
    extra: 0,
    mptcp: { versions: [0] },
    check: (seen) => (seen.ours?.mode === 'tcp' ? [] : ['Multipath TCP of version 0 with a kernel that has none']),
  },
  {
    name: '"0, then 1" reaches the kernel with the second try',
    role: 'our client',
    paths: 2,
    extra: 1,
    mptcp: { versions: [0, 1] },
    ours: (bench) => void bench.host.addEndpoint({ address: ourAddress(1), subflow: true }),
    check: (seen) => [...expectSubflows(seen, 2), ...happened(seen, 'version-retry', { refused: 0, next: 1 })],
  },
];

/** Payload bytes on a subflow of ours, both ways. */
function carriedAtMost(seen: Seen, subflow: number, limit: number): string[] {
  const share = seen.ours?.perSubflow.get(subflow);
  const total = (share?.sent ?? 0) + (share?.received ?? 0);
  return total <= limit ? [] : [`subflow ${subflow} carried ${total} bytes, at most ${limit} expected`];
}

/** Runs one feature. Empty: good. */
export async function runFeature(feature: Feature): Promise<string[]> {
  const family = feature.families ?? (() => 4 as const);
  const paths: BenchPath[] = Array.from({ length: feature.paths }, (_, i) => ({ family: family(i), link: LINK }));
  const capture = process.env['SUBFLOW_CAPTURE'];
  const bench = new Bench({ label: 'feature', paths, mptcp: feature.mptcp ?? {}, ...(capture === undefined ? {} : { capture }) });
  const problems: string[] = [];
  try {
    bench.namespace.mptcpLimits(8, 8);
    feature.kernel?.(bench);
    feature.ours?.(bench);
    const kernel = new KernelPeer(bench.namespace);
    await kernel.next();
    const rounds = feature.fastOpen === true ? 2 : 1;
    for (let round = 1; round <= rounds; round++) {
      const seen = await oneConnection(feature, bench, kernel, paths, round === 1);
      if (feature.complete !== false) problems.push(...complete(feature, seen));
      if (round === rounds) problems.push(...feature.check(seen));
    }
  } catch (error) {
    problems.push((error as Error).message);
  } finally {
    bench.remove();
  }
  return problems;
}

async function oneConnection(feature: Feature, bench: Bench, kernel: KernelPeer, paths: readonly BenchPath[], first: boolean): Promise<Seen> {
  const header: Header = { direction: feature.direction ?? 'down', size: feature.size ?? SIZE, extraSubflows: feature.extra };
  const start = addressesOf(paths[0]!.family, 0);
  let peer: StackPeer;
  if (feature.role === 'our client') {
    peer = new StackPeer(bench.runner, true, header);
    peer.onStart = () => feature.during?.(bench, peer, kernel);
    if (first) {
      kernel.send({ op: 'listen', address: paths.every((path) => path.family === 4) ? '0.0.0.0' : '::', port: PORT });
      await kernel.next();
    }
    peer.connect(parseAddress(start.kernel), PORT, undefined, feature.fastOpen ?? false);
  } else {
    if (first) bench.host.listen({ port: PORT, fastOpen: feature.fastOpen ?? false });
    peer = new StackPeer(bench.runner, false, null);
    peer.onStart = () => feature.during?.(bench, peer, kernel);
    kernel.send({ op: 'connect', address: start.ours, port: PORT, header, mapped: false, fastOpen: feature.fastOpen ?? false });
  }
  const late = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new Error('not finished after 30 s')), 30_000).unref();
  });
  const [ours, report] = await Promise.race([Promise.all([peer.done, kernel.report(30_000)]), late]);
  return { bench, peer, ours, kernel: report, counters: bench.namespace.counters(), events: peer.events };
}

/** Every byte at both ends. */
function complete(feature: Feature, seen: Seen): string[] {
  const size = feature.size ?? SIZE;
  const direction = feature.direction ?? 'down';
  const clientSends = direction !== 'down';
  const serverSends = direction !== 'up';
  const weAreClient = feature.role === 'our client';
  const problems: string[] = [];
  const check = (name: string, report: Report | null, receives: boolean, seed: number): void => {
    if (report?.error) problems.push(`${name}: ${report.error}`);
    if (receives && (report?.received !== size || report.hash !== expectedHash(seed, size)))
      problems.push(`${name} received ${report?.received ?? 0} of ${size} bytes`);
  };
  check('our side', seen.ours, weAreClient ? serverSends : clientSends, weAreClient ? SERVER_SEED : CLIENT_SEED);
  check('the kernel', seen.kernel, weAreClient ? clientSends : serverSends, weAreClient ? CLIENT_SEED : SERVER_SEED);
  return problems;
}

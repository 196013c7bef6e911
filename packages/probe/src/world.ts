/** An emulated path with a prober at one end and an echo server at the other: for tests, benchmarks and lessons. */
import { Agenda, Chain, MIDDLEBOXES, Random } from '@subflow/emulator';
import type { LinkConfig, RouterConfig } from '@subflow/emulator';
import type { MptcpConfig } from '@subflow/stack';
import { parseAddress } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { EchoServer } from './echo-server.ts';
import { ProbeError } from './errors.ts';
import { Hub } from './hub.ts';
import { VirtualPort } from './virtual.ts';

export interface WorldOptions {
  seed: number;
  family?: 4 | 6;
  /** Routers on the path. */
  routers?: number;
  /** Octets that routers quote behind the IP header. */
  quote?: number;
  /** Changes to single routers. */
  router?: (i: number) => Partial<RouterConfig>;
  link?: Partial<LinkConfig>;
  /** Names of the catalogue, and the link each box stands on. */
  boxes?: readonly { name: string; link: number }[];
  mptcp?: Partial<MptcpConfig>;
  /** Without an echo server the far end is the caller's. */
  server?: boolean;
}

export const WORLD_PORT = 8443;

export class ProbeWorld {
  readonly agenda = new Agenda();
  readonly chain: Chain;
  readonly hub: Hub;
  readonly serverHub: Hub;
  readonly target: IpAddress;
  readonly client: IpAddress;
  readonly server: EchoServer | null;

  /** Throws {@link ProbeError} `BAD_STATE` for a box that is not in the catalogue. */
  constructor(options: WorldOptions) {
    const random = new Random(options.seed);
    const v4 = options.family !== 6;
    const address = (four: string, six: string): IpAddress => parseAddress(v4 ? four : six);
    this.client = address('192.0.2.10', '2001:db8:1::10');
    const second = address('192.0.2.11', '2001:db8:1::11');
    this.target = address('198.51.100.20', '2001:db8:2::20');
    const routers = Array.from({ length: options.routers ?? 5 }, (_, i) => ({
      address: parseAddress(`203.0.113.${i + 1}`),
      address6: parseAddress(`2001:db8:f::${i + 1}`),
      ...(options.quote === undefined ? {} : { quote: options.quote }),
      ...options.router?.(i),
    }));
    this.chain = new Chain(this.agenda, random.fork('chain'), { routers, ...(options.link === undefined ? {} : { link: options.link }) });
    for (const { name, link } of options.boxes ?? []) {
      const row = MIDDLEBOXES[name];
      if (row === undefined) throw new ProbeError('BAD_STATE', `no box "${name}" in the catalogue; expected one of ${Object.keys(MIDDLEBOXES).join(', ')}`);
      this.chain.attach(row.make({ random: random.fork(name), outside: address('203.0.113.200', '2001:db8:f::200') }), link);
    }
    const clientPort = new VirtualPort(this.agenda, random.fork('client'), [this.client, second], (packet) => this.chain.fromClient(packet));
    const serverPort = new VirtualPort(this.agenda, random.fork('server'), [this.target], (packet) => this.chain.fromServer(packet));
    this.chain.client = (packet) => clientPort.deliver(packet);
    this.chain.server = (packet) => serverPort.deliver(packet);
    this.hub = new Hub(clientPort);
    this.serverHub = new Hub(serverPort);
    this.server =
      options.server === false
        ? null
        : new EchoServer(this.serverHub, { port: WORLD_PORT, addresses: [this.target], ...(options.mptcp === undefined ? {} : { mptcp: options.mptcp }) });
  }
}

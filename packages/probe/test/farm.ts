/** Thousands of servers behind one link: what each address answers is drawn from the address. */
import { LinkDirection, PERFECT_LINK, Random } from '@subflow/emulator';
import type { Agenda } from '@subflow/emulator';
import { VirtualPort } from '@subflow/probe';
import { buildPacket, FLAG, ipHeader, isMalformed, parsePacketValue, PROTOCOL } from '@subflow/wire';
import type { TcpOption } from '@subflow/wire';

export const FARM_KINDS = ['version 1', 'version 0', 'no Multipath TCP', 'mirror', 'silent', 'refused'] as const;
export type FarmKind = (typeof FARM_KINDS)[number];

/** What the server at an address is. */
export function farmKind(address: Uint8Array): FarmKind {
  return FARM_KINDS[
    Math.imul(address[2]! * 256 + address[3]! + 1, 0x9e3779b1) >>> 29 > 5 ? 2 : Math.imul(address[2]! * 256 + address[3]! + 1, 0x9e3779b1) >>> 29
  ]!;
}

export class Farm {
  readonly port: VirtualPort;
  /** Connections that were opened and neither reset nor given up. */
  readonly open = new Set<string>();
  private readonly toClient: LinkDirection;
  private readonly toFarm: LinkDirection;
  private readonly random: Random;

  constructor(agenda: Agenda, seed: number, delay: number, loss = 0) {
    this.random = new Random(seed);
    const link = { ...PERFECT_LINK, delay, loss };
    this.port = new VirtualPort(agenda, this.random.fork('client'), [Uint8Array.of(192, 0, 2, 1)], (packet) => this.toFarm.send(packet));
    this.toClient = new LinkDirection(agenda, this.random.fork('back'), link, (packet) => this.port.deliver(packet));
    this.toFarm = new LinkDirection(agenda, this.random.fork('there'), link, (packet) => this.answer(packet));
  }

  private answer(bytes: Uint8Array): void {
    const packet = parsePacketValue(bytes);
    if (isMalformed(packet) || packet.tcp === null) return;
    const { tcp, ip } = packet;
    const key = `${ip.destination.join('.')}:${tcp.sourcePort}`;
    if ((tcp.flags & FLAG.rst) !== 0) {
      this.open.delete(key);
      return;
    }
    if ((tcp.flags & (FLAG.syn | FLAG.ack)) !== FLAG.syn) return;
    const kind = farmKind(ip.destination);
    if (kind === 'silent') return;
    const options: TcpOption[] = [{ kind: 'mss', value: 1460 }];
    const capable = tcp.options.find((one) => one.kind === 'mptcp');
    if (kind === 'mirror') options.push(...tcp.options.filter((one) => one.kind === 'mptcp' || one.kind === 'unknown'));
    const version = capable?.kind === 'mptcp' && capable.option.subtype === 'capable' ? capable.option.version : -1;
    if ((kind === 'version 1' && version === 1) || (kind === 'version 0' && version === 0)) {
      options.push({
        kind: 'mptcp',
        option: {
          subtype: 'capable',
          version,
          flags: 1,
          senderKey: { high: this.random.uint32(), low: 7 },
          receiverKey: null,
          dataLength: null,
          checksum: null,
        },
      });
    }
    const refused = kind === 'refused';
    if (!refused) this.open.add(key);
    this.toClient.send(
      buildPacket(ipHeader(ip.destination, ip.source, PROTOCOL.tcp), {
        tcp: {
          sourcePort: tcp.destinationPort,
          destinationPort: tcp.sourcePort,
          seq: refused ? 0 : this.random.uint32(),
          ack: (tcp.seq + 1) >>> 0,
          headerLength: 20,
          reserved: 0,
          flags: refused ? FLAG.rst | FLAG.ack : FLAG.syn | FLAG.ack,
          window: 65_535,
          checksum: 0,
          urgent: 0,
          options: refused ? [] : options,
        },
      }),
    );
  }
}

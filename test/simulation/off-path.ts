/**
 * A sender off the path: it knows the addresses and ports of every subflow, sees no packet, and sends either host
 * segments with random and boundary values. All that may change is counters and answers (RFC 9293 §3.10.7, RFC 5961).
 */
import { buildPacket, FLAG, ipHeader, PROTOCOL, tcpOptionLength } from '@subflow/wire';
import type { MptcpOption, TcpHeader, TcpOption } from '@subflow/wire';
import type { Random } from '@subflow/emulator';
import { STATE, STATE_NAMES } from '@subflow/stack';
import type { Subflow, Tcb } from '@subflow/stack';
import { flagsOf } from './packet-budget.ts';
import type { PacketBudget } from './packet-budget.ts';
import { differences, protocolState } from './protocol-state.ts';
import { SECOND } from './settings.ts';
import type { Side } from './side.ts';
import type { World } from './world.ts';

/** Segments of a scenario; a few scenarios see many. */
const FEWEST = 20;
const USUAL = 80;
const MANY = 400;
/** They come from 3 ms to 20 s after the start, as many in each decade. */
const FIRST = 3000;
const LAST = 20 * SECOND;
const REPORTED = 3;
const ROOM = 40;

/** What the sender chooses of a segment. */
export type Forged = Pick<TcpHeader, 'seq' | 'ack' | 'flags' | 'window' | 'options'> & { payload: Uint8Array };

export class OffPath {
  /** Segments sent, and those that were not because they were right by chance. */
  sent = 0;
  lucky = 0;
  readonly problems: string[] = [];
  /** Flags of the segment that is being handled, -1 when none is. */
  private handling = -1;
  private readonly random: Random;
  private readonly world: World;
  private readonly budget: PacketBudget;
  /** Every subflow that was ever known, also those in TIME-WAIT and those that are gone. */
  private readonly known = new Map<Side, Set<Subflow>>();
  private readonly noise = new Uint8Array(1400);

  constructor(world: World, budget: PacketBudget) {
    this.world = world;
    this.budget = budget;
    // A fork: what is drawn here changes nothing that others see.
    this.random = world.random.fork('off-path');
    for (let i = 0; i < this.noise.length; i++) this.noise[i] = i * 31;
  }

  start(at: number): void {
    const { random } = this;
    const count = random.chance(0.1) ? random.integer(USUAL, MANY) : random.integer(FEWEST, USUAL);
    for (let i = 0; i < count; i++) this.world.agenda.at(at + Math.round(FIRST * (LAST / FIRST) ** random.float()), (now) => this.inject(now));
  }

  /** Sees what the hosts send: an answer to a reset must not be one. */
  watch(side: Side, packet: Uint8Array): void {
    if (this.handling < 0 || (this.handling & FLAG.rst) === 0) return;
    if ((flagsOf(packet) & FLAG.rst) !== 0) this.report(`${side.name} answered a reset with a reset`);
  }

  private inject(now: number): void {
    const { random, world } = this;
    const side = random.chance(0.5) ? world.client : world.server;
    const target = this.target(side);
    if (target === null) return;
    const { tcb } = target;
    const forged = drawSegment(tcb, random, this.noise);
    if (isLucky(tcb, forged)) {
      this.lucky++;
      return;
    }
    this.sent++;
    this.budget.forged([world.client, world.server], now);
    const { payload, ...rest } = forged;
    const header: TcpHeader = { sourcePort: tcb.remotePort, destinationPort: tcb.localPort, headerLength: 20, reserved: 0, checksum: 0, urgent: 0, ...rest };
    const packet = buildPacket(ipHeader(tcb.remote, tcb.local, PROTOCOL.tcp), { tcp: header, payload });
    const { host } = side.node;
    const roots = [target.connection, target];
    const before = protocolState(roots);
    const sizes = { ...host.sizes, timers: 0 };
    const state = tcb.state;
    this.handling = forged.flags;
    host.handlePacket(tcb.interface, new DataView(packet.buffer), packet, 0, packet.length, true, now);
    const changed = differences(before, protocolState(roots));
    for (const [name, count] of Object.entries(host.sizes)) {
      const was = sizes[name as keyof typeof sizes];
      if (name !== 'timers' && was !== count) changed.push(`Host.${name} ${was} → ${count}`);
    }
    side.node.pump();
    this.handling = -1;
    if (changed.length > 0)
      this.report(`${side.name} changed by a segment from off the path (${describe(tcb, state, forged)}): ${changed.slice(0, 6).join(', ')}`);
  }

  private report(problem: string): void {
    if (this.problems.length < REPORTED) this.problems.push(problem);
  }

  /** A subflow to send to; mostly one that lives. */
  private target(side: Side): Subflow | null {
    const known = this.known.get(side) ?? new Set();
    this.known.set(side, known);
    for (const connection of side.node.host.connections.values()) for (const subflow of connection.subflows) known.add(subflow);
    const all = [...known];
    const living = all.filter((one) => one.tcb.state !== STATE.closed);
    if (all.length === 0) return null;
    const picked = this.random.pick(living.length > 0 && this.random.chance(0.9) ? living : all);
    // Ports may have been used again.
    return living.find((one) => one.tcb.remotePort === picked.tcb.remotePort && one.tcb.localPort === picked.tcb.localPort) ?? picked;
  }
}

/**
 * Whether TCP has to act on the segment: it is where it should be, by chance. Such a guess is what RFC 5961 makes
 * unlikely, not impossible, and no business of this property. `state` is the block's, unless the block itself is no longer
 * kept (TIME-WAIT).
 */
export function isLucky(tcb: Tcb, { seq, ack, flags, payload }: Forged, state: number = tcb.state): boolean {
  const syn = (flags & FLAG.syn) !== 0;
  const rst = (flags & FLAG.rst) !== 0;
  const acks = (flags & FLAG.ack) !== 0;
  const opens = syn && !acks && !rst;
  const acked = (ack - (tcb.iss + tcb.sndUna)) | 0;
  const flight = tcb.sndNxt - tcb.sndUna;
  // To a port that listens, the very ACK that began a connection may begin it once more: its number is a cookie (RFC 4987 §3.6).
  if (state === STATE.closed) return opens || (acks && !rst && ((seq - tcb.irs) | 0) === 1 && ((ack - tcb.iss) | 0) === 1);
  // Half open, what acknowledges too much draws RST <SEQ=SEG.ACK> (RFC 9293 §3.10.7.3, §3.10.7.4): a little beyond, that is the
  // number which the peer expects a moment later.
  if ((state === STATE.synSent || state === STATE.synReceived) && acks && !rst && acked > flight && acked < 2 ** 24) return true;
  // A SYN alone is a simultaneous open (RFC 9293 §3.5): anybody may send it.
  if (state === STATE.synSent) return acks ? acked > 0 && acked <= flight : opens;
  // From TIME-WAIT a SYN may begin anew (RFC 9293 §3.6.1), and the FIN again restarts it.
  const from = (seq - (tcb.irs + tcb.rcvNxt)) | 0;
  const to = from + payload.length + (syn ? 1 : 0) + ((flags & FLAG.fin) !== 0 ? 1 : 0);
  if (state === STATE.timeWait && (opens || ((flags & FLAG.fin) !== 0 && to === 0))) return true;
  if (state === STATE.synReceived && syn && seq >>> 0 === tcb.irs >>> 0) return true;
  // One octet beyond the window is taken by many (Linux, too), and a closed window by all that keep to RFC 9293 §3.10.7.4.
  const inWindow = from <= tcb.rcvEdge - tcb.rcvNxt && (from >= 0 || to > 0);
  if (!inWindow) return false;
  if (rst) return from === 0;
  // A half-open connection goes back to LISTEN (RFC 9293 §3.10.7.4, fourth); the others challenge.
  if (syn) return state === STATE.synReceived;
  if (!acks) return false;
  // Old acknowledgements are acceptable for as long as the largest window (RFC 5961 §5.2).
  return state === STATE.synReceived ? acked > 0 && acked <= flight : acked >= -tcb.maxSndWnd && acked <= flight;
}

function drawSegment(tcb: Tcb, random: Random, noise: Uint8Array): Forged {
  const payload = noise.subarray(0, random.chance(0.5) ? 0 : random.pick([1, 2, random.integer(1, 1400)]));
  const flags = random.chance(0.1) ? random.integer(0, 255) : random.pick(FLAGS);
  const window = random.pick([0, 1, 65535, random.integer(0, 65535)]);
  return { seq: drawSeq(tcb, payload.length, random), ack: drawAck(tcb, random), flags, window, options: drawOptions(tcb, random), payload };
}

const { fin, syn, rst, psh, ack: ACK, urg, ece, cwr } = FLAG;
const FLAGS = [ACK, ACK, ACK, ACK | psh, ACK | fin, ACK | urg, fin, rst, rst | ACK, syn, syn | ACK, syn | ece | cwr, syn | fin, 0, psh];

/** Half of all numbers are drawn from all there are, the others lie where a comparison may go wrong. */
function drawSeq(tcb: Tcb, length: number, random: Random): number {
  if (random.chance(0.5)) return random.uint32();
  const window = tcb.rcvEdge - tcb.rcvNxt;
  const offsets = [0, 1, -1, -2, -length, -length - 1, -65_535, window >>> 1, window - 1, window, window + 1, window + 2, -tcb.rcvNxt, 1 - tcb.rcvNxt, ...FAR];
  return (tcb.irs + tcb.rcvNxt + random.pick(offsets)) >>> 0;
}

function drawAck(tcb: Tcb, random: Random): number {
  if (random.chance(0.5)) return random.uint32();
  const flight = tcb.sndNxt - tcb.sndUna;
  const offsets = [0, -1, flight >>> 1, flight, flight + 1, flight + 2, flight + 65_536, -65_536, -tcb.sndUna, 1 - tcb.sndUna, ...FAR];
  return (tcb.iss + tcb.sndUna + random.pick(offsets)) >>> 0;
}

const FAR = [2 ** 30, -(2 ** 30), 2 ** 31 - 1, -(2 ** 31)];

function drawOptions(tcb: Tcb, random: Random): TcpOption[] {
  if (random.chance(0.3)) return [];
  const some: TcpOption[] = [];
  if (random.chance(0.6)) some.push({ kind: 'timestamps', value: random.uint32(), echo: random.uint32() });
  for (let count = random.integer(0, 2); count > 0; count--) some.push(drawOption(tcb, random));
  let room = ROOM;
  return some.filter((option) => (room -= tcpOptionLength(option)) >= 0);
}

function drawOption(tcb: Tcb, random: Random): TcpOption {
  const kind = random.integer(0, 7);
  if (kind === 0) return { kind: 'mss', value: random.pick([0, 1, 536, 1460, 65535]) };
  if (kind === 1) return { kind: 'window-scale', shift: random.integer(0, 255) };
  if (kind === 2) return { kind: 'sack-permitted' };
  if (kind === 3) {
    const left = random.chance(0.5) ? random.uint32() : tcb.iss + tcb.sndUna + random.integer(0, Math.max(1, tcb.sndNxt - tcb.sndUna));
    return { kind: 'sack', blocks: [[left >>> 0, (left + random.integer(0, 3000)) >>> 0]] };
  }
  return { kind: 'mptcp', option: drawMptcp(random) };
}

/** Options without the keys: whoever does not see the handshake can only guess. */
function drawMptcp(random: Random): MptcpOption {
  const number = { high: random.uint32(), low: random.uint32() };
  const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => random.integer(0, 255));
  const flags = random.integer(0, 15);
  switch (random.integer(0, 10)) {
    case 0:
      return { subtype: 'dss', flags: 3, dataAck: number, dsn: null, ssn: 0, dataLength: 0, checksum: null };
    case 1:
    case 2: {
      const fin = random.chance(0.3) ? 0x10 : 0;
      return {
        subtype: 'dss',
        flags: 0x0c | fin,
        dataAck: null,
        dsn: number,
        ssn: random.uint32(),
        dataLength: random.pick([0, 1, 1400, 65535]),
        checksum: null,
      };
    }
    case 3:
      return { subtype: 'add-addr', version: 1, flags: 0, addressId: flags, address: Uint8Array.of(198, 51, 100, 7), port: null, hmac: bytes(8) };
    case 4:
      return { subtype: 'remove-addr', flags: 0, addressIds: [0, flags] };
    case 5:
      return { subtype: 'prio', flags: 1, addressId: random.chance(0.5) ? flags : null };
    case 6:
      return { subtype: 'fail', reserved: 0, dsn: number };
    case 7:
      return { subtype: 'fastclose', reserved: 0, receiverKey: number };
    case 8:
      return { subtype: 'tcprst', flags, reason: random.integer(0, 6) };
    case 9:
      return { subtype: 'capable', version: random.pick([0, 1]), flags: 1, senderKey: number, receiverKey: null, dataLength: null, checksum: null };
    default:
      return { subtype: 'join-ack', reserved: 0, hmac: bytes(20) };
  }
}

function describe(tcb: Tcb, state: number, { seq, ack, flags, payload, options }: Forged): string {
  const from = (seq - (tcb.irs + tcb.rcvNxt)) | 0;
  const acked = (ack - (tcb.iss + tcb.sndUna)) | 0;
  const names = options.map((option) => (option.kind === 'mptcp' ? option.option.subtype : option.kind));
  const set = Object.entries(FLAG).flatMap(([name, bit]) => ((flags & bit) !== 0 ? [name] : []));
  return `${STATE_NAMES[state]}, RCV.NXT ${from < 0 ? '-' : '+'} ${Math.abs(from)}, SND.UNA ${acked < 0 ? '-' : '+'} ${Math.abs(acked)}, ${set.join('+')}, ${payload.length} bytes, ${names.join(' ')}`;
}

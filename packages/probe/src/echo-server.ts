/**
 * The echo server: a host of our stack, with Multipath TCP, that keeps what really arrived and left, tells the prober on
 * request, and sends packets of its own again so that the way back can be walked too. It answers HTTP, so that the whole
 * conversation can be held with it, and tells a browser what it saw.
 */
import { buildPacket, FLAG, formatAddress, formatEndpoint, isMalformed, parsePacketValue, parseTcpOptions, sameAddress } from '@subflow/wire';
import type { IpAddress } from '@subflow/wire';
import { MODE, noPathManager } from '@subflow/stack';
import type { Connection, MptcpConfig } from '@subflow/stack';
import { hex, mptcpHex, seen } from './compare.ts';
import { layersOf } from './layers.ts';
import { decodeFrame, encodeFrame, unhex } from './echo-protocol.ts';
import type { EchoHop, EchoPacket, EchoRequest, EchoResponse, EchoTemplate } from './echo-protocol.ts';
import type { Hub, TcpPacket } from './hub.ts';
import { joined, PortHost } from './port-host.ts';
import type { ReservedPort } from './port.ts';
import { echoWalk, walk } from './walk.ts';

/** What is kept: the oldest flow is forgotten first. */
const MAX_FLOWS = 2048;
const MAX_PACKETS = 500;
const SNAP = 1600;
const MAX_REQUEST = 8192;
const PACKETS_PER_ANSWER = 60;
const MAX_TEMPLATES = 8;
const MAX_HOPS = 32;
/** Walks at a time: more would make the server a source of floods. */
const MAX_WALKS = 8;
const ROUTER_OPTION_LIMIT = 40;

/** Long enough for the way back to show what it does to full segments. */
const ABOUT = `This is the echo server of "subflow probe". It keeps the headers of what reaches this port, and tells the prober at the
other end of the path, so that boxes between the two become visible: translated addresses, options that were taken out,
sequence numbers that were changed, segments that were cut or joined.
${'The quick brown fox jumps over the lazy dog. '.repeat(24)}
`;

interface FlowRecord {
  id: number;
  remote: IpAddress;
  remotePort: number;
  local: IpAddress;
  irs: number;
  packets: EchoPacket[];
}

export interface EchoServerOptions {
  port: number;
  addresses: readonly IpAddress[];
  mptcp?: Partial<MptcpConfig>;
}

export class EchoServer {
  readonly counters = { flows: 0, requests: 0, damaged: 0, refused: 0, forgotten: 0 };
  onFlow: ((text: string) => void) | null = null;
  private readonly hub: Hub;
  private readonly host: PortHost;
  private readonly port: number;
  private readonly reserved: ReservedPort[];
  private readonly flows = new Map<string, FlowRecord>();
  private readonly byId = new Map<number, FlowRecord>();
  private readonly input = new Map<number, Uint8Array[]>();
  private serial = 0;
  private walks = 0;

  constructor(hub: Hub, options: EchoServerOptions) {
    this.hub = hub;
    this.port = options.port;
    this.reserved = options.addresses.map((address) => hub.port.reserve(address, options.port));
    this.host = new PortHost(hub, {
      addresses: options.addresses,
      // It opens no subflows itself: they would come from ports that are not ours.
      mptcp: { acceptVersions: [1, 0], pathManager: noPathManager, ...options.mptcp },
      onSend: (packet) => this.record('out', packet),
    });
    this.host.host.listen({ port: options.port });
    this.host.onEvent = (event) => {
      if (event.type !== 'connection-readable' && event.type !== 'connection-end' && event.type !== 'connection-closed') return;
      if (event.type === 'connection-closed') {
        this.input.delete(event.connection);
        return;
      }
      const connection = this.host.host.connections.get(event.connection);
      if (connection !== undefined) this.readable(connection);
    };
    hub.onStranger = (bytes) => {
      if (this.record('in', bytes)) this.host.receive(bytes);
    };
  }

  close(): void {
    for (const one of this.reserved) one.release();
    this.hub.onStranger = null;
  }

  /** Keeps a packet of a flow to our port. Returns whether it is for the host. */
  private record(direction: 'in' | 'out', bytes: Uint8Array): boolean {
    const packet = parsePacketValue(bytes);
    if (isMalformed(packet)) return false;
    if (packet.tcp === null) return packet.icmp?.kind === 'error';
    const { tcp, ip } = packet;
    if ((direction === 'in' ? tcp.destinationPort : tcp.sourcePort) !== this.port) return false;
    const remote = direction === 'in' ? ip.source : ip.destination;
    const remotePort = direction === 'in' ? tcp.sourcePort : tcp.destinationPort;
    const key = formatEndpoint(remote, remotePort);
    let flow = this.flows.get(key);
    const syn = direction === 'in' && (tcp.flags & (FLAG.syn | FLAG.ack)) === FLAG.syn;
    if (flow === undefined || (syn && tcp.seq !== flow.irs)) {
      if (direction === 'out') return true;
      if (flow !== undefined) this.forget(key, flow);
      flow = { id: ++this.serial, remote, remotePort, local: ip.destination, irs: tcp.seq, packets: [] };
      this.flows.set(key, flow);
      this.byId.set(flow.id, flow);
      this.counters.flows++;
      if (this.flows.size > MAX_FLOWS) {
        const [oldest, record] = this.flows.entries().next().value!;
        this.forget(oldest, record);
      }
      this.onFlow?.(arrivalText(key, bytes));
    }
    if (flow.packets.length < MAX_PACKETS) {
      flow.packets.push({ index: flow.packets.length, direction, at: Math.round(this.hub.now()), hex: hex(bytes.subarray(0, SNAP)) });
    } else {
      this.counters.forgotten++;
    }
    return true;
  }

  private forget(key: string, flow: FlowRecord): void {
    this.flows.delete(key);
    this.byId.delete(flow.id);
  }

  private readable(connection: Connection): void {
    const chunk = this.host.read(connection, MAX_REQUEST);
    const pieces = this.input.get(connection.id) ?? [];
    if (chunk.length > 0) pieces.push(chunk);
    this.input.set(connection.id, pieces);
    const bytes = joined(pieces);
    const request = decodeFrame(bytes);
    if (request !== null) {
      this.input.delete(connection.id);
      void this.answer(connection, request);
    } else {
      const text = new TextDecoder('latin1').decode(bytes);
      const end = text.indexOf('\r\n\r\n');
      if (/^(GET|HEAD|POST) /.test(text) && end >= 0) {
        this.input.set(connection.id, bytes.length > end + 4 ? [bytes.slice(end + 4)] : []);
        this.write(connection, this.page(connection, text.startsWith('HEAD')));
      } else if (bytes.length > MAX_REQUEST) {
        this.input.set(connection.id, []);
        this.counters.damaged++;
      }
    }
    if (connection.receiveEnded && !connection.sendClosed) connection.shutdown(this.host.now());
    this.host.pump();
  }

  private write(connection: Connection, bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && !connection.sendClosed) {
      const piece = bytes.subarray(at, at + 32_768);
      if (!connection.write(piece.slice(), this.host.now())) return;
      at += piece.length;
    }
  }

  private page(connection: Connection, head: boolean): Uint8Array {
    const body = `${JSON.stringify({ multipath: connection.mode === MODE.mptcp, subflows: connection.subflows.length })}\n${ABOUT}`;
    const text = `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\nServer: subflow-probe\r\n\r\n${head ? '' : body}`;
    return new TextEncoder().encode(text);
  }

  private async answer(connection: Connection, value: unknown): Promise<void> {
    this.counters.requests++;
    const asker = connection.remoteAddress;
    let response: EchoResponse;
    try {
      response = await this.respond(value as EchoRequest, asker);
    } catch (error) {
      this.counters.refused++;
      response = { ok: false, code: 'BAD_REQUEST', message: (error as Error).message };
    }
    this.write(connection, encodeFrame(response));
    if (!connection.sendClosed) connection.shutdown(this.host.now());
    this.host.pump();
  }

  private async respond(request: EchoRequest, asker: IpAddress): Promise<EchoResponse> {
    switch (request.op) {
      case 'flows': {
        const flows = [...this.byId.values()].filter((one) => one.id > request.since && sameAddress(one.remote, asker));
        return {
          ok: true,
          flows: flows
            .slice(-200)
            .map((one) => ({ id: one.id, remote: formatAddress(one.remote), remotePort: one.remotePort, irs: one.irs, packets: one.packets.length })),
          serial: this.serial,
          you: formatAddress(asker),
          server: formatAddress(flows.at(-1)?.local ?? new Uint8Array(4)),
        };
      }
      case 'packets': {
        const flow = this.flow(request.flow, asker);
        const packets = flow.packets.slice(request.from, request.from + PACKETS_PER_ANSWER);
        return { ok: true, packets, more: request.from + packets.length < flow.packets.length };
      }
      case 'again': {
        const flow = this.flow(request.flow, asker);
        const packets = this.templates(flow, request.packets);
        for (const one of packets) this.hub.send(one);
        return { ok: true, sent: packets.map(hex) };
      }
      case 'walk': {
        const flow = this.flow(request.flow, asker);
        const packets = this.templates(flow, request.packets);
        if (this.walks >= MAX_WALKS) throw new Error(`${MAX_WALKS} walks are under way; expected fewer`);
        this.walks++;
        try {
          const farthest = Math.min(MAX_HOPS, Math.max(0, Number(request.hops) || 0));
          // Packets that belong together may come apart by chance: once is not enough to say that nobody joins them.
          const result = await walk(this.hub, () => packets, { hops: farthest, ...(packets.length > 1 ? { repeat: 3 } : {}) });
          const hops: EchoHop[] = result.hops.map(({ ttl, answers }) => ({
            ttl,
            answers: answers.map(({ from, rtt, sent, quote }) => ({
              from: formatAddress(from),
              rtt,
              sent: hex(sent),
              quote: hex(quote.bytes),
              type: quote.type,
              code: quote.code,
            })),
          }));
          return { ok: true, hops, sent: packets.map(hex) };
        } finally {
          this.walks--;
        }
      }
      case 'distance': {
        const own = this.hub.port.source(asker);
        if (own === null) throw new Error('no way back');
        const result = await echoWalk(this.hub, own, asker, Math.min(MAX_HOPS, Math.max(1, Number(request.hops) || 1)));
        return { ok: true, distance: result.distance, hops: result.hops.map((one) => (one === null ? null : formatAddress(one))) };
      }
      default:
        throw new Error(`unknown request ${JSON.stringify((request as { op?: unknown }).op)}; expected flows, packets, again, walk or distance`);
    }
  }

  /** Only flows that came from the asker's own address: nobody else's packets are told or sent. */
  private flow(id: number, asker: IpAddress): FlowRecord {
    const flow = this.byId.get(id);
    if (flow === undefined || !sameAddress(flow.remote, asker)) throw new Error(`no flow ${id} of yours`);
    return flow;
  }

  private templates(flow: FlowRecord, list: readonly EchoTemplate[]): Uint8Array[] {
    if (!Array.isArray(list) || list.length === 0 || list.length > MAX_TEMPLATES) throw new Error(`${list?.length} packets; expected 1 to ${MAX_TEMPLATES}`);
    return list.map((template) => {
      const original = flow.packets[template.packet];
      const packet = original?.direction === 'out' ? parsePacketValue(unhex(original.hex)) : null;
      if (packet === null || isMalformed(packet) || packet.tcp === null) throw new Error(`packet ${template.packet} is not one that the server has sent`);
      return buildTemplate(packet as TcpPacket, template);
    });
  }
}

/** What the first packet of a flow looked like here: the line that the server prints. */
function arrivalText(from: string, bytes: Uint8Array): string {
  const packet = seen(bytes)!;
  const ecn = ['not ECT', 'ECT(1)', 'ECT(0)', 'CE'][packet.ecn]!;
  const options = mptcpHex(bytes);
  return `${from}  ${layersOf(bytes)}  TTL ${packet.ttl}, DSCP ${packet.dscp}, ${ecn}, sequence number ${packet.seq}, window ${packet.window}${options.length > 0 ? `, option 30 ${options.join(' ')}` : ''}`;
}

/** A packet sent before, with the changes a template asks for. */
function buildTemplate(packet: TcpPacket, template: EchoTemplate): Uint8Array {
  const from = template.from ?? 0;
  const payload = packet.payload.subarray(from, template.to ?? packet.payload.length);
  const tcp = { ...packet.tcp, seq: (packet.tcp.seq + from) >>> 0, window: (template.window ?? packet.tcp.window) & 0xffff };
  if (template.options !== undefined) {
    const bytes = unhex(template.options);
    if (bytes.length > ROUTER_OPTION_LIMIT) throw new Error(`${bytes.length} octets of options; expected 40 at most`);
    const options = parseTcpOptions(new DataView(bytes.buffer), 0, bytes.length);
    if (isMalformed(options)) throw new Error(`options ${template.options}: ${options.reason}`);
    tcp.options = options;
  }
  const ip = { ...packet.ip, ...(template.trafficClass === undefined ? {} : { trafficClass: template.trafficClass & 0xff }) };
  return buildPacket(ip, { tcp, payload });
}

/** Our side of the interop tests: the same protocol on our stack. */
import { createHash } from 'node:crypto';
import type { Connection, Host, StackEvent } from '@subflow/stack';
import { now } from '@subflow/link';
import { CLIENT_SEED, pattern, READY, SERVER_SEED } from './protocol.ts';
import type { Header, Report } from './protocol.ts';

const client = pattern(CLIENT_SEED);
const server = pattern(SERVER_SEED);

export interface StackReport extends Report {
  mode: string;
  fallbackReason: string | null;
  subflowsAtEnd: number;
  /** Payload bytes per subflow id, sent and received. */
  perSubflow: Map<number, { sent: number; received: number }>;
  closeReason: string | null;
  /** Addresses the peer has withdrawn. */
  addressesRemoved: number;
}

/** What moves packets and events of our host: a HostDriver, or a node on a real-time network. */
export interface Runner {
  readonly host: Host;
  onEvent: ((event: StackEvent, now: number) => void) | null;
  pump(): void;
}

/** One transfer on our stack, as client or as server. Resolves when the connection is over. */
export class StackPeer {
  readonly done: Promise<StackReport>;
  connection: Connection | null = null;
  readonly events: StackEvent[] = [];
  /** Called once, when payload starts to flow. */
  onStart: (() => void) | null = null;
  private readonly runner: Runner;
  private readonly hash = createHash('sha256');
  private readonly report: StackReport = {
    received: 0,
    hash: '',
    sent: 0,
    error: null,
    info: null,
    mode: '',
    fallbackReason: null,
    subflowsAtEnd: 0,
    perSubflow: new Map(),
    closeReason: null,
    addressesRemoved: 0,
  };
  private header: Header | null = null;
  private readonly isClient: boolean;
  private head = '';
  private started = false;
  private resolve!: (report: StackReport) => void;

  readonly settle: number;

  constructor(runner: Runner, isClient: boolean, header: Header | null, settle = 2_000_000) {
    this.settle = settle;
    this.runner = runner;
    this.isClient = isClient;
    this.header = header;
    this.done = new Promise((resolve) => {
      this.resolve = resolve;
    });
    runner.onEvent = (event, time) => this.event(event, time);
  }

  connect(remote: Uint8Array, port: number, local?: Uint8Array, fastOpen = false): void {
    this.connection = this.runner.host.connect({ remote, port, fastOpen, ...(local === undefined ? {} : { local }) }, now());
    this.connection.noDelay = true;
    const line = new TextEncoder().encode(`${JSON.stringify(this.header)}\n`);
    // Linux 6.18 does not send what its application wrote between Fast Open data and third ACK until something more comes
    // from the client: the end of the line follows a little later, so that the server answers only then.
    const early = fastOpen ? line.length - 1 : line.length;
    this.connection.write(line.subarray(0, early), now());
    if (fastOpen) {
      setTimeout(() => {
        this.connection!.write(line.subarray(early), now());
        this.runner.pump();
      }, 50);
    }
    this.runner.pump();
  }

  private event(event: StackEvent, time: number): void {
    if (event.type !== 'connection-readable' && event.type !== 'connection-writable') this.events.push(event);
    if (event.type === 'connection-accepted') {
      this.connection ??= this.runner.host.connections.get(event.connection) ?? null;
      this.read(time);
      return;
    }
    if (this.connection === null || !('connection' in event) || event.connection !== this.connection.id) return;
    switch (event.type) {
      case 'address-removed':
        if (event.byPeer) this.report.addressesRemoved++;
        break;
      case 'connection-readable':
      case 'connection-end':
        this.read(time);
        break;
      case 'connection-writable':
        if (this.started) this.send(time);
        break;
      case 'connection-closed':
        this.read(time);
        this.noteSubflows();
        this.report.hash = this.hash.digest('hex');
        this.report.mode = this.connection.mode;
        this.report.fallbackReason = this.connection.fallbackReason;
        this.report.closeReason = event.reason;
        if (event.reason !== 'normal') this.report.error = event.reason;
        this.resolve(this.report);
        break;
      default:
        break;
    }
  }

  private get sends(): boolean {
    return this.header !== null && (this.header.direction === 'both' || (this.header.direction === 'up') === this.isClient);
  }

  private read(time: number): void {
    const connection = this.connection!;
    for (let chunk = connection.peek(); chunk !== null; chunk = connection.peek()) {
      if (this.started) {
        this.payload(chunk);
        connection.consume(chunk.length, time);
        continue;
      }
      const end = chunk.indexOf(10);
      this.head += new TextDecoder().decode(chunk.subarray(0, end < 0 ? chunk.length : end + 1));
      connection.consume(end < 0 ? chunk.length : end + 1, time);
      if (end >= 0) this.start(time);
    }
    if (this.report.received === this.header?.size) this.noteSubflows();
    this.runner.pump();
  }

  private payload(chunk: Uint8Array): void {
    this.report.received += chunk.length;
    this.hash.update(chunk);
  }

  private start(time: number): void {
    this.started = true;
    const connection = this.connection!;
    if (!this.isClient) {
      this.header = JSON.parse(this.head) as Header;
      connection.write(new TextEncoder().encode(READY), time);
    }
    const deadline = time + this.settle;
    const begin = (): void => {
      if (connection.closed) return;
      const ready = connection.mode === 'tcp' || connection.subflows.filter((one) => one.established).length > this.header!.extraSubflows;
      if (!ready && now() < deadline) {
        setTimeout(begin, 2);
        return;
      }
      this.onStart?.();
      if (this.sends) this.send(now());
      else {
        connection.shutdown(now());
        this.runner.pump();
      }
    };
    setImmediate(begin);
  }

  private send(time: number): void {
    const connection = this.connection!;
    const body = this.isClient ? client : server;
    const { size } = this.header!;
    while (this.report.sent < size) {
      const at = this.report.sent % body.length;
      const piece = body.subarray(at, Math.min(body.length, at + Math.min(65536, size - this.report.sent)));
      if (!connection.write(piece, time)) break;
      this.report.sent += piece.length;
    }
    if (this.report.sent === size && !connection.sendClosed) {
      this.noteSubflows();
      connection.shutdown(time);
    }
    this.runner.pump();
  }

  private noteSubflows(): void {
    const connection = this.connection!;
    this.report.subflowsAtEnd = Math.max(this.report.subflowsAtEnd, connection.subflows.filter((one) => one.established).length);
    for (const one of connection.subflows) this.report.perSubflow.set(one.id, { sent: one.bytesScheduled, received: one.bytesReceived });
  }
}

/** Plays a script against one host of ours in virtual time: the script is the network, the peer and the application. */
import { Agenda, EmulatedHost, Random } from '@subflow/emulator';
import { Host, keyMaterial, versionOf } from '@subflow/stack';
import type { Interface, KeyMaterial } from '@subflow/stack';
import { buildPacket, FLAG, formatAddress, ipHeader, isMalformed, parseAddress, parsePacketValue, PROTOCOL, sameAddress } from '@subflow/wire';
import type { MpCapable, Packet, TcpOption } from '@subflow/wire';
import { Calls } from './calls.ts';
import { Symbols } from './keys.ts';
import { buildOption, compareOption } from './options.ts';
import type { OptionContext } from './options.ts';
import { parseScript } from './parser.ts';
import { Mismatch, ScriptError } from './script.ts';
import type { PacketSpec, Script, ScriptEvent } from './script.ts';
import { emptySetup, takeCommand } from './system.ts';
import type { Setup } from './system.ts';

/** As packetdrill's default. */
const DEFAULT_TOLERANCE = 4_000;
const START = 1_000_000;
/** Sequence number at which the script's side starts; scripts count from 0. */
const SCRIPT_ISS = 0x10000;
const PORT = 8080;
const FIRST_REMOTE_PORT = 1000;

/** One line of what happened, for people. */
export interface TraceLine {
  time: number;
  direction: 'in' | 'out';
  text: string;
}

export interface DrillResult {
  name: string;
  passed: boolean;
  /** What went wrong: a stable code, the line, what was expected and what was seen. */
  failure: { code: 'SCRIPT_SYNTAX' | 'SCRIPT_UNSUPPORTED' | 'DRILL_MISMATCH' | 'DRILL_TIMEOUT'; line: number; message: string } | null;
  events: number;
  trace: TraceLine[];
}

/** One pair of ends; numbers of the host and of the script's side. */
interface Flow {
  local: Uint8Array;
  localPort: number;
  remote: Uint8Array;
  remotePort: number;
  hostIss: number | null;
  hostNonce: number;
  scriptNonce: number;
  hostTimestamp: number;
}

interface Sent {
  time: number;
  packet: Packet;
}

/** Parses and plays a script. Never throws: what is wrong is in the result. */
export function runDrill(name: string, source: string): DrillResult {
  let script: Script;
  try {
    script = parseScript(name, source);
  } catch (error) {
    if (!(error instanceof ScriptError)) throw error;
    return { name, passed: false, failure: { code: error.code, line: error.line, message: error.message }, events: 0, trace: [] };
  }
  const runner = new Runner(script);
  return runner.run();
}

class Runner {
  readonly agenda = new Agenda(START);
  readonly symbols = new Symbols();
  private readonly script: Script;
  private readonly setup: Setup = emptySetup();
  private readonly isClient: boolean;
  private readonly v6: boolean;
  private readonly tolerance: number;
  private readonly random = new Random(1);
  private host: Host | null = null;
  private node: EmulatedHost | null = null;
  private calls: Calls | null = null;
  private interfaces: Interface[] = [];
  private readonly sent: Sent[] = [];
  private readonly flows: Flow[] = [];
  private readonly trace: TraceLine[] = [];
  private hostKey: KeyMaterial | null = null;
  private scriptKey: KeyMaterial | null = null;
  private lastTime = START;

  constructor(script: Script) {
    this.script = script;
    this.isClient = script.events.some((event) => event.type === 'call' && (event.call.name === 'connect' || event.call.name === 'sendto'));
    this.v6 = script.settings.get('ip_version') === 'ipv6';
    this.tolerance = Number(script.settings.get('tolerance_usecs') ?? DEFAULT_TOLERANCE);
  }

  run(): DrillResult {
    let events = 0;
    for (const event of this.script.events) {
      try {
        this.play(event);
        events++;
      } catch (error) {
        if (!(error instanceof Mismatch) && !(error instanceof ScriptError)) throw error;
        const message = error instanceof ScriptError ? error.message : `line ${event.line}: ${error.message}\n    ${event.text}`;
        return { name: this.script.name, passed: false, failure: { code: error.code, line: event.line, message }, events, trace: this.trace };
      }
    }
    return { name: this.script.name, passed: true, failure: null, events, trace: this.trace };
  }

  private play(event: ScriptEvent): void {
    if (event.type === 'command') {
      this.command(event);
      return;
    }
    this.start();
    const { time } = event;
    const at = time.kind === 'absolute' ? START + time.at : time.kind === 'relative' ? this.lastTime + time.at : this.agenda.now;
    const until = time.until === null ? at : time.kind === 'absolute' ? START + time.until : this.lastTime + time.until;
    if (event.type === 'packet' && event.packet.direction === 'out') {
      this.expect(event.packet, time.kind === 'any' ? null : at, until);
    } else {
      this.agenda.runUntil(at);
      if (event.type === 'packet') this.inject(event.packet);
      else this.calls!.call(event.call, event.line, Math.max(until, at) + this.tolerance);
    }
    this.lastTime = time.kind === 'any' ? this.agenda.now : Math.max(at, this.lastTime);
  }

  private command(event: ScriptEvent & { type: 'command' }): void {
    const { host } = this;
    if (host === null) {
      takeCommand(event.command, event.line, this.setup, (name) => this.resolve(name));
      return;
    }
    // While the host runs: what changes endpoints and limits.
    const now = this.agenda.now;
    const removed = /endpoint\s+delete\s+id\s+(\d+)/.exec(event.command);
    const changed = /endpoint\s+change\s+id\s+(\d+)\s+(\w+)/.exec(event.command);
    if (removed !== null) host.removeEndpoint(Number(removed[1]), now);
    else if (changed !== null) host.changeEndpoint(Number(changed[1]), { [changed[2]!.replace(/^no/, '')]: !changed[2]!.startsWith('no') }, now);
    else {
      const later = emptySetup();
      takeCommand(event.command, event.line, later, (name) => this.resolve(name));
      for (const endpoint of later.endpoints) host.addEndpoint(endpoint, now);
      if (Object.keys(later.limits).length > 0) host.setLimits(later.limits, now);
    }
    this.node!.pump();
  }

  /** Builds the host at the first event that needs it. */
  private start(): void {
    if (this.host !== null) return;
    const { setup } = this;
    // The host's entropy is fixed: tokens and nonces are the same in every run.
    this.host = new Host({ entropy: () => this.random.uint32(), tcp: setup.tcp, mptcp: setup.mptcp });
    this.host.setLimits(setup.limits, START);
    this.node = new EmulatedHost('host', this.host, this.agenda);
    for (let i = 0; i < 3; i++) {
      const through = this.host.addInterface({ name: `if${i}`, mtu: 1500, addresses: [{ address: this.local(i), bits: this.v6 ? 64 : 24 }] });
      this.host.addRoute(parseAddress(this.v6 ? '::' : '0.0.0.0'), 0, through);
      this.interfaces.push(through);
      this.node.attach(through, (packet) => {
        const parsed = parsePacketValue(packet);
        if (isMalformed(parsed) || parsed.tcp === null) throw new Mismatch('the host sent something that is no TCP segment');
        this.sent.push({ time: this.agenda.now, packet: parsed });
      });
    }
    for (const endpoint of setup.endpoints) this.host.addEndpoint(endpoint);
    this.calls = new Calls(this.host, this.node, this.agenda, { remote: this.remote(0), port: PORT, fastOpen: setup.fastOpen });
  }

  private local(i: number): Uint8Array {
    return parseAddress(this.v6 ? `2001:db8:${i}::1` : `${NETWORKS[i]}.1`);
  }

  private remote(i: number): Uint8Array {
    return parseAddress(this.v6 ? `2001:db8:${i}::2` : `${NETWORKS[i]}.2`);
  }

  /** saddr0, caddr1 … or an address as it is. */
  private resolve(name: string): Uint8Array {
    const match = /^(s|c)addr(\d)?$/.exec(name);
    if (match === null) return parseAddress(name);
    const i = Number(match[2] ?? 0);
    return (match[1] === 'c') === this.isClient ? this.local(i) : this.remote(i);
  }

  private end(text: string | null): { address: Uint8Array; port: number | null } | null {
    if (text === null) return null;
    const named = /^addr\[([^\]]+)\](?::(\d+))?$/.exec(text);
    if (named !== null) return { address: this.resolve(named[1]!), port: named[2] === undefined ? null : Number(named[2]) };
    const split = text.lastIndexOf(':');
    return { address: this.resolve(text.slice(0, split)), port: Number(text.slice(split + 1)) };
  }

  /** The flow a packet of the script belongs to; a SYN from outside makes a new one. */
  private flowOf(spec: PacketSpec): Flow {
    const from = this.end(spec.from);
    const to = this.end(spec.to);
    const [remote, local] = spec.direction === 'in' ? [from, to] : [to, from];
    const opens = spec.direction === 'in' && spec.flags === 'S';
    const known = this.flows.filter(
      (flow) =>
        (remote === null || (sameAddress(flow.remote, remote.address) && (remote.port === null || remote.port === flow.remotePort))) &&
        (local === null || (sameAddress(flow.local, local.address) && (local.port === null || local.port === flow.localPort))),
    );
    // Without addresses the first flow is meant, with them the latest that fits.
    const found = remote === null && local === null ? known[0] : known[known.length - 1];
    if (found !== undefined) return found;
    if (!opens) throw new Mismatch('no connection between these ends yet');
    const flow: Flow = {
      local: local?.address ?? this.local(0),
      localPort: local?.port ?? PORT,
      remote: remote?.address ?? this.remote(0),
      remotePort: remote?.port ?? FIRST_REMOTE_PORT + this.flows.length,
      hostIss: null,
      hostNonce: 0,
      scriptNonce: 0x5eed0000 + this.flows.length,
      hostTimestamp: 0,
    };
    this.flows.push(flow);
    return flow;
  }

  private context(flow: Flow, direction: 'in' | 'out', payload: Uint8Array): OptionContext {
    const fromScript = direction === 'in';
    return {
      symbols: this.symbols,
      sender: fromScript ? this.scriptKey : this.hostKey,
      receiver: fromScript ? this.hostKey : this.scriptKey,
      payload,
      flow: fromScript ? { senderNonce: flow.scriptNonce, receiverNonce: flow.hostNonce } : { senderNonce: flow.hostNonce, receiverNonce: flow.scriptNonce },
      timestampEcho: flow.hostTimestamp,
      resolve: (name) => this.resolve(name),
    };
  }

  private inject(spec: PacketSpec): void {
    const flow = this.flowOf(spec);
    const flags = flagBits(spec.flags);
    const payload = new Uint8Array(spec.length);
    for (let i = 0; i < payload.length; i++) payload[i] = (spec.seq + i) & 0xff;
    const context = this.context(flow, 'in', payload);
    this.noteVersion(spec);
    const options = (spec.options ?? []).map((option): TcpOption => {
      const built = buildOption(option, context);
      if (built.kind === 'mptcp' && built.option.subtype === 'capable') this.learnScriptKey(built.option, context);
      return built;
    });
    const through = this.interfaces.find((one) => one.addresses.some((own) => sameAddress(own.address, flow.local))) ?? this.interfaces[0]!;
    const packet = buildPacket(ipHeader(flow.remote, flow.local, PROTOCOL.tcp), {
      tcp: {
        sourcePort: flow.remotePort,
        destinationPort: flow.localPort,
        seq: (SCRIPT_ISS + spec.seq) >>> 0,
        ack: spec.ack === null ? 0 : ((flow.hostIss ?? 0) + spec.ack) >>> 0,
        headerLength: 20,
        reserved: 0,
        flags,
        window: spec.window ?? 65535,
        checksum: 0,
        urgent: spec.urgent ?? 0,
        options,
      },
      payload,
    });
    this.trace.push({
      time: this.agenda.now - START,
      direction: 'in',
      text: `${spec.flags} ${spec.seq}:${spec.seq + spec.length}(${spec.length})${describeOptions(options)}`,
    });
    this.node!.receive(through, packet, this.agenda.now);
  }

  /** The script's first key is the peer's; our HMACs and positions depend on it. */
  private learnScriptKey(option: MpCapable, context: OptionContext): void {
    if (option.senderKey === null || this.scriptKey !== null) return;
    this.scriptKey = keyMaterial(option.senderKey.high | 0, option.senderKey.low | 0, versionOf(this.symbols.version));
    context.sender = this.scriptKey;
  }

  private noteVersion(spec: PacketSpec): void {
    for (const option of spec.options ?? []) {
      if (/^mp_?capable$/i.test(option.name)) this.symbols.version = option.words.includes('v0') ? 0 : 1;
    }
  }

  private expect(spec: PacketSpec, at: number | null, until: number): void {
    const limit = at === null ? this.agenda.now + 3600e6 : until + this.tolerance;
    if (at !== null) this.agenda.runUntil(at);
    let found = this.take(spec);
    while (found === null && this.agenda.step(limit)) found = this.take(spec);
    if (found === null) {
      const other = this.sent[0];
      throw new Mismatch(other === undefined ? 'nothing was sent' : `instead there is: ${describe(other.packet)}`, 'DRILL_TIMEOUT');
    }
    const { time, packet } = found;
    if (at !== null && (time < at - this.tolerance || time > until + this.tolerance))
      throw new Mismatch(`sent at ${((time - START) / 1e6).toFixed(6)} s, expected at ${((at - START) / 1e6).toFixed(6)} s`, 'DRILL_TIMEOUT');
    this.compare(spec, packet);
  }

  /** The oldest packet of the flow the script means, taken out of the queue. */
  private take(spec: PacketSpec): Sent | null {
    for (let i = 0; i < this.sent.length; i++) {
      const { packet } = this.sent[i]!;
      const flow = this.flowOfSent(packet);
      if (!this.means(spec, flow)) continue;
      return this.sent.splice(i, 1)[0]!;
    }
    return null;
  }

  private flowOfSent(packet: Packet): Flow {
    const tcp = packet.tcp!;
    const same = (flow: Flow): boolean =>
      flow.localPort === tcp.sourcePort &&
      flow.remotePort === tcp.destinationPort &&
      sameAddress(flow.local, packet.ip.source) &&
      sameAddress(flow.remote, packet.ip.destination);
    let flow = this.flows.find(same);
    if (flow === undefined) {
      flow = {
        local: packet.ip.source,
        localPort: tcp.sourcePort,
        remote: packet.ip.destination,
        remotePort: tcp.destinationPort,
        hostIss: null,
        hostNonce: 0,
        scriptNonce: 0x5eed0000 + this.flows.length,
        hostTimestamp: 0,
      };
      this.flows.push(flow);
    }
    if ((tcp.flags & FLAG.syn) !== 0) flow.hostIss = tcp.seq;
    return flow;
  }

  private means(spec: PacketSpec, flow: Flow): boolean {
    if (spec.from === null && spec.to === null) return flow === this.flows[0];
    const from = this.end(spec.from)!;
    const to = this.end(spec.to)!;
    return (
      sameAddress(from.address, flow.local) &&
      sameAddress(to.address, flow.remote) &&
      (from.port === null || from.port === flow.localPort) &&
      (to.port === null || to.port === flow.remotePort)
    );
  }

  private compare(spec: PacketSpec, packet: Packet): void {
    const tcp = packet.tcp!;
    const flow = this.flowOfSent(packet);
    this.trace.push({ time: this.agenda.now - START, direction: 'out', text: describe(packet, flow.hostIss ?? 0) });
    for (const option of tcp.options) {
      if (option.kind === 'timestamps') flow.hostTimestamp = option.value;
      if (option.kind === 'mptcp' && (option.option.subtype === 'join-syn' || option.option.subtype === 'join-synack'))
        flow.hostNonce = option.option.nonce | 0;
    }
    const problems: string[] = [];
    const same = (what: string, expected: unknown, seen: unknown): void => {
      if (expected !== seen) problems.push(`${what} is ${String(seen)}, expected ${String(expected)}`);
    };
    same('flags', normal(spec.flags), normal(flagLetters(tcp.flags)));
    // Resets answer with numbers of the segment they refuse.
    const start = (tcp.flags & FLAG.rst) !== 0 && flow.hostIss === null ? 0 : (flow.hostIss ?? 0);
    same('sequence number', spec.seq, (tcp.seq - start) | 0);
    same('length', spec.length, packet.payload.length);
    if (spec.ack !== null) same('ack', spec.ack, (tcp.ack - SCRIPT_ISS) | 0);
    if (spec.window !== null) same('window', spec.window, tcp.window);
    this.noteVersion(spec);
    if (spec.options !== null) {
      this.learnHostKey(tcp.options);
      const context = this.context(flow, 'out', packet.payload);
      const expected = spec.options.filter((option) => !/^(nop|eol)$/i.test(option.name));
      const seen = tcp.options.filter((option) => option.kind !== 'nop' && option.kind !== 'end');
      same('number of options', expected.length, seen.length);
      expected.forEach((option, i) => {
        const there = seen[i];
        const problem = there === undefined ? null : compareOption(option, there, context);
        if (problem !== null) problems.push(problem);
      });
    }
    if (problems.length > 0) throw new Mismatch(`${problems.join('; ')}\n    seen: ${describe(packet, flow.hostIss ?? 0)}`);
  }

  private learnHostKey(options: readonly TcpOption[]): void {
    for (const option of options) {
      if (option.kind !== 'mptcp' || option.option.subtype !== 'capable' || option.option.senderKey === null) continue;
      const { high, low } = option.option.senderKey;
      this.hostKey = keyMaterial(high | 0, low | 0, versionOf(this.symbols.version));
    }
  }
}

const NETWORKS = ['192.0.2', '198.51.100', '203.0.113'] as const;

function flagBits(letters: string): number {
  let out = 0;
  for (const letter of letters)
    out |= { S: FLAG.syn, F: FLAG.fin, R: FLAG.rst, P: FLAG.psh, '.': FLAG.ack, U: FLAG.urg, E: FLAG.ece, W: FLAG.cwr }[letter] ?? 0;
  return out;
}

function flagLetters(flags: number): string {
  return `${flags & FLAG.fin ? 'F' : ''}${flags & FLAG.syn ? 'S' : ''}${flags & FLAG.rst ? 'R' : ''}${flags & FLAG.psh ? 'P' : ''}${flags & FLAG.ece ? 'E' : ''}${flags & FLAG.cwr ? 'W' : ''}${flags & FLAG.ack ? '.' : ''}`;
}

/** PSH says nothing about the protocol: scripts need not know where a stack sets it. */
function normal(letters: string): string {
  return [...letters.replace('P', '')].sort().join('');
}

function describeOptions(options: readonly TcpOption[]): string {
  const names = options
    .filter((option) => option.kind !== 'nop')
    .map((option) => (option.kind === 'mptcp' ? describeMptcp(option.option as unknown as Record<string, unknown>) : option.kind));
  return names.length === 0 ? '' : ` <${names.join(', ')}>`;
}

function describeMptcp(option: Record<string, unknown>): string {
  const fields = Object.entries(option).flatMap(([name, value]) => {
    if (name === 'subtype' || value === null || value === 0 || value instanceof Uint8Array)
      return value instanceof Uint8Array && (name === 'address' || name === 'hmac') ? [`${name} ${name === 'address' ? formatAddress(value) : 'given'}`] : [];
    if (typeof value === 'object' && 'low' in (value as object)) return [`${name} …${(((value as { low: number }).low >>> 0) & 0xffff).toString(16)}`];
    return [`${name} ${String(value)}`];
  });
  return [String(option['subtype']), ...fields].join(' ');
}

function describe(packet: Packet, iss = 0): string {
  const tcp = packet.tcp!;
  const seq = (tcp.seq - iss) | 0;
  return `${flagLetters(tcp.flags)} ${seq}:${seq + packet.payload.length}(${packet.payload.length}) ack ${(tcp.ack - SCRIPT_ISS) | 0} win ${tcp.window}${describeOptions(tcp.options)}`;
}

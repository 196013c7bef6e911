/** Plays a script against one host of ours in virtual time: the script is the network, the peer and the application. */
import { Agenda, EmulatedHost, Random } from '@subflow/emulator';
import { Host, keyMaterial, versionOf } from '@subflow/stack';
import type { Interface, KeyMaterial } from '@subflow/stack';
import { buildPacket, FLAG, ipHeader, isMalformed, parseAddress, parsePacketValue, PROTOCOL, sameAddress } from '@subflow/wire';
import type { MpCapable, Packet, TcpOption } from '@subflow/wire';
import { administer } from './administer.ts';
import { buildOption } from './build-option.ts';
import { Calls, compareOutcome } from './calls.ts';
import type { Attempt } from './calls.ts';
import { compareOption } from './compare-option.ts';
import { describe, describeOptions, flagBits, flagLetters, normal } from './describe.ts';
import { Ends, INTERFACES, PORT } from './ends.ts';
import type { Flow } from './ends.ts';
import { Symbols } from './keys.ts';
import { versionIn } from './option-context.ts';
import type { OptionContext } from './option-context.ts';
import { parseScript } from './parser.ts';
import { Mismatch, ScriptError } from './script.ts';
import type { Command, PacketSpec, Script, ScriptEvent } from './script.ts';
import { emptySetup } from './sysctls.ts';
import type { Setup } from './sysctls.ts';

const START = 1_000_000;
/** Sequence number at which the script's side starts; scripts count from 0. */
const SCRIPT_ISS = 0x10000;
/** How long a packet without a time may take. */
const ANY_TIME = 3600e6;

/** One line of what happened, for people. */
export interface TraceLine {
  time: number;
  direction: 'in' | 'out';
  text: string;
}

export interface DrillResult {
  name: string;
  passed: boolean;
  /** What went wrong: a stable code, the place, what was expected and what was seen. */
  failure: { code: ScriptError['code'] | Mismatch['code']; line: number; column: number; message: string } | null;
  events: number;
  trace: TraceLine[];
}

interface Sent {
  time: number;
  packet: Packet;
}

/** A system call that the script lets block for a while. */
interface Pending {
  event: ScriptEvent;
  attempt: Attempt;
  limit: number;
}

/** Parses and plays a script. Never throws: what is wrong is in the result. */
export function runDrill(name: string, source: string): DrillResult {
  let script: Script;
  try {
    script = parseScript(name, source);
  } catch (error) {
    if (!(error instanceof ScriptError)) throw error;
    return { name, passed: false, failure: { code: error.code, ...error.place, message: error.message }, events: 0, trace: [] };
  }
  return new Runner(script).run();
}

class Runner {
  private readonly agenda = new Agenda(START);
  private readonly symbols = new Symbols();
  private readonly script: Script;
  private readonly setup: Setup = emptySetup();
  private readonly ends: Ends;
  private readonly random = new Random(1);
  private host: Host | null = null;
  private node: EmulatedHost | null = null;
  private calls: Calls | null = null;
  private interfaces: Interface[] = [];
  private readonly sent: Sent[] = [];
  private readonly trace: TraceLine[] = [];
  private pending: Pending[] = [];
  private hostKey: KeyMaterial | null = null;
  private scriptKey: KeyMaterial | null = null;
  private lastTime = START;

  constructor(script: Script) {
    this.script = script;
    this.ends = new Ends(script.settings.family, script.events.some(opens));
  }

  run(): DrillResult {
    let events = 0;
    const { name } = this.script;
    let playing = this.script.events[0];
    try {
      for (const event of this.script.events) {
        playing = event;
        this.play(event);
        events++;
      }
      // What still blocks may go on to its own end.
      for (let next = this.pending[0]; next !== undefined; next = this.pending[0]) this.advance(next.limit + 1);
      return { name, passed: true, failure: null, events, trace: this.trace };
    } catch (error) {
      if (error instanceof ScriptError)
        return { name, passed: false, failure: { code: error.code, ...error.place, message: error.message }, events, trace: this.trace };
      if (!(error instanceof Mismatch)) throw error;
      const { place, text } = error.event ?? playing!;
      const message = `line ${place.line}: ${error.message}\n    ${text}`;
      return { name, passed: false, failure: { code: error.code, ...place, message }, events, trace: this.trace };
    }
  }

  private play(event: ScriptEvent): void {
    const { time } = event;
    const at = time.kind === 'absolute' ? START + time.at : time.kind === 'relative' ? this.lastTime + time.at : this.agenda.now;
    if (at < this.lastTime)
      throw new ScriptError('SCRIPT_SYNTAX', event.place, `${seconds(at)} is before the event above, at ${seconds(this.lastTime)}; expected a later time`);
    const until = time.until === null ? at : at + time.until - time.at;
    switch (event.type) {
      case 'command':
        this.advance(at);
        for (const command of event.commands) this.command(command);
        break;
      case 'call':
        this.start();
        this.advance(at);
        this.call(event, event.call, time.until === null ? null : until);
        break;
      case 'packet':
        this.start();
        if (event.packet.direction === 'out') this.expect(event.packet, time.kind === 'any' ? null : at, until);
        else {
          this.advance(at);
          this.inject(event.packet);
          this.poll();
        }
    }
    this.lastTime = (time.kind === 'any' ? this.agenda.now : at) + (event.type === 'command' ? sleepIn(event.commands) : 0);
  }

  /** Lets time pass. */
  private advance(time: number): void {
    while (this.step(time));
    this.agenda.runUntil(time);
    this.poll();
  }

  private step(limit: number): boolean {
    const stepped = this.agenda.step(limit);
    if (stepped) this.poll();
    return stepped;
  }

  /** Looks after the calls that block. */
  private poll(): void {
    if (this.pending.length === 0) return;
    this.pending = this.pending.filter(({ event, attempt, limit }) => {
      const outcome = attempt.again();
      if (outcome === null && this.agenda.now > limit) throw new Mismatch(`${attempt.spec.name} would still block`, 'DRILL_TIMEOUT', event);
      if (outcome !== null) blame(event, () => compareOutcome(attempt.spec, outcome));
      return outcome === null;
    });
  }

  /** `until`: other events may come while the call blocks. */
  private call(event: ScriptEvent, spec: Attempt['spec'], until: number | null): void {
    const attempt = this.calls!.begin(spec);
    const limit = (until ?? this.agenda.now) + this.script.settings.tolerance;
    if (attempt.outcome === null && until !== null) {
      this.pending.push({ event, attempt, limit });
      return;
    }
    while (attempt.again() === null && this.step(limit));
    if (attempt.outcome === null) throw new Mismatch(`${spec.name} would still block`, 'DRILL_TIMEOUT');
    compareOutcome(spec, attempt.outcome);
  }

  private command(command: Command): void {
    if (command.kind === 'sleep') this.advance(this.agenda.now + command.microseconds);
    else administer(command, { host: this.host, setup: this.setup, now: this.agenda.now, resolve: (address) => this.ends.resolve(address) });
    this.node?.pump();
  }

  /** Builds the host at the first event that needs it. */
  private start(): void {
    if (this.host !== null) return;
    const { setup, ends } = this;
    const { family, mtu } = this.script.settings;
    // The host's entropy is fixed: tokens and nonces are the same in every run.
    const host = new Host({ entropy: () => this.random.uint32(), tcp: setup.tcp, mptcp: setup.mptcp });
    host.setLimits(setup.limits, START);
    const node = new EmulatedHost('host', host, this.agenda);
    for (let i = 0; i < INTERFACES; i++) {
      const through = host.addInterface({ name: `if${i}`, mtu, addresses: [{ address: ends.local(i), bits: family === 6 ? 64 : 24 }] });
      host.addRoute(parseAddress(family === 6 ? '::' : '0.0.0.0'), 0, through);
      this.interfaces.push(through);
      node.attach(through, (packet) => {
        const parsed = parsePacketValue(packet);
        if (isMalformed(parsed) || parsed.tcp === null) throw new Mismatch('the host sent something that is not a TCP segment');
        this.sent.push({ time: this.agenda.now, packet: parsed });
      });
    }
    for (const endpoint of setup.endpoints) host.addEndpoint(endpoint);
    this.host = host;
    this.node = node;
    this.calls = new Calls(host, node, this.agenda, { remote: ends.remote(0), port: PORT, fastOpen: setup.fastOpen });
  }

  private context(flow: Flow, direction: 'in' | 'out', payload: Uint8Array): OptionContext {
    const fromScript = direction === 'in';
    const { ends } = this;
    return {
      symbols: this.symbols,
      sender: fromScript ? this.scriptKey : this.hostKey,
      receiver: fromScript ? this.hostKey : this.scriptKey,
      payload,
      flow: fromScript ? { senderNonce: flow.scriptNonce, receiverNonce: flow.hostNonce } : { senderNonce: flow.hostNonce, receiverNonce: flow.scriptNonce },
      timestampEcho: flow.hostTimestamp,
      acknowledged: fromScript ? (flow.hostIss ?? 0) : SCRIPT_ISS,
      resolve: (address) => ends.resolve(address),
    };
  }

  private inject(spec: PacketSpec): void {
    const flow = this.ends.incoming(spec);
    if (flow === null) throw new Mismatch('no connection between these ends yet');
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
        flags: flagBits(spec.flags),
        window: spec.window ?? 65535,
        checksum: 0,
        urgent: spec.urgent ?? 0,
        options,
      },
      payload,
    });
    const text = `${spec.flags} ${spec.seq}:${spec.seq + spec.length}(${spec.length})${describeOptions(options)}`;
    this.trace.push({ time: this.agenda.now - START, direction: 'in', text });
    this.node!.receive(through, packet, this.agenda.now);
  }

  /** The script's first key is the peer's; our HMACs and positions depend on it. */
  private learnScriptKey(option: MpCapable, context: OptionContext): void {
    if (option.senderKey === null || this.scriptKey !== null) return;
    this.scriptKey = keyMaterial(option.senderKey.high | 0, option.senderKey.low | 0, versionOf(this.symbols.version));
    context.sender = this.scriptKey;
  }

  private noteVersion(spec: PacketSpec): void {
    for (const option of spec.options ?? []) if (option.name === 'mp_capable') this.symbols.version = versionIn(option) === 0 ? 0 : 1;
  }

  private expect(spec: PacketSpec, at: number | null, until: number): void {
    const { tolerance } = this.script.settings;
    const limit = at === null ? this.agenda.now + ANY_TIME : until + tolerance;
    if (at !== null) this.advance(at);
    let found = this.take(spec);
    while (found === null && this.step(limit)) found = this.take(spec);
    if (found === null) {
      const other = this.sent[0];
      const bases = { script: SCRIPT_ISS, host: 0 };
      throw new Mismatch(other === undefined ? 'nothing was sent' : `instead there is: ${describe(other.packet, bases)}`, 'DRILL_TIMEOUT');
    }
    const { time, packet } = found;
    if (at !== null && (time < at - tolerance || time > until + tolerance))
      throw new Mismatch(`sent at ${seconds(time)} s, expected at ${seconds(at)} s`, 'DRILL_TIMEOUT');
    this.compare(spec, packet);
  }

  /** The oldest packet of the flow the script means, taken out of the queue. */
  private take(spec: PacketSpec): Sent | null {
    for (let i = 0; i < this.sent.length; i++) {
      const { packet } = this.sent[i]!;
      const flow = this.ends.outgoing(packet);
      if ((packet.tcp!.flags & FLAG.syn) !== 0) flow.hostIss = packet.tcp!.seq;
      if (this.ends.means(spec, flow)) return this.sent.splice(i, 1)[0]!;
    }
    return null;
  }

  private compare(spec: PacketSpec, packet: Packet): void {
    const tcp = packet.tcp!;
    const flow = this.ends.outgoing(packet);
    const bases = { script: SCRIPT_ISS, host: flow.hostIss ?? 0 };
    this.trace.push({ time: this.agenda.now - START, direction: 'out', text: describe(packet, bases) });
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
    if (spec.urgent !== null) same('urgent pointer', spec.urgent, tcp.urgent);
    this.noteVersion(spec);
    if (spec.options !== null) problems.push(...this.compareOptions(spec.options, packet, flow));
    if (problems.length > 0) throw new Mismatch(`${problems.join('; ')}\n    seen: ${describe(packet, bases)}`);
  }

  private compareOptions(specs: NonNullable<PacketSpec['options']>, packet: Packet, flow: Flow): string[] {
    const { options } = packet.tcp!;
    this.learnHostKey(options);
    const context = this.context(flow, 'out', packet.payload);
    const expected = specs.filter((option) => option.name !== 'nop' && option.name !== 'eol');
    const seen = options.filter((option) => option.kind !== 'nop' && option.kind !== 'end');
    const problems = expected.length === seen.length ? [] : [`number of options is ${seen.length}, expected ${expected.length}`];
    expected.forEach((option, i) => {
      const there = seen[i];
      const problem = there === undefined ? null : compareOption(option, there, context);
      if (problem !== null) problems.push(problem);
    });
    return problems;
  }

  private learnHostKey(options: readonly TcpOption[]): void {
    for (const option of options) {
      if (option.kind !== 'mptcp' || option.option.subtype !== 'capable' || option.option.senderKey === null) continue;
      const { high, low } = option.option.senderKey;
      this.hostKey = keyMaterial(high | 0, low | 0, versionOf(this.symbols.version));
    }
  }
}

/** Whether the host is the client: scripts name its own addresses then `caddr`. */
function opens(event: ScriptEvent): boolean {
  if (event.type !== 'call') return false;
  const { name, args } = event.call;
  return name === 'connect' || (name === 'sendto' && args.some((one) => one.kind === 'names' && one.names.includes('MSG_FASTOPEN')));
}

/** A mismatch found later is this event's. */
function blame(event: ScriptEvent, step: () => void): void {
  try {
    step();
  } catch (error) {
    throw error instanceof Mismatch ? new Mismatch(error.message, error.code, event) : error;
  }
}

function sleepIn(commands: readonly Command[]): number {
  return commands.reduce((total, command) => total + (command.kind === 'sleep' ? command.microseconds : 0), 0);
}

function seconds(time: number): string {
  return ((time - START) / 1e6).toFixed(6);
}

/** What a script says: one event after the other, each with its time and its place. */

/** Where something stands in a script, both from 1. */
export interface Place {
  line: number;
  column: number;
}

/** A mistake in a script, or something of the language that is not supported; names place, text and what was expected. */
export class ScriptError extends Error {
  readonly code: 'SCRIPT_SYNTAX' | 'SCRIPT_UNSUPPORTED';
  readonly place: Place;

  constructor(code: ScriptError['code'], place: Place, message: string) {
    super(`line ${place.line}:${place.column}: ${message}`);
    this.code = code;
    this.place = place;
  }
}

/** The stack did not do what the script says. */
export class Mismatch extends Error {
  readonly code: 'DRILL_MISMATCH' | 'DRILL_TIMEOUT';
  /** Whose expectation it is, when it is not the event being played: a call that was still blocked. */
  readonly event: ScriptEvent | null;

  constructor(message: string, code: Mismatch['code'] = 'DRILL_MISMATCH', event: ScriptEvent | null = null) {
    super(message);
    this.code = code;
    this.event = event;
  }
}

/** When an event happens, microseconds. `any`: whenever it comes. */
export interface Time {
  kind: 'relative' | 'absolute' | 'any';
  at: number;
  /** End of a range: a packet may come (`~`), or a blocking call return (`...`), until then. */
  until: number | null;
}

/** A value in an option: a number, a variable, a function of variables, an address or its name, or "auto". */
export type Expression = { place: Place } & (
  | { kind: 'number'; value: bigint }
  | { kind: 'variable'; name: string }
  | { kind: 'call'; name: string; args: Expression[] }
  | { kind: 'address'; text: string }
  | { kind: 'auto' }
  | { kind: 'sum'; parts: Expression[] }
);

export type OptionName =
  | 'nop'
  | 'eol'
  | 'mss'
  | 'wscale'
  | 'sackok'
  | 'ts'
  | 'sack'
  | 'fo'
  | 'mp_capable'
  | 'mp_join_syn'
  | 'mp_join_syn_ack'
  | 'mp_join_ack'
  | 'dss'
  | 'add_address'
  | 'remove_address'
  | 'mp_prio'
  | 'mp_fail'
  | 'mp_fastclose'
  | 'mp_reset';

/** One TCP option: everything in it has been understood, or the script was refused. */
export interface OptionSpec {
  name: OptionName;
  /** As it was spelled. */
  written: string;
  place: Place;
  words: Set<string>;
  /** `name=value`, `name[value, …]`, `name value`; what stands without a name is `value`. */
  fields: Map<string, Expression[]>;
  /** `key[ckey=2]`: variables defined on the way. */
  assigned: Map<string, bigint>;
  /** SACK: sequence numbers as the script counts them. */
  blocks: [number, number][];
  /** Fast Open: null asks for a cookie (and is not compared), `any` is whatever cookie the host gives. */
  cookie: Uint8Array | 'any' | null;
}

/** One end of a packet: a name or an address, and perhaps a port. */
export interface EndSpec {
  address: Expression & { kind: 'address' };
  port: number | null;
}

export interface PacketSpec {
  direction: 'in' | 'out';
  /** Null: the first pair. */
  ends: { from: EndSpec; to: EndSpec } | null;
  flags: string;
  seq: number;
  length: number;
  ack: number | null;
  window: number | null;
  urgent: number | null;
  /** Null: `<...>`, not looked at. */
  options: OptionSpec[] | null;
}

/** An argument of a system call. */
export type Value = { place: Place } &
  /** `...` */
  (
    | { kind: 'any' }
    | { kind: 'number'; value: number }
    /** `O_RDWR|O_NONBLOCK` */
    | { kind: 'names'; names: string[] }
    | { kind: 'list'; values: Value[] }
    | { kind: 'struct'; fields: Map<string, Value> }
    | { kind: 'text'; text: string }
    | { kind: 'call'; name: string; args: Value[] }
  );

export interface CallSpec {
  name: string;
  place: Place;
  args: Value[];
  /** Where the list of arguments ends. */
  end: Place;
  /** `any` (`...`), a number, or -1 with the name of the error, if it is given. */
  result: { kind: 'any' } | { kind: 'number'; value: number } | { kind: 'error'; name: string | null };
}

/** What a shell command asks for; nothing is ever executed. */
export type Command = { place: Place } & (
  | { kind: 'sysctl'; name: string; value: string }
  | { kind: 'endpoint-add'; address: Expression & { kind: 'address' }; id: number | null; port: number | null; flags: ReadonlySet<string> }
  | { kind: 'endpoint-delete'; id: number }
  | { kind: 'endpoint-change'; id: number; flag: 'backup' | 'fullmesh'; on: boolean }
  | { kind: 'endpoint-flush' }
  | { kind: 'limits'; subflows: number | null; accepted: number | null }
  | { kind: 'sleep'; microseconds: number }
  | { kind: 'nothing' }
);

/** What `--name=value` lines say. */
export interface Settings {
  /** How far from its time an event may be, microseconds. */
  tolerance: number;
  family: 4 | 6;
  /** Of every interface of the host. */
  mtu: number;
}

export type ScriptEvent = { place: Place; time: Time; text: string } & (
  | { type: 'packet'; packet: PacketSpec }
  | { type: 'call'; call: CallSpec }
  | { type: 'command'; commands: Command[] }
);

export interface Script {
  name: string;
  settings: Settings;
  events: ScriptEvent[];
}

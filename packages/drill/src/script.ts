/** What a script says: one event after the other, each with its time. */

/** A mistake in a script, or something of the language that is not supported; names file position and text. */
export class ScriptError extends Error {
  readonly code: 'SCRIPT_SYNTAX' | 'SCRIPT_UNSUPPORTED';
  readonly line: number;

  constructor(code: ScriptError['code'], line: number, message: string) {
    super(`line ${line}: ${message}`);
    this.code = code;
    this.line = line;
  }
}

/** The stack did not do what the script says. */
export class Mismatch extends Error {
  readonly code: 'DRILL_MISMATCH' | 'DRILL_TIMEOUT';

  constructor(message: string, code: Mismatch['code'] = 'DRILL_MISMATCH') {
    super(message);
    this.code = code;
  }
}

/** When an event happens, microseconds. `any`: whenever it comes. */
export interface Time {
  kind: 'relative' | 'absolute' | 'any';
  at: number;
  /** End of a range: the event may happen, or a blocking call return, until then. */
  until: number | null;
}

/** A value in an option: a number, a variable, a function of variables, or "auto". */
export type Expression =
  | { kind: 'number'; value: bigint }
  | { kind: 'variable'; name: string }
  | { kind: 'call'; name: string; args: Expression[] }
  | { kind: 'auto' }
  | { kind: 'sum'; parts: Expression[] };

/** One TCP option: name, bare words, and `name=value` or `name[value, …]` fields. */
export interface OptionSpec {
  name: string;
  words: string[];
  fields: Map<string, Expression[]>;
  /** `key[ckey=2]`: variables defined on the way. */
  assigned: Map<string, bigint>;
  line: number;
}

export interface PacketSpec {
  direction: 'in' | 'out';
  /** Names or addresses with optional port; null: the first pair. */
  from: string | null;
  to: string | null;
  flags: string;
  seq: number;
  length: number;
  ack: number | null;
  window: number | null;
  urgent: number | null;
  /** Null: `<...>`, not looked at. */
  options: OptionSpec[] | null;
}

export interface CallSpec {
  name: string;
  args: string[];
  /** The result as written: a number, `...`, or -1 with the error's name. */
  result: string;
  error: string | null;
}

export type ScriptEvent = { line: number; time: Time; text: string } & (
  | { type: 'packet'; packet: PacketSpec }
  | { type: 'call'; call: CallSpec }
  | { type: 'command'; command: string }
);

export interface Script {
  name: string;
  /** `--name=value` lines. */
  settings: Map<string, string>;
  events: ScriptEvent[];
}

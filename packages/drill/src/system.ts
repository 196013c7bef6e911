/** Shell commands of a script, as far as they are understood, as settings of the host under test; nothing is ever executed. */
import { proposal } from './proposal.ts';
import type { Scanner } from './scanner.ts';
import { ScriptError } from './script.ts';
import type { Command, Place } from './script.ts';
import { emptySetup, SYSCTLS } from './sysctls.ts';

const WORD = /(?:"[^"\n]*"|'[^'\n]*'|[^\s"'])+/y;

/** The commands that are understood: the first word (or the name of a script) and who reads the rest. */
const COMMANDS: Readonly<Record<string, (scanner: Scanner, place: Place) => Command[]>> = {
  sysctl: (scanner) => {
    while (scanner.take(/-[qw]+(?=\s)/y) !== null);
    return assignments(scanner, (name) => name);
  },
  // packetdrill's own helper takes the files of the settings.
  'set_sysctls.py': (scanner) => assignments(scanner, (name) => name.replace(/^\/proc\/sys\//, '').replaceAll('/', '.')),
  // The host begins with its defaults: that is what the helper of this name is for.
  'defaults.sh': (scanner, place) => {
    end(scanner, 'defaults.sh');
    return [{ kind: 'nothing', place }];
  },
  ip: (scanner, place) => {
    scanner.expect(/mptcp(?=\s)/y, 'mptcp after ip');
    return [ipMptcp(scanner, place)];
  },
  sleep: (scanner, place) => {
    const [text] = scanner.expect(/\d{1,6}(?:\.\d+)?(?=\s|$)|\.\d+(?=\s|$)/y, 'seconds after sleep, less than a million');
    end(scanner, 'sleep');
    return [{ kind: 'sleep', microseconds: Math.round(Number(text) * 1e6), place }];
  },
  true: (scanner, place) => {
    end(scanner, 'true');
    return [{ kind: 'nothing', place }];
  },
};

/** What stands between backticks: commands on lines of their own, or with `;` or `&&` between them. */
export function parseCommands(scanner: Scanner): Command[] {
  const place = scanner.skip().place();
  const from = scanner.at + 1;
  if (scanner.match(/`[^`]*`/y) === null) throw new ScriptError('SCRIPT_SYNTAX', place, 'a command without its end; expected a second backtick');
  const out: Command[] = [];
  const body = scanner.text.slice(from, scanner.at - 1);
  for (const { index, 1: piece } of body.matchAll(/&&|[\n;]|((?:"[^"\n]*"|'[^'\n]*'|[^\n;&]|&(?!&))+)/g)) {
    if (piece === undefined) continue;
    const part = scanner.part(from + index, from + index + piece.length);
    if (!part.ended && part.peek(/#/y) === null) out.push(...parseCommand(part));
  }
  return out;
}

function parseCommand(scanner: Scanner): Command[] {
  const place = scanner.place();
  const word = unquoted(scanner.expect(WORD, 'a command')[0]);
  const name = word.slice(word.lastIndexOf('/') + 1);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw new ScriptError('SCRIPT_UNSUPPORTED', place, `command "${word}"; ${proposal(name, Object.keys(COMMANDS))}`);
  return command(scanner, place);
}

function assignments(scanner: Scanner, nameOf: (written: string) => string): Command[] {
  const out: Command[] = [];
  do {
    const place = scanner.skip().place();
    const [, written, given] = scanner.expect(/["']?([\w./-]+)\s*=\s*("[^"\n]*"|'[^'\n]*'|[^\s"']+)["']?/y, 'name=value');
    const name = nameOf(written!);
    const sysctl = Object.hasOwn(SYSCTLS, name) ? SYSCTLS[name]! : undefined;
    if (sysctl === undefined) throw new ScriptError('SCRIPT_UNSUPPORTED', place, `sysctl ${name}; ${proposal(name, Object.keys(SYSCTLS))}`);
    const value = unquoted(given!);
    if (!sysctl.take(value, emptySetup())) throw new ScriptError('SCRIPT_UNSUPPORTED', place, `sysctl ${name}=${value}; expected ${sysctl.expected}`);
    out.push({ kind: 'sysctl', name, value, place });
  } while (!scanner.ended);
  return out;
}

const ENDPOINT_FLAGS = ['subflow', 'signal', 'backup', 'fullmesh', 'laminar'];
/** Flags that can be changed, as `ip mptcp endpoint change` takes them. */
const CHANGES: Readonly<Record<string, { flag: 'backup' | 'fullmesh'; on: boolean }>> = {
  backup: { flag: 'backup', on: true },
  nobackup: { flag: 'backup', on: false },
  fullmesh: { flag: 'fullmesh', on: true },
  nofullmesh: { flag: 'fullmesh', on: false },
};

function ipMptcp(scanner: Scanner, place: Place): Command {
  const what = keyword(scanner, ['endpoint', 'limits']);
  if (what === 'limits') return limits(scanner, place);
  switch (keyword(scanner, ['add', 'delete', 'change', 'flush'])) {
    case 'add':
      return endpointAdd(scanner, place);
    case 'delete': {
      keyword(scanner, ['id']);
      const id = number(scanner, 'an id', 255);
      end(scanner, 'the id');
      return { kind: 'endpoint-delete', id, place };
    }
    case 'change': {
      keyword(scanner, ['id']);
      const id = number(scanner, 'an id', 255);
      const change = CHANGES[keyword(scanner, Object.keys(CHANGES))]!;
      end(scanner, 'the flag');
      return { kind: 'endpoint-change', id, ...change, place };
    }
    default:
      end(scanner, 'flush');
      return { kind: 'endpoint-flush', place };
  }
}

function endpointAdd(scanner: Scanner, place: Place): Command {
  const at = scanner.skip().place();
  const [text] = scanner.expect(/[\w.:]+/y, 'an address, or a name such as caddr1');
  const flags = new Set<string>();
  const numbers = { id: null as number | null, port: null as number | null };
  while (!scanner.ended) {
    const word = keyword(scanner, [...ENDPOINT_FLAGS, 'id', 'port']);
    if (word === 'id') numbers.id = number(scanner, 'an id', 255);
    else if (word === 'port') numbers.port = number(scanner, 'a port', 65_535);
    else flags.add(word);
  }
  return { kind: 'endpoint-add', address: { kind: 'address', text, place: at }, ...numbers, flags, place };
}

function limits(scanner: Scanner, place: Place): Command {
  keyword(scanner, ['set']);
  const out = { kind: 'limits' as const, subflows: null as number | null, accepted: null as number | null, place };
  do {
    if (keyword(scanner, ['subflows', 'subflow', 'add_addr_accepted']) === 'add_addr_accepted') out.accepted = number(scanner, 'a number', 8);
    else out.subflows = number(scanner, 'a number', 8);
  } while (!scanner.ended);
  return out;
}

function keyword(scanner: Scanner, known: readonly string[]): string {
  const place = scanner.skip().place();
  const word = scanner.expect(WORD, known.join(', '))[0];
  if (!known.includes(word)) throw new ScriptError('SCRIPT_UNSUPPORTED', place, `"${word}"; ${proposal(word, known)}`);
  return word;
}

function number(scanner: Scanner, expected: string, most: number): number {
  const place = scanner.skip().place();
  const value = Number(scanner.expect(/\d+(?=\s|$)/y, expected)[0]);
  if (value > most) throw new ScriptError('SCRIPT_SYNTAX', place, `${value}; expected ${expected}, at most ${most}`);
  return value;
}

function end(scanner: Scanner, after: string): void {
  if (!scanner.ended) scanner.fail(`nothing more after ${after}`);
}

function unquoted(text: string): string {
  return text.replace(/^(["'])(.*)\1$/, '$2');
}

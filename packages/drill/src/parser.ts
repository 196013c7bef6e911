/** The packetdrill language, as far as it is understood (docs/drill.md lists what that is); everything else is refused with its place. */
import { parseCall } from './parse-call.ts';
import { parsePacket } from './parse-packet.ts';
import { Scanner } from './scanner.ts';
import { ScriptError } from './script.ts';
import type { Script, ScriptEvent, Time } from './script.ts';
import { defaultSettings, takeSetting } from './settings.ts';
import { parseCommands } from './system.ts';

/** Clocks count microseconds exactly far beyond; nobody waits longer. */
const MOST_SECONDS = 1e6;
// A dot before another one belongs to an ellipsis.
const TIME = /(\+?)(\d+(?:\.(?!\.)\d*)?|\.\d+)/y;

/** Throws {@link ScriptError}. */
export function parseScript(name: string, source: string): Script {
  const scanner = Scanner.of(source);
  const settings = defaultSettings();
  const events: ScriptEvent[] = [];
  while (!scanner.ended) {
    const place = scanner.place();
    if (scanner.peek(/--/y) === null) events.push(parseEvent(scanner));
    else if (events.length === 0) takeSetting(scanner, settings);
    else throw new ScriptError('SCRIPT_SYNTAX', place, 'a setting below the first event; expected settings at the beginning of the script');
  }
  if (events.length === 0) scanner.fail('an event, such as +0 < S 0:0(0) win 65535');
  return { name, settings, events };
}

function parseEvent(scanner: Scanner): ScriptEvent {
  const place = scanner.skip().place();
  const from = scanner.at;
  // A command may stand without a time, as scripts begin with.
  const { time, mark } = scanner.peek(/`/y) === null ? parseTime(scanner) : AT_ONCE;
  const body = parseBody(scanner);
  // Only what waits has a range: `~` a packet that is expected, `...` a system call that may block.
  if (mark !== null && !(mark === '~' ? body.type === 'packet' && body.packet.direction === 'out' : body.type === 'call'))
    throw new ScriptError(
      'SCRIPT_SYNTAX',
      place,
      `a range with ${mark}; expected it before ${mark === '~' ? 'a packet that the host sends' : 'a system call'}`,
    );
  return { place, time, text: scanner.text.slice(from, scanner.at).replace(/\s+/g, ' ').trim(), ...body };
}

type Body = ScriptEvent extends infer Event ? (Event extends ScriptEvent ? Omit<Event, 'place' | 'time' | 'text'> : never) : never;

function parseBody(scanner: Scanner): Body {
  switch (scanner.peek(/[<>`]|%\{|[A-Za-z_]/y)?.[0]) {
    case '<':
    case '>':
      return { type: 'packet', packet: parsePacket(scanner) };
    case '`':
      return { type: 'command', commands: parseCommands(scanner) };
    case '%{':
      throw new ScriptError('SCRIPT_UNSUPPORTED', scanner.place(), 'code blocks; expected a packet, a system call or a command');
    case undefined:
      return scanner.fail('a packet (< or >), a system call or a command in backticks');
    default:
      return { type: 'call', call: parseCall(scanner) };
  }
}

interface TimeSpec {
  time: Time;
  mark: string | null;
}

const AT_ONCE: TimeSpec = { time: { kind: 'relative', at: 0, until: null }, mark: null };

function parseTime(scanner: Scanner): TimeSpec {
  if (scanner.take(/\*/y) !== null) return { time: { kind: 'any', at: 0, until: null }, mark: null };
  const { relative, at } = parseNumber(scanner, 'a time, such as +0.1, of the next event');
  const kind = relative ? 'relative' : 'absolute';
  const mark = scanner.take(/~|\.\.\./y);
  if (mark === null) return { time: { kind, at, until: null }, mark };
  const place = scanner.skip().place();
  const until = parseNumber(scanner, 'the end of the range, such as 0.2').at;
  if (until < at) throw new ScriptError('SCRIPT_SYNTAX', place, `a range that ends before it begins; expected ${at / 1e6} or later`);
  return { time: { kind, at, until }, mark };
}

/** Microseconds. */
function parseNumber(scanner: Scanner, expected: string): { relative: boolean; at: number } {
  const place = scanner.skip().place();
  const [, plus, text] = scanner.expect(TIME, expected);
  if (Number(text) > MOST_SECONDS) throw new ScriptError('SCRIPT_SYNTAX', place, `${text} s; expected at most ${MOST_SECONDS}`);
  return { relative: plus === '+', at: Math.round(Number(text) * 1e6) };
}

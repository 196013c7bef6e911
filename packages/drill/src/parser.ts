/** The packetdrill language, as far as the public Multipath TCP scripts use it (docs/drill.md lists what that is). */
import { ScriptError } from './script.ts';
import type { CallSpec, Expression, OptionSpec, PacketSpec, Script, ScriptEvent, Time } from './script.ts';

const TIME = /^(\*|[+]?\d+(?:\.\d*)?|[+]?\.\d+)(?:(~|\.\.\.)([+]?\d*\.?\d+))?\s*/;
const STARTS_EVENT = /^(?:[+]?\d+(?:\.\d*)?(?:(?:~|\.\.\.)[+]?[\d.]+)?\s+|[+]?\.\d+\s+|\*\s+)/;

export function parseScript(name: string, source: string): Script {
  const settings = new Map<string, string>();
  const events: ScriptEvent[] = [];
  for (const { text, line } of statements(source)) {
    if (text.startsWith('--')) {
      const [key, value] = text.slice(2).split('=');
      settings.set(key!.trim(), (value ?? '').trim());
    } else if (text.startsWith('`')) {
      events.push({ line, time: { kind: 'relative', at: 0, until: null }, text, type: 'command', command: text.replace(/^`|`$/g, '').trim() });
    } else {
      events.push(parseEvent(text, line));
    }
  }
  return { name, settings, events };
}

/** Lines without comments; what does not begin with a time, a setting or a command goes on from the line before. */
function statements(source: string): { text: string; line: number }[] {
  const bare = source.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' '));
  const out: { text: string; line: number }[] = [];
  let inCommand = false;
  bare.split('\n').forEach((raw, i) => {
    const text = raw
      .replace(/(^|\s)\/\/.*$/, '')
      .replace(/^\s*#.*$/, '')
      .trim();
    if (text === '') return;
    const previous = out[out.length - 1];
    if (inCommand) {
      previous!.text += `\n${text}`;
      inCommand = !text.endsWith('`');
      return;
    }
    if (text.startsWith('`')) {
      out.push({ text, line: i + 1 });
      inCommand = text.length === 1 || !text.endsWith('`');
      return;
    }
    if (text.startsWith('--') || STARTS_EVENT.test(text) || previous === undefined) out.push({ text, line: i + 1 });
    else previous.text += ` ${text}`;
  });
  return out;
}

function parseEvent(text: string, line: number): ScriptEvent {
  const match = TIME.exec(text);
  if (match === null) throw new ScriptError('SCRIPT_SYNTAX', line, `"${text}" does not begin with a time, such as +0.1`);
  const time = parseTime(match);
  const rest = text.slice(match[0].length).trim();
  if (rest.startsWith('`')) return { line, time, text, type: 'command', command: rest.replace(/^`|`$/g, '').trim() };
  if (rest.startsWith('<') || rest.startsWith('>')) return { line, time, text, type: 'packet', packet: parsePacket(rest, line) };
  return { line, time, text, type: 'call', call: parseCall(rest, line) };
}

function parseTime(match: RegExpExecArray): Time {
  const written = match[1]!;
  if (written === '*') return { kind: 'any', at: 0, until: null };
  const microseconds = (value: string): number => Math.round(Number(value.replace('+', '')) * 1e6);
  return { kind: written.startsWith('+') ? 'relative' : 'absolute', at: microseconds(written), until: match[3] === undefined ? null : microseconds(match[3]) };
}

const PACKET =
  /^([<>])\s*(?:(addr\[[^\]]+\](?::\d+)?|[\w.:]+:\d+)\s*>\s*(addr\[[^\]]+\](?::\d+)?|[\w.:]+:\d+)\s+)?([SFRPWEU.]+)\s+(\d+):(\d+)\s*\((\d+)\)\s*(?:ack\s+(\d+)\s*)?(?:win\s+(\d+)\s*)?(?:urg\s+(\d+)\s*)?(?:<([\s\S]*)>)?$/;

function parsePacket(text: string, line: number): PacketSpec {
  const match = PACKET.exec(text);
  if (match === null) throw new ScriptError('SCRIPT_SYNTAX', line, `"${text}" is no packet; expected for example "< S 0:0(0) win 65535 <mss 1460>"`);
  const [, arrow, from, to, flags, seq, end, length, ack, window, urgent, options] = match;
  if (Number(seq) + Number(length) !== Number(end)) throw new ScriptError('SCRIPT_SYNTAX', line, `${seq}:${end}(${length}): the end must be start plus length`);
  return {
    direction: arrow === '<' ? 'in' : 'out',
    from: from ?? null,
    to: to ?? null,
    flags: flags!,
    seq: Number(seq),
    length: Number(length),
    ack: ack === undefined ? null : Number(ack),
    window: window === undefined ? null : Number(window),
    urgent: urgent === undefined ? null : Number(urgent),
    options:
      options === undefined
        ? []
        : options.trim() === '...'
          ? null
          : splitTop(options, ',')
              .filter((one) => one !== '')
              .map((one) => parseOption(one, line)),
  };
}

/** Splits at a separator that stands outside brackets. */
export function splitTop(text: string, separator: string): string[] {
  const out: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i]!;
    if (c === '[' || c === '(' || c === '{') depth++;
    else if (c === ']' || c === ')' || c === '}') depth--;
    else if (c === separator && depth === 0) {
      out.push(text.slice(start, i).trim());
      start = i + 1;
    }
  }
  out.push(text.slice(start).trim());
  return out;
}

function parseOption(text: string, line: number): OptionSpec {
  const spec: OptionSpec = { name: '', words: [], fields: new Map(), assigned: new Map(), line };
  // Spaces around "=" and before "[" are a matter of taste.
  const tokens = words(text.replace(/\s*=\s*/g, '=').replace(/\s+\[/g, '['));
  spec.name = tokens.shift() ?? '';
  for (const token of tokens) {
    const bracket = /^(\w+)=?\[([\s\S]*)\]$/.exec(token);
    const equals = /^(\w+)=([\s\S]+)$/.exec(token);
    if (bracket !== null) {
      const parts = splitTop(bracket[2]!, ',').filter((part) => part !== '');
      spec.fields.set(
        bracket[1]!,
        parts.map((part) => {
          const assignment = /^(\w+)=(\w+)$/.exec(part);
          if (assignment === null) return parseExpression(part, line);
          spec.assigned.set(assignment[1]!, BigInt(assignment[2]!));
          return { kind: 'variable', name: assignment[1]! };
        }),
      );
    } else if (equals !== null) {
      spec.fields.set(equals[1]!, [parseExpression(equals[2]!, line)]);
    } else {
      spec.words.push(token);
    }
  }
  return spec;
}

function words(text: string): string[] {
  return splitTop(text.replace(/\s+/g, ' '), ' ').filter((word) => word !== '');
}

export function parseExpression(text: string, line: number): Expression {
  const sum = splitTop(text, '+').filter((part) => part !== '');
  if (sum.length > 1) return { kind: 'sum', parts: sum.map((part) => parseExpression(part, line)) };
  if (text === 'auto') return { kind: 'auto' };
  if (/^(0x[0-9a-fA-F]+|\d+)$/.test(text)) return { kind: 'number', value: BigInt(text) };
  const call = /^(\w+)\(([\s\S]*)\)$/.exec(text);
  if (call !== null)
    return {
      kind: 'call',
      name: call[1]!,
      args: splitTop(call[2]!, ',')
        .filter((part) => part !== '')
        .map((part) => parseExpression(part, line)),
    };
  if (/^[a-zA-Z_][\w.:]*$/.test(text) || /^[\d.]+$/.test(text) || /^[\da-fA-F:.]+$/.test(text)) return { kind: 'variable', name: text };
  throw new ScriptError('SCRIPT_SYNTAX', line, `"${text}" is no value; expected a number, a variable, a function or auto`);
}

function parseCall(text: string, line: number): CallSpec {
  const open = text.indexOf('(');
  let depth = 0;
  let close = -1;
  for (let i = open; i >= 0 && i < text.length; i++) {
    if (text[i] === '(') depth++;
    else if (text[i] === ')' && --depth === 0) {
      close = i;
      break;
    }
  }
  const result = close < 0 ? null : /^\s*=\s*(-?\w+|\.\.\.)\s*(\w+)?\s*(\([^)]*\))?\s*$/.exec(text.slice(close + 1));
  if (open < 0 || close < 0 || result === null)
    throw new ScriptError('SCRIPT_SYNTAX', line, `"${text}" is neither packet nor call; expected for example "read(4, ..., 100) = 100"`);
  return {
    name: text.slice(0, open).trim(),
    args: splitTop(text.slice(open + 1, close), ',').filter((arg) => arg !== ''),
    result: result[1]!,
    error: result[2] ?? null,
  };
}

/** `name(argument, …) = result`. */
import { ERROR_NAMES } from './errno.ts';
import { proposal } from './proposal.ts';
import type { Scanner } from './scanner.ts';
import { ScriptError } from './script.ts';
import type { CallSpec, Value } from './script.ts';

/** How deep values may lie in one another. */
const DEEPEST = 8;

export function parseCall(scanner: Scanner): CallSpec {
  const place = scanner.skip().place();
  const name = scanner.expect(/\w+/y, 'a system call')[0];
  scanner.expect(/\(/y, `the arguments of ${name}, such as ${name}(3, ...) = 0`);
  const { values: args, end } = list(scanner, /\)/y, ')', 0);
  scanner.expect(/=/y, `= and the result of ${name}`);
  return { name, place, args, end, result: parseResult(scanner) };
}

function parseResult(scanner: Scanner): CallSpec['result'] {
  if (scanner.take(/\.\.\./y) !== null) return { kind: 'any' };
  if (scanner.take(/-1\b/y) === null) {
    const value = Number(scanner.expect(/0x[0-9a-fA-F]+|\d+/y, 'a number, -1 with the name of an error, or ...')[0]);
    remark(scanner);
    return { kind: 'number', value };
  }
  const place = scanner.skip().place();
  const name = scanner.take(/[A-Za-z]\w*/y);
  if (name !== null && !ERROR_NAMES.has(name)) throw new ScriptError('SCRIPT_SYNTAX', place, `error "${name}"; ${proposal(name, [...ERROR_NAMES])}`);
  remark(scanner);
  return { kind: 'error', name: name === 'EWOULDBLOCK' ? 'EAGAIN' : name };
}

/** `(Connection refused)`, as strace adds it. */
function remark(scanner: Scanner): void {
  if (scanner.peek(/\(/y) !== null) scanner.expect(/\([^()\n]*\)/y, 'a remark in brackets');
}

function list(scanner: Scanner, end: RegExp, mark: string, depth: number): { values: Value[]; end: Value['place'] } {
  const values: Value[] = [];
  for (;;) {
    const place = scanner.skip().place();
    if (values.length === 0 && scanner.take(end) !== null) return { values, end: place };
    values.push(parseValue(scanner, depth));
    const after = scanner.skip().place();
    if (scanner.take(end) !== null) return { values, end: after };
    scanner.expect(/,/y, `, or ${mark}`);
  }
}

function parseValue(scanner: Scanner, depth: number): Value {
  const place = scanner.skip().place();
  if (depth > DEEPEST) throw new ScriptError('SCRIPT_SYNTAX', place, `more than ${DEEPEST} brackets in one another`);
  if (scanner.take(/\.\.\./y) !== null) return { kind: 'any', place };
  if (scanner.take(/\[/y) !== null) return { kind: 'list', values: list(scanner, /\]/y, ']', depth + 1).values, place };
  if (scanner.take(/\{/y) !== null) return { kind: 'struct', fields: struct(scanner, depth + 1), place };
  const text = scanner.match(/"((?:[^"\\\n]|\\.)*)"/y);
  if (text !== null) return { kind: 'text', text: text[1]!, place };
  const call = scanner.match(/([A-Za-z_]\w*)\s*\(/y);
  if (call !== null) return { kind: 'call', name: call[1]!, args: list(scanner, /\)/y, ')', depth + 1).values, place };
  const names = scanner.match(/[A-Za-z_]\w*(?:\s*\|\s*[A-Za-z_]\w*)*/y);
  if (names !== null) return { kind: 'names', names: names[0].split('|').map((one) => one.trim()), place };
  return { kind: 'number', value: Number(scanner.expect(/-?(?:0x[0-9a-fA-F]+|\d+)\b/y, 'an argument: ..., a number, a name, [ ], { } or a string')[0]), place };
}

function struct(scanner: Scanner, depth: number): Map<string, Value> {
  const fields = new Map<string, Value>();
  while (scanner.take(/\}/y) === null) {
    if (fields.size > 0) scanner.expect(/,/y, ', or }');
    const place = scanner.skip().place();
    const [, name] = scanner.expect(/\.?([A-Za-z_]\w*)\s*=/y, 'name = value');
    if (fields.has(name!)) throw new ScriptError('SCRIPT_SYNTAX', place, `${name} is there twice`);
    fields.set(name!, parseValue(scanner, depth));
  }
  return fields;
}

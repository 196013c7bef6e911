/** Values in options: numbers, variables, functions, sums, addresses. */
import type { Scanner } from './scanner.ts';
import { ScriptError } from './script.ts';
import type { Expression } from './script.ts';

/** How deep functions may lie in one another. */
const DEEPEST = 8;

/** A value; `address`: the name of one, or one as it is written. */
export function parseExpression(scanner: Scanner, what: 'value' | 'address' = 'value', depth = 0): Expression {
  const place = scanner.skip().place();
  if (what === 'address') {
    const text = scanner.expect(/[\w.:]+/y, 'a name such as saddr0, or an address')[0];
    return { kind: 'address', text, place };
  }
  if (depth > DEEPEST) throw new ScriptError('SCRIPT_SYNTAX', place, `more than ${DEEPEST} functions in one another`);
  const parts = [parseTerm(scanner, depth)];
  while (scanner.take(/\+/y) !== null) parts.push(parseTerm(scanner, depth));
  return parts.length === 1 ? parts[0]! : { kind: 'sum', parts, place };
}

function parseTerm(scanner: Scanner, depth: number): Expression {
  const place = scanner.skip().place();
  const number = scanner.take(/0x[0-9a-fA-F]{1,40}(?!\w)|\d{1,20}(?!\w)/y);
  if (number !== null) return { kind: 'number', value: BigInt(number), place };
  const call = scanner.match(/([A-Za-z_]\w*)\s*\(/y);
  if (call !== null) {
    const args = [parseExpression(scanner, 'value', depth + 1)];
    while (scanner.take(/,/y) !== null) args.push(parseExpression(scanner, 'value', depth + 1));
    scanner.expect(/\)/y, ', or )');
    return { kind: 'call', name: call[1]!, args, place };
  }
  const [name] = scanner.expect(/[A-Za-z_]\w*/y, 'a number, a variable, a function or auto');
  return name === 'auto' ? { kind: 'auto', place } : { kind: 'variable', name, place };
}

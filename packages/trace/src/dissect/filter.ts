/**
 * Display filters in Wireshark's language (wireshark-filter(4)) over the fields of `fields.ts`: comparisons, sets,
 * slices, functions, bitwise and, `contains`, `matches`. As there, `==` asks whether any value of a field is equal, `!=`
 * whether all differ.
 */
import { AddressError, inPrefix, parseAddress, parsePrefix } from '@subflow/wire';
import { TraceError } from '../errors.ts';
import { FIELDS, nearestField } from './fields.ts';
import { tokenize } from './filter-tokens.ts';
import type { Token } from './filter-tokens.ts';
import type { DissectedPacket } from './packet.ts';
import type { Field, FieldType, Value } from './values.ts';
import { hexOf } from './values.ts';

/** Whether a packet passes. */
export type Filter = (packet: DissectedPacket) => boolean;

type Operand =
  | { kind: 'field'; field: Field; token: Token; values: (packet: DissectedPacket) => readonly Value[] }
  | { kind: 'computed'; type: FieldType; token: Token; values: (packet: DissectedPacket) => readonly Value[] }
  | { kind: 'literal'; token: Token };

const COMPARISONS: Record<string, string> = {
  '==': '==',
  eq: '==',
  any_eq: '==',
  '===': '===',
  all_eq: '===',
  '!=': '!=',
  ne: '!=',
  all_ne: '!=',
  '!==': '!==',
  '~=': '!==',
  any_ne: '!==',
  '>': '>',
  gt: '>',
  '<': '<',
  lt: '<',
  '>=': '>=',
  ge: '>=',
  '<=': '<=',
  le: '<=',
  contains: 'contains',
  matches: 'matches',
  '~': 'matches',
};
const NUMBERS: ReadonlySet<FieldType> = new Set<FieldType>(['uint', 'hex', 'uint64', 'boolean', 'number', 'time']);

/** Compiles a filter. Throws {@link TraceError} `BAD_FILTER`, pointing at the column. */
export function compileFilter(text: string): Filter {
  return new Parser(text).parse();
}

class Parser {
  private readonly text: string;
  private readonly tokens: Token[];
  private at = 0;

  constructor(text: string) {
    this.text = text;
    this.tokens = tokenize(text, (column, message) => this.fail(column, message));
  }

  parse(): Filter {
    if (this.tokens.length === 0) this.fail(0, 'the filter is empty; expected a field such as tcp.options.mptcp.subtype');
    const filter = this.either();
    const rest = this.tokens[this.at];
    if (rest !== undefined) this.fail(rest.column, `"${rest.text}" is not expected here; expected && or || or the end`);
    return filter;
  }

  private either(): Filter {
    let left = this.exclusive();
    while (this.accept('||', 'or')) {
      const a = left;
      const b = this.exclusive();
      left = (packet) => a(packet) || b(packet);
    }
    return left;
  }

  private exclusive(): Filter {
    let left = this.both();
    while (this.accept('^^', 'xor')) {
      const a = left;
      const b = this.both();
      left = (packet) => a(packet) !== b(packet);
    }
    return left;
  }

  private both(): Filter {
    let left = this.negated();
    while (this.accept('&&', 'and')) {
      const a = left;
      const b = this.negated();
      left = (packet) => a(packet) && b(packet);
    }
    return left;
  }

  private negated(): Filter {
    if (this.accept('!', 'not')) {
      const inner = this.negated();
      return (packet) => !inner(packet);
    }
    if (this.peek()?.text === '(' && this.peek()?.kind === 'sign') {
      this.at++;
      const inner = this.either();
      this.expect(')');
      return inner;
    }
    return this.test();
  }

  private test(): Filter {
    const left = this.operand();
    const next = this.peek();
    if (next?.kind === 'word' && next.text === 'in') {
      this.at++;
      return this.membership(left);
    }
    const operator = next === undefined || next.kind === 'string' ? undefined : COMPARISONS[next.text];
    if (operator === undefined) {
      if (left.kind === 'literal') this.unknownField(left.token);
      // `tcp.flags & 2` alone asks for any bit.
      if (left.kind === 'computed') return (packet) => left.values(packet).some((value) => value !== 0 && value !== 0n && value !== false);
      return (packet) => left.values(packet).length > 0;
    }
    this.at++;
    const right = this.operand();
    if (left.kind === 'literal' && right.kind === 'literal') this.unknownField(left.token);
    // A range of comparisons: 1 < tcp.len <= 5.
    if (left.kind === 'literal') {
      const first = this.compare(right as Exclude<Operand, { kind: 'literal' }>, FLIPPED[operator] ?? operator, left, next!);
      const more = this.peek();
      const second = more === undefined ? undefined : COMPARISONS[more.text];
      if (second === undefined) return first;
      this.at++;
      const last = this.compare(right as Exclude<Operand, { kind: 'literal' }>, second, this.operand(), more!);
      return (packet) => first(packet) && last(packet);
    }
    return this.compare(left, operator, right, next!);
  }

  private membership(left: Operand): Filter {
    if (left.kind === 'literal') this.unknownField(left.token);
    this.expect('{');
    const tests: ((value: Value) => boolean)[] = [];
    while (!this.accept('}')) {
      const first = this.literal();
      if (this.accept('..')) {
        const low = this.order(left, first);
        const high = this.order(left, this.literal());
        tests.push((value) => low(value) >= 0 && high(value) <= 0);
      } else {
        tests.push(this.equal(left, first));
      }
      if (this.peek()?.text === ',') this.at++;
      if (this.peek() === undefined) this.fail(this.text.length, 'the set does not end; expected }');
    }
    return (packet) => left.values(packet).some((value) => tests.some((test) => test(value)));
  }

  private compare(left: Exclude<Operand, { kind: 'literal' }>, operator: string, right: Operand, at: Token): Filter {
    if (right.kind !== 'literal') return this.compareFields(left, operator, right, at);
    const { token } = right;
    const { values } = left;
    switch (operator) {
      case '==': {
        const equal = this.equal(left, token);
        return (packet) => values(packet).some(equal);
      }
      case '===': {
        const equal = this.equal(left, token);
        return (packet) => values(packet).length > 0 && values(packet).every(equal);
      }
      case '!=': {
        const equal = this.equal(left, token);
        return (packet) => values(packet).length > 0 && !values(packet).some(equal);
      }
      case '!==': {
        const equal = this.equal(left, token);
        return (packet) => values(packet).some((value) => !equal(value));
      }
      case 'contains': {
        const wanted = token.kind === 'string' ? utf8Hex(token.text) : token.text.replaceAll(/[:.-]/g, '').toLowerCase();
        return (packet) => values(packet).some((value) => hexIn(value instanceof Uint8Array ? hexOf(value) : utf8Hex(String(value)), wanted));
      }
      case 'matches': {
        if (typeOf(left) !== 'string' && typeOf(left) !== 'bytes') this.fail(at.column, `"matches" needs text or bytes, ${nameOf(left)} is ${typeOf(left)}`);
        let pattern: RegExp;
        try {
          pattern = new RegExp(token.text, 'i');
        } catch (error) {
          return this.fail(token.column, `"${token.text}" is not a regular expression: ${(error as Error).message}`);
        }
        return (packet) => values(packet).some((value) => pattern.test(value instanceof Uint8Array ? String.fromCharCode(...value) : String(value)));
      }
      default: {
        const order = this.order(left, token);
        const holds = HOLDS[operator]!;
        return (packet) => values(packet).some((value) => holds(order(value)));
      }
    }
  }

  private compareFields(left: Exclude<Operand, { kind: 'literal' }>, operator: string, right: Exclude<Operand, { kind: 'literal' }>, at: Token): Filter {
    const numeric = NUMBERS.has(typeOf(left));
    if (numeric !== NUMBERS.has(typeOf(right)))
      this.fail(at.column, `${nameOf(left)} (${typeOf(left)}) cannot be compared with ${nameOf(right)} (${typeOf(right)})`);
    const comparable = (value: Value): string | bigint | number => (value instanceof Uint8Array ? hexOf(value) : numeric ? asNumber(value) : String(value));
    const equal = (packet: DissectedPacket): boolean =>
      left.values(packet).some((a) => right.values(packet).some((b) => comparable(a) === comparable(b) || Number(comparable(a)) === Number(comparable(b))));
    if (operator === '==' || operator === '===') return equal;
    if (operator === '!=' || operator === '!==') return (packet) => left.values(packet).length > 0 && right.values(packet).length > 0 && !equal(packet);
    const holds = HOLDS[operator];
    if (holds === undefined) return this.fail(at.column, `"${at.text}" needs a value on its right, not a field`);
    return (packet) =>
      left.values(packet).some((a) => right.values(packet).some((b) => holds(comparable(a) < comparable(b) ? -1 : comparable(a) > comparable(b) ? 1 : 0)));
  }

  /** A test for equality with a literal, of the type that the field has. */
  private equal(left: Operand, token: Token): (value: Value) => boolean {
    const type = typeOf(left);
    switch (type) {
      case 'ipv4':
      case 'ipv6':
        return this.address(type, token);
      case 'ether':
      case 'bytes': {
        const wanted = this.bytes(token);
        return (value) => value instanceof Uint8Array && hexOf(value) === wanted;
      }
      case 'string':
        return (value) => value === token.text;
      case 'none':
      case 'protocol':
        return this.fail(token.column, `${nameOf(left)} has no value to compare; ask for it alone`);
      default: {
        const order = this.order(left, token);
        return (value) => order(value) === 0;
      }
    }
  }

  /** A comparison of a value with a literal: below 0, 0 or above. */
  private order(left: Operand, token: Token): (value: Value) => number {
    const type = typeOf(left);
    if (type === 'ipv4' || type === 'ipv6') {
      const wanted = hexOf(this.plainAddress(token));
      return (value) => (hexOf(value as Uint8Array) < wanted ? -1 : hexOf(value as Uint8Array) > wanted ? 1 : 0);
    }
    if (type === 'string') return (value) => (String(value) < token.text ? -1 : String(value) > token.text ? 1 : 0);
    if (!NUMBERS.has(type)) return this.fail(token.column, `${nameOf(left)} is ${type}: it has no order`);
    const wanted = this.number(left, token);
    return (value) => {
      const have = asNumber(value);
      return have < wanted ? -1 : have > wanted ? 1 : 0;
    };
  }

  private number(left: Operand, token: Token): number | bigint {
    const text = token.text.toLowerCase();
    if (typeOf(left) === 'boolean' && (text === 'true' || text === 'false')) return text === 'true' ? 1 : 0;
    if (token.kind === 'word' && /^-?(0x[0-9a-f]+|\d+(\.\d+)?)$/.test(text)) {
      if (text.includes('.')) return Number(text);
      const octal = /^0[0-7]+$/.test(text);
      const whole = BigInt(octal ? `0o${text.slice(1)}` : text);
      return whole <= 0x1fffffffffffffn ? Number(whole) : whole;
    }
    return this.fail(token.column, `"${token.text}" is not a number; ${nameOf(left)} is compared with a number such as 0x02 or 80`);
  }

  private address(type: 'ipv4' | 'ipv6', token: Token): (value: Value) => boolean {
    if (!token.text.includes('/')) {
      const wanted = hexOf(this.plainAddress(token, type));
      return (value) => hexOf(value as Uint8Array) === wanted;
    }
    try {
      const { address, bits } = parsePrefix(token.text);
      if ((address.length === 4) === (type === 'ipv4')) return (value) => inPrefix(value as Uint8Array, address, bits);
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
    }
    return this.fail(
      token.column,
      `"${token.text}" is not an ${type === 'ipv4' ? 'IPv4' : 'IPv6'} prefix, such as ${type === 'ipv4' ? '192.0.2.0/24' : '2001:db8::/32'}`,
    );
  }

  private plainAddress(token: Token, type?: 'ipv4' | 'ipv6'): Uint8Array {
    try {
      const address = parseAddress(token.text);
      if (type === undefined || (address.length === 4) === (type === 'ipv4')) return address;
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
    }
    return this.fail(token.column, `"${token.text}" is not an ${type === 'ipv6' ? 'IPv6' : 'IPv4'} address`);
  }

  private bytes(token: Token): string {
    if (token.kind === 'string') return utf8Hex(token.text);
    const text = token.text.replace(/^0x/, '').replaceAll(/[:.-]/g, '').toLowerCase();
    if (/^([0-9a-f]{2})+$/.test(text)) return text;
    return this.fail(token.column, `"${token.text}" is not a row of bytes, such as 00:1b:2c`);
  }

  private operand(): Operand {
    const token = this.next('a field or a value');
    let operand: Operand;
    if (token.kind === 'word' && this.peek()?.text === '(' && token.text in FUNCTIONS) {
      operand = this.call(token);
    } else if (token.kind === 'word' && FIELDS.has(token.text)) {
      const field = FIELDS.get(token.text)!;
      operand = { kind: 'field', field, token, values: (packet) => packet.of(field.name) };
    } else if (token.kind === 'word' && /^[a-z_]\w*\.[\w.]*[a-z_]/i.test(token.text) && !/^[0-9a-f]{1,4}:/i.test(token.text)) {
      return this.unknownField(token);
    } else {
      if (token.kind === 'sign') this.fail(token.column, `"${token.text}" is not expected here; expected a field or a value`);
      operand = { kind: 'literal', token };
    }
    if (operand.kind !== 'literal' && this.peek()?.text === '[') operand = this.slice(operand);
    if (operand.kind !== 'literal' && (this.peek()?.text === '&' || this.peek()?.text === 'bitand' || this.peek()?.text === 'bitwise_and'))
      operand = this.masked(operand);
    return operand;
  }

  private call(name: Token): Operand {
    this.expect('(');
    const argument = this.operand();
    if (argument.kind === 'literal') return this.unknownField(argument.token);
    this.expect(')');
    const { type, apply } = FUNCTIONS[name.text]!;
    const { values } = argument;
    return { kind: 'computed', type: type ?? typeOf(argument), token: name, values: (packet) => apply(values(packet)) };
  }

  private slice(operand: Exclude<Operand, { kind: 'literal' }>): Operand {
    this.expect('[');
    const token = this.next('a range such as 0:4');
    // i, i:length, i-end, :length, i: (wireshark-filter(4), "The slice operator").
    let text = token.text;
    while (this.peek() !== undefined && this.peek()!.text !== ']') text += this.next(']').text;
    this.expect(']');
    const match = /^(-?\d*)(?:([:-])(\d*))?$/.exec(text);
    if (match === null || text === '') this.fail(token.column, `"${text}" is not a range of bytes; expected such as 0:4, 2-3 or 5`);
    const start = match![1] === '' ? 0 : Number(match![1]);
    const [, , sign, last] = match!;
    const { values } = operand;
    return {
      kind: 'computed',
      type: 'bytes',
      token: operand.token,
      values: (packet) =>
        values(packet).map((value) => {
          const bytes = value instanceof Uint8Array ? value : Uint8Array.from(String(value), (character) => character.charCodeAt(0));
          const from = start < 0 ? Math.max(0, bytes.length + start) : start;
          if (sign === undefined) return bytes.slice(from, from + 1);
          if (last === '') return bytes.slice(from);
          return sign === ':' ? bytes.slice(from, from + Number(last)) : bytes.slice(from, Number(last) + 1);
        }),
    };
  }

  private masked(operand: Exclude<Operand, { kind: 'literal' }>): Operand {
    this.at++;
    const token = this.literal();
    if (!NUMBERS.has(typeOf(operand))) this.fail(token.column, `${nameOf(operand)} is ${typeOf(operand)}: & needs a number`);
    const mask = BigInt(this.number(operand, token));
    const { values } = operand;
    return {
      kind: 'computed',
      type: 'uint64',
      token: operand.token,
      values: (packet) => values(packet).map((value) => BigInt(asNumber(value)) & mask),
    };
  }

  private literal(): Token {
    const token = this.next('a value');
    if (token.kind === 'sign') this.fail(token.column, `"${token.text}" is not expected here; expected a value`);
    return token;
  }

  private peek(): Token | undefined {
    return this.tokens[this.at];
  }

  private next(expected: string): Token {
    const token = this.tokens[this.at++];
    if (token === undefined) return this.fail(this.text.length, `the filter ends where ${expected} is expected`);
    return token;
  }

  private accept(...texts: string[]): boolean {
    const token = this.peek();
    if (token === undefined || token.kind === 'string' || !texts.includes(token.text)) return false;
    this.at++;
    return true;
  }

  private expect(text: string): void {
    if (this.accept(text)) return;
    const token = this.peek();
    this.fail(token?.column ?? this.text.length, `expected "${text}"${token === undefined ? '' : `, found "${token.text}"`}`);
  }

  private unknownField(token: Token): never {
    const near = nearestField(token.text);
    return this.fail(token.column, `"${token.text}" is not a field${near === null ? '; `subflow trace fields` lists them' : `; did you mean ${near}?`}`);
  }

  private fail(column: number, message: string): never {
    throw new TraceError('BAD_FILTER', `column ${column + 1}: ${message}\n  ${this.text}\n  ${' '.repeat(column)}^`);
  }
}

const FLIPPED: Record<string, string> = { '<': '>', '>': '<', '<=': '>=', '>=': '<=' };
const HOLDS: Record<string, (order: number) => boolean> = {
  '>': (order) => order > 0,
  '<': (order) => order < 0,
  '>=': (order) => order >= 0,
  '<=': (order) => order <= 0,
};

const FUNCTIONS: Record<string, { type: FieldType | null; apply: (values: readonly Value[]) => readonly Value[] }> = {
  len: { type: 'uint', apply: (values) => values.map((value) => (value instanceof Uint8Array ? value.length : String(value).length)) },
  count: { type: 'uint', apply: (values) => [values.length] },
  upper: { type: null, apply: (values) => values.map((value) => String(value).toUpperCase()) },
  lower: { type: null, apply: (values) => values.map((value) => String(value).toLowerCase()) },
  abs: { type: null, apply: (values) => values.map((value) => (asNumber(value) < 0 ? -asNumber(value) : value)) },
  max: { type: null, apply: (values) => (values.length === 0 ? [] : [values.reduce((a, b) => (asNumber(b) > asNumber(a) ? b : a))]) },
  min: { type: null, apply: (values) => (values.length === 0 ? [] : [values.reduce((a, b) => (asNumber(b) < asNumber(a) ? b : a))]) },
};

function asNumber(value: Value): number | bigint {
  if (typeof value === 'number' || typeof value === 'bigint') return value;
  return Number(value);
}

function typeOf(operand: Operand): FieldType {
  return operand.kind === 'field' ? operand.field.type : operand.kind === 'computed' ? operand.type : 'string';
}

function nameOf(operand: Operand): string {
  return operand.kind === 'field' ? operand.field.name : operand.token.text;
}

function utf8Hex(text: string): string {
  return hexOf(new TextEncoder().encode(text));
}

/** Whether a row of bytes holds another, at a whole byte. */
function hexIn(hex: string, wanted: string): boolean {
  for (let at = hex.indexOf(wanted); at >= 0; at = hex.indexOf(wanted, at + 1)) if (at % 2 === 0) return true;
  return false;
}
